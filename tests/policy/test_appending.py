"""Several tokens put behind a row at once decode as a plain pass says, whatever the others do."""

from __future__ import annotations

import random
import warnings

import pytest
import torch

from llm_gym.language_models.architecture import decoder_of
from llm_gym.language_models.packing import pad
from llm_gym.policy import appending
from llm_gym.policy.trunk import Trunk
from llm_gym.testing.tiny import ARCHITECTURES, tiny_model

CAPACITY = 40


def grow(rng, rows, by):
    """Rows with so many tokens more; a growth of None begins anew."""
    new = lambda n: [rng.randrange(32) for _ in range(n)]  # noqa: E731
    return [
        new(rng.randrange(1, 6)) if n is None else [*row, *new(n)]
        for row, n in zip(rows, by, strict=True)
    ]


def observed(rows):
    """Ids `(N, CAPACITY)` and lengths; what is behind a row is no part of it."""
    ids = torch.full((len(rows), CAPACITY), 3)
    for i, row in enumerate(rows):
        ids[i, : len(row)] = torch.tensor(row)
    return ids, torch.tensor([len(row) for row in rows])


def compare(trunk, rows):
    ids, lengths = observed(rows)
    found = trunk.last_hidden(ids, lengths)
    expected = trunk.full(pad(rows))[torch.arange(len(rows)), lengths - 1]
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-5)


def passes_of(trunk):
    passes = []
    trunk.decoder.register_forward_pre_hook(
        lambda _, __, kwargs: passes.append(tuple(kwargs["input_ids"].shape)), with_kwargs=True
    )
    return passes


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@torch.no_grad()
def test_ragged_growth_decodes_as_plain_passes_say(architecture):
    """Windows are six tokens wide: rows grow up to them, across them and beyond."""
    trunk = Trunk(decoder_of(tiny_model(architecture)))
    rng = random.Random(0)
    rows = grow(rng, [[]] * 5, [None] * 5)
    compare(trunk, rows)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for _ in range(12):
            by = [rng.choice([0, 1, 1, 2, 3, 5, 9, None]) for _ in rows]
            by = [
                n if n is None or len(row) + n <= CAPACITY else None
                for row, n in zip(rows, by, strict=True)
            ]
            rows = grow(rng, rows, by)
            compare(trunk, rows)


@torch.no_grad()
def test_only_what_is_new_is_read_of_rows_that_grew():
    trunk = Trunk(decoder_of(tiny_model("llama")))
    passes = passes_of(trunk)
    rng = random.Random(0)
    rows = grow(rng, [[]] * 4, [5, 6, 7, 8])
    trunk.last_hidden(*observed(rows))
    rows = grow(rng, rows, [3, 1, 0, 2])
    trunk.last_hidden(*observed(rows))
    assert passes[1:3] == [(4, 1), (2, 3)]  # one token each, then three of two rows
    asked = passes[3:]
    assert asked == [(2, 10)]  # the first time, a plain pass to compare with
    rows = grow(rng, rows, [0, 4, 0, 0])
    trunk.last_hidden(*observed(rows))
    assert passes[4:] == [(1, 4)]


@torch.no_grad()
def test_a_row_with_fewer_tokens_than_another_grew_by_begins_anew():
    trunk = Trunk(decoder_of(tiny_model("gpt2")))
    rng = random.Random(0)
    rows = grow(rng, [[]] * 3, [1, 12, 2])
    compare(trunk, rows)
    rows = grow(rng, rows, [2, 11, 3])
    compare(trunk, rows)


@torch.no_grad()
def test_a_model_that_reads_them_otherwise_is_found_out(monkeypatch):
    """Then rows are read from their beginning, and a warning says so, once."""
    trunk = Trunk(decoder_of(tiny_model("llama")))
    monkeypatch.setattr(trunk, "_explicit", lambda allowed, back: None)
    rng = random.Random(0)
    rows = grow(rng, [[]] * 2, [4, 4])
    compare(trunk, rows)
    rows = grow(rng, rows, [3, 2])
    with pytest.warns(UserWarning, match="models of type 'llama' cannot read several new tokens"):
        compare(trunk, rows)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        compare(trunk, grow(rng, rows, [3, 2]))


@torch.no_grad()
def test_the_model_is_asked_again_beyond_each_window(monkeypatch):
    asked = []
    agrees = appending.Appending.agrees
    monkeypatch.setattr(
        appending.Appending,
        "agrees",
        lambda self, trunk, ids, *rest: (
            asked.append(len(self._asked)) or agrees(self, trunk, ids, *rest)
        ),
    )
    trunk = Trunk(decoder_of(tiny_model("mistral")))
    rng = random.Random(0)
    rows = grow(rng, [[]], [2])
    compare(trunk, rows)
    for n in (2, 2, 2, 2):  # the window is six
        rows = grow(rng, rows, [n])
        compare(trunk, rows)
    assert asked == [0, 1, 1, 2]
    assert len(trunk._appending._asked) == 2
