"""Does `torch.compile` pay? The model of workload W, as it is and compiled, in turns.

What is timed is the transformer alone, where compiling could help most: the forward and backward
pass of a minibatch, whose shape changes from one to the next, and decoding with a cache of fixed
size. A compiler of C++ is needed on a CPU.

    python benchmarks/throughput/compiled.py --output runs/compiled          (6 minutes on one core)
    python benchmarks/throughput/compiled.py --output runs/compiled --quick
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import torch
from transformers import GPT2LMHeadModel, StaticCache

from benchmarks.common import median_with_interval, record
from benchmarks.workload import Workload, build_model
from llm_gym.files.atomic import write_json

SHAPES = ((8, 80), (8, 64), (7, 72), (9, 56), (6, 80))  # rows and tokens of minibatches


class Decoding:
    """Steps of decoding, one token a row, with keys and values in a cache of fixed size."""

    def __init__(self, model: GPT2LMHeadModel, forward: Callable[..., Any], w: Workload) -> None:
        self.model, self.forward, self.w = model, forward, w

    @torch.no_grad()
    def __call__(self) -> None:
        w = self.w
        cache = StaticCache(self.model.config, max_cache_len=w.length)
        ids = torch.zeros(w.episodes, 1, dtype=torch.int64)
        for step in range(w.new_tokens):
            position = torch.tensor([[w.prompt_tokens + step]])
            mask = (torch.arange(w.length) <= position)[None, None].expand(w.episodes, 1, 1, -1)
            self.forward(
                input_ids=ids,
                past_key_values=cache,
                position_ids=position,
                attention_mask=mask,
                use_cache=True,
            )


class Updates:
    """Forward and backward passes of minibatches of different shapes."""

    def __init__(self, model: GPT2LMHeadModel, forward: Callable[..., Any], w: Workload) -> None:
        self.model, self.forward, self.w = model, forward, w

    def __call__(self) -> None:
        for rows, tokens in SHAPES:
            ids = torch.arange(rows * tokens).view(rows, tokens) % self.w.vocabulary
            self.forward(input_ids=ids, use_cache=False).logits.mean().backward()
        self.model.zero_grad(set_to_none=True)


def seconds(work: Callable[[], None]) -> float:
    """CPU seconds of a piece of work."""
    begun = time.process_time()
    work()
    return time.process_time() - begun


def compared(kind: type[Decoding] | type[Updates], w: Workload, rounds: int) -> dict[str, Any]:
    """CPU seconds as it is and compiled, their ratio, and what compiling itself takes."""
    model = build_model(w)
    torch._dynamo.reset()
    compiled = torch.compile(model.forward, dynamic=kind is Updates)
    plain, fast = kind(model, model.forward, w), kind(model, compiled, w)
    plain()
    begun = time.perf_counter()
    first = seconds(fast)
    wall = time.perf_counter() - begun
    fast()
    pairs = [(seconds(plain), seconds(fast)) for _ in range(rounds)]
    return {
        "plain": median_with_interval([one for one, _ in pairs]),
        "compiled": median_with_interval([two for _, two in pairs]),
        "ratio": median_with_interval([two / one for one, two in pairs]),
        "compiling": {"cpu_seconds": first, "wall_seconds": wall},
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--output", type=Path, required=True, metavar="DIR")
    parser.add_argument("--quick", action="store_true", help="a tiny model, two rounds")
    parser.add_argument("--rounds", type=int, help="in turns (9, or 2 with --quick)")
    options = parser.parse_args()
    torch.set_num_threads(1)
    small = {"layers": 1, "width": 32, "heads": 2, "vocabulary": 128} if options.quick else {}
    workload = Workload(**small)
    rounds = options.rounds or (2 if options.quick else 9)
    results = record({"quick": options.quick, "rounds": rounds, "workload": workload.as_dict()})
    for name, kind in (("updates", Updates), ("decoding", Decoding)):
        results[name] = found = compared(kind, workload, rounds)
        ratio = found["ratio"]
        print(
            f"{name}: {found['plain']['median']:.3f} CPU s as it is, "
            f"{found['compiled']['median']:.3f} compiled: {ratio['median']:.2f} "
            f"[{ratio['low']:.2f}, {ratio['high']:.2f}] of it; compiling "
            f"{found['compiling']['wall_seconds']:.0f} s",
            flush=True,
        )
    options.output.mkdir(parents=True, exist_ok=True)
    write_json(options.output / "results.json", results)


if __name__ == "__main__":
    main()
