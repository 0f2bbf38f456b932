"""Composition: sums, clips and scales, and the parts they report."""

from __future__ import annotations

import copy

import numpy as np
import pytest

from llm_gym.scorers import (
    Clip,
    KeywordScorer,
    LengthScorer,
    RegexScorer,
    Scale,
    ScorerError,
    ScorerSignatureError,
    WeightedSum,
    as_scorer,
)


def characters(prompts, completions):
    return [len(text) for text in completions]


def broken(prompts, completions):
    raise RuntimeError("no")


def as_lists(parts):
    return {name: values.tolist() for name, values in parts.items()}


def test_a_weighted_sum_adds_up_and_reports_the_unweighted_parts():
    total = WeightedSum({"long": (characters, 0.5), "capital": (RegexScorer("^[A-Z]"), -10.0)})
    scores = total.score(["p"] * 2, ["Four", "six---"])
    assert scores.values.tolist() == [0.5 * 4 - 10.0, 3.0]
    assert as_lists(scores.parts) == {"long": [4.0, 6.0], "capital": [1.0, 0.0]}


def test_nested_parts_carry_the_way_to_them():
    inner = WeightedSum({"long": (characters, 1.0), "digits": (RegexScorer(r"\d"), 1.0)})
    outer = WeightedSum(
        {"style": (Clip(inner, 0, 3), 2.0), "scaled": (Scale(characters, 0.5, 1.0), 1.0)}
    )
    scores = outer.score(["p"], ["year 2"])
    assert as_lists(scores.parts) == {
        "style": [3.0],
        "style/weighted_sum": [7.0],
        "style/weighted_sum/long": [6.0],
        "style/weighted_sum/digits": [1.0],
        "scaled": [4.0],
        "scaled/characters": [6.0],
    }
    assert scores.values.tolist() == [10.0]


def test_a_part_of_weight_zero_is_reported_and_earns_nothing():
    scores = WeightedSum({"proxy": (characters, 1.0), "gold": (characters, 0)}).score(["p"], ["ab"])
    assert scores.values.tolist() == [2.0]
    assert scores.parts["gold"].tolist() == [2.0]


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [(2, 4, [2, 3, 4]), (-np.inf, 2, [1, 2, 2]), (2, np.inf, [2, 3, 5])],
)
def test_clip_holds_the_score_between_its_bounds(low, high, expected):
    scorer = Clip(characters, low, high)
    scores = scorer.score(["p"] * 3, ["a", "abc", "abcde"])
    assert scores.values.tolist() == expected
    assert scores.parts["characters"].tolist() == [1.0, 3.0, 5.0]


def test_scale_multiplies_then_adds():
    assert Scale(characters, -2.0, 1.0)(["p"], ["abc"]) == [-5.0]


def test_columns_reach_the_parts_that_want_them():
    def right(completions, answer):
        return [a == c for a, c in zip(answer, completions, strict=True)]

    total = WeightedSum({"right": (right, 5.0), "long": (characters, 1.0)})
    assert total(["p"], ["four"], answer=["four"], level=[1]) == [9.0]
    with pytest.raises(ScorerSignatureError, match="'right' requires 'answer'"):
        total(["p"], ["four"])


def test_a_composition_is_a_trl_reward_function():
    total = WeightedSum({"long": (characters, 1.0)}, name="quality")
    assert total.__name__ == "quality"
    assert total(prompts=["p"], completions=["abc"], completion_ids=[[1, 2]]) == [3.0]
    assert as_scorer(total) is total


def test_an_error_names_the_part_that_failed():
    total = WeightedSum({"fine": (characters, 1.0), "bad": (Clip(broken, 0, 1), 1.0)})
    with pytest.raises(ScorerError, match="scorer 'broken' raised RuntimeError: no"):
        total.score(["p"], ["c"])


def test_an_overflow_of_the_sum_is_the_sums_own_error():
    total = WeightedSum({"a": (lambda p, c: [3e38], 10.0), "b": (characters, 1.0)})
    with pytest.raises(ScorerError, match=r"'weighted_sum' returned .* which is beyond float32"):
        total.score(["p"], ["c"])


@pytest.mark.parametrize(
    ("parts", "error", "message"),
    [
        ({}, ValueError, "empty"),
        ({"a/b": (characters, 1.0)}, ValueError, "'/'"),
        ({"": (characters, 1.0)}, ValueError, "must not be empty"),
        ({"a": characters}, TypeError, r"parts\['a'\] must be a pair"),
        ({"a": (characters, "1")}, TypeError, "weight of part 'a' must be a number"),
        ({"a": (characters, float("nan"))}, ValueError, "weight of part 'a' must be finite"),
        ({"a": (3, 1.0)}, TypeError, "must be callable"),
    ],
)
def test_a_bad_sum_is_refused(parts, error, message):
    with pytest.raises(error, match=message):
        WeightedSum(parts)


@pytest.mark.parametrize(("low", "high"), [(1, 0), (1, 1), (float("nan"), 1)])
def test_bad_bounds_are_refused(low, high):
    with pytest.raises(ValueError, match="low must be below high"):
        Clip(characters, low, high)


def test_a_bad_scale_is_refused():
    with pytest.raises(ValueError, match="factor must be finite"):
        Scale(characters, float("inf"))


def test_compositions_can_be_copied():
    total = WeightedSum(
        {"words": (KeywordScorer({"hello": 1.0}), 1.0), "length": (LengthScorer(2), 1.0)}
    )
    assert copy.deepcopy(total)(["p"], ["hello you"]) == total(["p"], ["hello you"]) == [2.0]


def test_repr_shows_the_whole_composition():
    total = WeightedSum({"long": (Clip(Scale(characters, 2.0), 0, 5), 0.5)})
    scaled = "Scale(FunctionScorer('characters'), 2.0, 0.0)"
    assert repr(total) == f"WeightedSum({{'long': (Clip({scaled}, 0.0, 5.0), 0.5)}})"
