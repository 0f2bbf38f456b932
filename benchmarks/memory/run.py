"""What one update holds in memory, and what each way of holding less costs in CPU time.

    python benchmarks/memory/run.py --output memory.json

Every case runs in a process of its own, on one thread: its memory is the most that the process had
during the update, less what it had with weights and gradients before. The weights are random: of a
model with the shape of SmolLM2-135M, and of output layers alone. Linux only.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from llm_gym.files.atomic import write_json
from llm_gym.policy import chunked_likelihood
from llm_gym.policy.chunked_likelihood import log_prob_and_entropy_of_hidden
from llm_gym.policy.sampling import log_prob_and_entropy

EPISODES, PROMPT, ANSWER = 16, 32, 64
TOKENS = EPISODES * ANSWER
SHAPE = {
    "vocab_size": 49_152, "hidden_size": 576, "intermediate_size": 1536, "num_hidden_layers": 30,
    "num_attention_heads": 9, "num_key_value_heads": 3, "tie_word_embeddings": True,
    "max_position_embeddings": 256, "bos_token_id": None, "eos_token_id": 1, "pad_token_id": 0,
}  # fmt: skip
HEADS = {"49k": (49_152, 576), "152k": (151_936, 896)}

#: By name: whether logits are in chunks, and options of the policy.
UPDATES: dict[str, tuple[bool, dict[str, Any]]] = {
    "all logits at once": (False, {}),
    "logits in chunks": (True, {}),
    "gradient_checkpointing": (True, {"gradient_checkpointing": True}),
    "micro_batch_size=4": (True, {"micro_batch_size": 4}),
    "both": (True, {"micro_batch_size": 4, "gradient_checkpointing": True}),
}


def memory(name: str) -> float:
    """Memory of this process in MB: now (VmRSS), or the most since that was forgotten (VmHWM)."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith(name))


def measured(update: Callable[[], None]) -> dict[str, float]:
    """Memory and CPU time of an update, which is done once."""
    Path("/proc/self/clear_refs").write_text("5")  # forgets the most so far
    before, started = memory("VmRSS"), time.process_time()
    update()
    return {
        "mb": round(memory("VmHWM") - before),
        "cpu_seconds": round(time.process_time() - started, 2),
    }


def of_head(size: str, kind: str, chunked: bool) -> dict[str, float]:
    """`TOKENS` tokens under an output layer, forward and backward.

    Args:
        size: A key of `HEADS`.
        kind: "trained" or "frozen".
        chunked: Whether in chunks.
    """
    n_tokens, width = HEADS[size]
    linear = torch.nn.Linear(width, n_tokens, bias=False).requires_grad_(kind == "trained")
    if kind == "trained":
        linear.weight.grad = torch.zeros_like(linear.weight)
    head: Any = _Head(linear)
    hidden = torch.randn(TOKENS, width, requires_grad=True)
    actions = torch.randint(n_tokens, (TOKENS,))

    def update() -> None:
        if chunked:
            log_prob, _ = log_prob_and_entropy_of_hidden(hidden, head, actions)
        else:
            log_prob, _ = log_prob_and_entropy(linear(hidden), actions)
        log_prob.sum().backward()

    return measured(update)


class _Head:
    """As much of a `LanguageModelHead` as is needed, without a model below."""

    def __init__(self, linear: torch.nn.Linear) -> None:
        self.plain_linear, self.n_tokens = linear, linear.out_features

    def __call__(self, hidden: torch.Tensor) -> torch.Tensor:
        return self.plain_linear(hidden)

    def finish(self, logits: torch.Tensor) -> torch.Tensor:
        return logits

    def slope(self, logits: torch.Tensor) -> float:
        return 1.0


def of_update(name: str) -> dict[str, float]:
    """One policy-gradient step of the whole model, without the optimizer's."""
    import numpy as np
    from gymnasium import spaces
    from transformers import LlamaConfig, LlamaForCausalLM

    from llm_gym.policy import EpisodeBatch, TransformerActorCriticPolicy

    chunked, options = UPDATES[name]
    if not chunked:
        chunked_likelihood.WHOLE_BYTES = 2**60
        chunked_likelihood.tokens_at_once = lambda n_rows, device: 2**60
    length = PROMPT + ANSWER
    space = spaces.Dict(
        {
            key: spaces.Box(0, SHAPE["vocab_size"] - 1, (length,), np.int64)
            for key in ("input_ids", "attention_mask", "completion_mask")
        }
    )
    with tempfile.TemporaryDirectory() as directory:
        LlamaForCausalLM(LlamaConfig(**SHAPE)).save_pretrained(directory)
        policy = TransformerActorCriticPolicy(
            space,
            spaces.Discrete(SHAPE["vocab_size"]),
            lambda _: 1e-5,
            directory,
            prefix_cache=False,
            shared_prompts=False,
            **options,
        )
    for parameter in policy.parameters():
        parameter.grad = torch.zeros_like(parameter)
    rows = torch.arange(EPISODES).repeat_interleave(ANSWER)
    slots = torch.arange(PROMPT, length).repeat(EPISODES)
    batch = EpisodeBatch(torch.randint(SHAPE["vocab_size"], (EPISODES, length)), rows, slots)

    def update() -> None:
        for part, _ in batch.split(policy.micro_batch_size or EPISODES):
            _, log_prob, _ = policy.evaluate_actions(part, part.actions)
            (log_prob.sum() / len(rows)).backward()

    return measured(update)


def cases() -> dict[str, Callable[[], dict[str, float]]]:
    """Everything that is measured, by name."""
    heads = {
        f"{size} tokens, {kind}, {'chunks' if chunked else 'whole'}": (
            lambda size=size, kind=kind, chunked=chunked: of_head(size, kind, chunked)
        )
        for size in HEADS
        for kind in ("trained", "frozen")
        for chunked in (False, True)
    }
    return heads | {name: lambda name=name: of_update(name) for name in UPDATES}


def main() -> None:
    """Measures every case in a process of its own, or the one that is named in this one."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--output", type=Path, help="file for the figures")
    parser.add_argument("--case", help="measure this one, here")
    options = parser.parse_args()
    if options.case:
        torch.set_num_threads(1)
        torch.manual_seed(0)
        print(json.dumps(cases()[options.case]()))
        return
    results = {}
    for name in cases():
        command = [sys.executable, __file__, "--case", name]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        results[name] = json.loads(done.stdout.splitlines()[-1])
        print(
            f"{name:34} {results[name]['mb']:6} MB {results[name]['cpu_seconds']:7} s", flush=True
        )
    if options.output:
        write_json(options.output, results)


if __name__ == "__main__":
    main()
