from __future__ import annotations

import random

import numpy as np
import pytest
import torch
from gymnasium import spaces

from llm_gym.policy import TransformerActorCriticPolicy

LENGTH, VOCABULARY = 24, 32
# One of each kind of positions, windows and groups of heads.
DIFFERENT = ("bloom", "gemma2", "gpt2", "llama", "mistral", "opt")


def text_space(length: int = LENGTH, vocabulary: int = VOCABULARY) -> spaces.Dict:
    return spaces.Dict(
        input_ids=spaces.Box(0, vocabulary - 1, (length,), np.int64),
        attention_mask=spaces.Box(0, 1, (length,), np.int8),
        completion_mask=spaces.Box(0, 1, (length,), np.int8),
    )


@pytest.fixture
def make_policy(tiny_dir):
    """Builds a policy on a tiny model, with a value head that is not zero."""

    def make(architecture="gpt2", *, length=LENGTH, config=None, zero_value=False, **kwargs):
        kwargs.setdefault("seed", 0)
        policy = TransformerActorCriticPolicy(
            text_space(length),
            spaces.Discrete(VOCABULARY),
            lambda _: 1e-3,
            model=tiny_dir(architecture, **(config or {})),
            **kwargs,
        )
        if not zero_value:
            torch.nn.init.normal_(policy.value_head.weight, generator=torch.manual_seed(1), std=0.1)
        return policy

    return make


def observe(rows: list[list[int]], length: int = LENGTH, pad: int = 0) -> dict[str, torch.Tensor]:
    """Observations with these tokens."""
    ids = torch.full((len(rows), length), pad)
    mask = torch.zeros(len(rows), length, dtype=torch.int8)
    for i, row in enumerate(rows):
        ids[i, : len(row)] = torch.tensor(row)
        mask[i, : len(row)] = 1
    return {"input_ids": ids, "attention_mask": mask, "completion_mask": torch.zeros_like(mask)}


def play(seed: int, n_rows: int = 4, n_steps: int = 40):
    """Rows of tokens as environments show them: growing by one, now and then starting anew."""
    rng = random.Random(seed)

    def fresh() -> list[int]:
        return [rng.randrange(VOCABULARY) for _ in range(rng.randint(1, 6))]

    rows = [fresh() for _ in range(n_rows)]
    for _ in range(n_steps):
        yield rows
        rows = [
            fresh()
            if len(row) + 1 >= LENGTH or rng.random() < 0.1
            else [*row, rng.randrange(VOCABULARY)]
            for row in rows
        ]


def tokens_read(policy, monkeypatch) -> list[tuple[int, int]]:
    """Rows and columns of each batch that the model of a policy (GPT-2's) reads from now on."""
    read: list[tuple[int, int]] = []
    forward = policy.model.transformer.forward

    def spy(**kwargs):
        read.append(tuple(kwargs["input_ids"].shape))
        return forward(**kwargs)

    monkeypatch.setattr(policy.model.transformer, "forward", spy)
    return read


def naive_log_probs(model, row: list[int]) -> torch.Tensor:
    """Log-probabilities of the next token after `row`, by the model's own plain forward pass."""
    with torch.no_grad():
        return model(input_ids=torch.tensor([row])).logits[0, -1].log_softmax(-1)


def evaluated(policy, batch):
    """What `evaluate_actions` gives, and the elements that it keeps for its backward pass.

    The weights do not count.
    """
    kept = []
    own = {p.data_ptr() for p in policy.parameters()}

    def keep(tensor):
        if tensor.data_ptr() not in own:
            kept.append(tensor.numel())
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        evaluation = policy.evaluate_actions(batch, batch.actions)
    return evaluation, sum(kept)
