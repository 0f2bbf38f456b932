"""Tensors that are one in memory are stored once, and no others are taken for them."""

from __future__ import annotations

import pytest
import torch

from llm_gym.runs.ties import check_ties, shared_tensors, without_aliases


def test_what_is_one_in_memory_is_kept_once():
    one = torch.arange(6.0)
    kept, aliases = without_aliases({"a": one, "b": torch.arange(6.0), "c": one[:], "d": one})
    assert list(kept) == ["a", "b"]
    assert aliases == {"c": "a", "d": "a"}
    assert shared_tensors(aliases, kept) == {"c": one, "d": one}


@pytest.mark.parametrize(
    "other",
    [
        lambda one: one.view(2, 3),
        lambda one: one[:5],
        lambda one: one.view(torch.int32),
        lambda one: one[1:],
    ],
    ids=["shape", "length", "type", "start"],
)
def test_views_that_say_something_else_are_tensors_of_their_own(other):
    one = torch.arange(6.0)
    tensors = {"one": one, "other": other(one)}
    kept, aliases = without_aliases(tensors)
    assert (list(kept), aliases) == (list(tensors), {})


def test_square_views_are_told_apart_by_their_strides():
    square = torch.arange(4.0).view(2, 2)
    kept, aliases = without_aliases({"square": square, "turned": square.T})
    assert (list(kept), aliases) == (["square", "turned"], {})


def test_what_is_empty_shares_nothing():
    """All empty tensors may say that they are at the same place."""
    kept, aliases = without_aliases({"a": torch.zeros(0), "b": torch.zeros(0)})
    assert (list(kept), aliases) == (["a", "b"], {})


@pytest.mark.parametrize("aliases", [{"a": "b"}, {"c": "gone"}])
def test_a_twin_that_is_not_there_or_a_name_that_was_kept_is_refused(aliases):
    with pytest.raises(ValueError, match="shared_tensors"):
        shared_tensors(aliases, {"a": torch.zeros(1), "b": torch.zeros(1)})


def test_a_policy_must_tie_what_was_tied():
    policy = torch.nn.ModuleDict({"a": torch.nn.Linear(2, 2), "b": torch.nn.Linear(2, 2)})
    aliases = {"policy.b.weight": "policy.a.weight"}
    with pytest.raises(ValueError, match=r"shared_tensors\.policy\.b\.weight"):
        check_ties(policy, aliases)
    policy["b"].weight = policy["a"].weight
    check_ties(policy, aliases)
