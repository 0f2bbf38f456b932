"""Rows of different lengths in a few passes: the cheapest ones, and the numbers of one pass."""

from __future__ import annotations

import random

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from llm_gym.language_models.architecture import decoder_of
from llm_gym.language_models.packing import pack
from llm_gym.policy import EpisodeBatch
from llm_gym.policy.buckets import buckets, passes, price_of_a_pass
from llm_gym.policy.packed_rows import PackedRows
from llm_gym.policy.trunk import Trunk
from llm_gym.testing.tiny import tiny_model
from tests.policy.test_shared_prompts import apart, counted, hidden_and_gradients

LENGTHS = st.lists(st.integers(0, 9), min_size=1, max_size=7).map(np.array)


def cost(lengths, parts, price: int) -> int:
    return sum(len(part) * max(lengths[i] for i in part) + price for part in parts)


def partitions(items: list[int]):
    """Every way to put items into groups."""
    if not items:
        yield []
        return
    first, *others = items
    for rest in partitions(others):
        yield [[first], *rest]
        for i, group in enumerate(rest):
            yield [*rest[:i], [first, *group], *rest[i + 1 :]]


@given(LENGTHS, st.integers(0, 12))
def test_no_other_way_to_split_rows_costs_less(lengths, price):
    parts = buckets(lengths, price)
    read = [i for i, length in enumerate(lengths) if length]
    assert sorted(i for part in parts for i in part) == read
    every = partitions(read)
    assert cost(lengths, parts, price) == min(cost(lengths, each, price) for each in every)


def test_rows_of_one_length_are_one_pass_in_their_own_order():
    (only,) = buckets(np.full(50, 7), 1)
    assert only.tolist() == list(range(50))


def test_rows_of_a_pass_are_in_their_own_order():
    first, second = buckets(np.array([3, 90, 2, 91, 4]), 10)
    assert (first.tolist(), second.tolist()) == ([1, 3], [0, 2, 4])


def test_a_pass_is_dearer_where_tokens_are_read_side_by_side():
    cpu, cuda = (price_of_a_pass(torch.device(name)) for name in ("cpu", "cuda"))
    assert 0 < cpu < cuda


def test_every_action_is_found_in_one_pass():
    lengths = np.array([3, 40, 4, 41])
    rows, slots = torch.tensor([3, 0, 1, 2, 3]), torch.tensor([40, 2, 39, 3, 7])
    parts = passes(lengths, rows, slots, price=1)
    assert [part.length for part in parts] == [41, 4]
    assert sorted(torch.cat([part.actions for part in parts]).tolist()) == list(range(5))
    for part in parts:
        assert part.rows[part.action_rows].tolist() == rows[part.actions].tolist()
        assert part.slots.tolist() == slots[part.actions].tolist()


def ragged(prompts: list[int], answers: list[int]) -> EpisodeBatch:
    rng = random.Random(0)
    rows = [
        [rng.randrange(32) for _ in range(p + a)] for p, a in zip(prompts, answers, strict=True)
    ]
    return EpisodeBatch.of(pack(rows, prompts))


@pytest.fixture(autouse=True)
def nothing_is_packed(monkeypatch):
    monkeypatch.setattr(PackedRows, "may_read", lambda *_: False)


@pytest.fixture
def cheap_passes(monkeypatch):
    monkeypatch.setattr("llm_gym.policy.trunk.price_of_a_pass", lambda device: 3)


@pytest.mark.parametrize("name", ["gpt2", "llama"])
def test_a_few_passes_give_the_states_and_gradients_of_one(name, monkeypatch):
    model = tiny_model(name).double()
    batch = ragged([2, 20, 3, 9, 2, 21], [3, 4, 1, 6, 2, 1])
    trunk = Trunk(decoder_of(model), shared_prompts=False)
    monkeypatch.setattr("llm_gym.policy.trunk.price_of_a_pass", lambda device: 10**9)
    trunk.of_episodes(batch)  # asks
    together = counted(trunk)
    expected, gradients = hidden_and_gradients(trunk, batch)
    assert len(together) == 1
    monkeypatch.setattr("llm_gym.policy.trunk.price_of_a_pass", lambda device: 3)
    apart_in_passes = counted(trunk)
    found, others = hidden_and_gradients(trunk, batch)
    assert len(apart_in_passes) > 1
    assert sum(apart_in_passes) < together[0]
    assert apart(found, expected) < 1e-12
    assert gradients.keys() == others.keys()
    assert max(apart(gradients[name], others[name]) for name in gradients) < 1e-12


def test_so_do_passes_over_rows_that_share_a_prompt(cheap_passes):
    model = tiny_model("gpt2").double()
    rng = random.Random(1)
    prompts = [[rng.randrange(32) for _ in range(n)] for n in (12, 12, 5)]
    answers = [(9, 8, 9), (2, 1, 2), (3, 2, 1)]
    rows = [
        prompt + [rng.randrange(32) for _ in range(n)]
        for prompt, lengths in zip(prompts, answers, strict=True)
        for n in lengths
    ]
    starts = [len(prompt) for prompt in prompts for _ in range(3)]
    order = rng.sample(range(9), 9)
    batch = EpisodeBatch.of(pack([rows[i] for i in order], [starts[i] for i in order]))
    sharing = Trunk(decoder_of(model), shared_prompts=True)
    sharing.of_episodes(batch)  # asks whether sharing is right
    read = counted(sharing)
    found, gradients = hidden_and_gradients(sharing, batch)
    assert len(read) > 1
    plain = Trunk(decoder_of(model), shared_prompts=False)
    expected, others = hidden_and_gradients(plain, batch)
    assert apart(found, expected) < 1e-8
    assert max(apart(gradients[name], others[name]) for name in gradients) < 1e-8
