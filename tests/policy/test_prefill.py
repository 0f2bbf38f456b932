"""Rows that start with equal contents are read once, and decode as rows of their own would."""

from __future__ import annotations

import pytest
import torch

from llm_gym.language_models.architecture import decoder_of
from llm_gym.language_models.packing import pad
from llm_gym.policy.trunk import Trunk
from llm_gym.testing.tiny import tiny_model

CAPACITY = 20
A, B = [5, 6, 7, 8, 9], [5, 6, 7]

STEPS = [
    [A, A, B, A, B, [4]],
    [[*A, 1], [*A, 1], [*B, 2], [*A, 3], [*B, 2], [4, 4]],
    # grown, anew, unchanged, anew and equal to another, grown, anew
    [[*A, 1, 2], B, [*B, 2], B, [*B, 2, 9], A],
    [[*A, 1, 2], [*B, 1], A, A, [*B, 2, 9, 9], A],
    [A, A, A, A, A, A],
    [[*A, row] for row in range(6)],
]


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("architecture", ["gpt2", "llama", "mistral"])
@torch.no_grad()
def test_equal_rows_decode_as_plain_passes_say(architecture, dtype):
    trunk = Trunk(decoder_of(tiny_model(architecture).to(dtype)))
    for rows in STEPS:
        ids = torch.full((len(rows), CAPACITY), 3)  # what is behind a row is no part of it
        lengths = torch.tensor([len(row) for row in rows])
        for i, row in enumerate(rows):
            ids[i, : len(row)] = torch.tensor(row)
        found = trunk.last_hidden(ids, lengths)
        full = trunk.full(pad(rows))
        expected = full[torch.arange(len(rows)), lengths - 1]
        torch.testing.assert_close(found, expected, rtol=0, atol=2e-5)


@pytest.mark.parametrize("architecture", ["gpt2", "llama"])
@torch.no_grad()
def test_what_is_equal_is_read_once_whatever_is_behind_it(architecture):
    trunk = Trunk(decoder_of(tiny_model(architecture)))
    passes: list[tuple[int, ...]] = []
    trunk.decoder.register_forward_pre_hook(
        lambda _, __, kwargs: passes.append(tuple(kwargs["input_ids"].shape)), with_kwargs=True
    )
    ids = pad([[*A, 1], [*A, 2], [*A, 3], [4, 4, 7], [4, 4, 9], [4, 4, 0]])
    found = trunk.last_hidden(ids, torch.tensor([5, 5, 5, 2, 2, 3]))
    assert passes == [(3, 5)]
    assert torch.equal(found[3], found[4])
    assert not torch.equal(found[4], found[5])
    assert torch.equal(found[0], found[1])
    assert torch.equal(found[1], found[2])
    trunk.last_hidden(ids, torch.tensor([6, 6, 6, 2, 2, 3]))
    assert passes[1:] == [(6, 1)]
    trunk.last_hidden(pad([[*A, 1], B, B, [4, 4], [4, 4], B]), torch.tensor([6, 3, 3, 2, 2, 3]))
    assert passes[2:] == [(1, 3)]
