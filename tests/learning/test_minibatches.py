"""Items are parted by their tokens, and every process has as many minibatches."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest

from llm_gym.learning import minibatches
from llm_gym.learning.minibatches import token_batches


def test_minibatches_hold_every_item_once_and_about_equally_many_tokens():
    rng = np.random.default_rng(0)
    lengths = rng.integers(1, 20, size=100)
    batches = token_batches(lengths, 60, rng)
    assert sorted(np.concatenate(batches)) == list(range(100))
    assert len(batches) == round(lengths.sum() / 60)
    sizes = [lengths[batch].sum() for batch in batches]
    assert max(sizes) <= 60 + 20
    assert len(token_batches([5], 1, rng)) == 1
    assert len(token_batches(lengths, None, rng)) == 1


@pytest.mark.parametrize(
    ("lengths", "batches"),
    [
        ([3, 5, 4], [[0, 1], [2]]),  # the middle of the second is at 5.5 of 12
        ([4, 5, 3], [[0], [1, 2]]),  # at 6.5
        ([1, 1, 1, 9], [[0, 1, 2], [3]]),
        ([9, 1, 1, 1], [[0], [1, 2, 3]]),
        ([0, 6, 0, 6], [[0, 1], [2, 3]]),
        ([6, 6, 0], [[0], [1, 2]]),  # at the very end, where no minibatch begins
    ],
)
def test_an_item_is_in_the_minibatch_in_whose_share_its_middle_lies(lengths, batches):
    order = SimpleNamespace(permutation=np.arange)
    found = token_batches(lengths, 6, order)
    assert [batch.tolist() for batch in found] == batches


def test_a_process_by_itself_leaves_out_minibatches_without_items(monkeypatch):
    monkeypatch.setattr(minibatches, "_number_of_batches", lambda *_: 3)
    found = token_batches([1, 1, 9], 6, SimpleNamespace(permutation=np.arange))
    assert [batch.tolist() for batch in found] == [[0, 1], [2]]


@pytest.mark.parametrize("lengths", [[], [0, 0]])
def test_a_process_without_tokens_has_as_many_minibatches_as_the_others(lengths, monkeypatch):
    monkeypatch.setattr(minibatches, "_number_of_batches", lambda *_: 3)
    found = token_batches(lengths, 8, np.random.default_rng(0))
    assert [sorted(batch.tolist()) for batch in found] == [list(range(len(lengths)))] * 3


@pytest.mark.parametrize(
    ("lengths", "n_batches", "batches"),
    [
        ([9, 1, 1], 3, [[0], [1], [2]]),
        ([1, 1, 9], 3, [[0], [1], [2]]),
        ([1, 1, 1, 1, 12], 3, [[0, 1, 2], [3], [4]]),
        ([12, 1, 1, 1, 1, 1, 1], 4, [[0], [1], [2], [3, 4, 5, 6]]),
        ([2, 12, 1, 1, 1, 1, 1, 1], 4, [[0], [1], [2], [3, 4, 5, 6, 7]]),
        ([6, 5, 5, 6], 2, [[0, 1], [2, 3]]),
        ([5, 5, 5], 1, [[0, 1, 2]]),
    ],
)
def test_of_several_processes_each_has_all_minibatches(lengths, n_batches, batches, monkeypatch):
    """The others wait for it at each: items move to the nearest minibatch that has none."""
    monkeypatch.setattr(minibatches, "world", lambda: SimpleNamespace(size=2))
    monkeypatch.setattr(minibatches, "_number_of_batches", lambda *_: n_batches)
    found = token_batches(lengths, 6, SimpleNamespace(permutation=np.arange))
    assert [batch.tolist() for batch in found] == batches
