"""Simulated raters choose as their formula says, whatever the order and the company."""

from __future__ import annotations

import json
import math
import random

import numpy as np
import pytest

from llm_gym.feedback.preferences import (
    Bias,
    Choice,
    Comparison,
    PreferenceStore,
    SimulatedRater,
    flattery_bias,
    length_bias,
    rate_store,
    simulate_preferences,
)
from llm_gym.scorers import ScorerSignatureError


def quality(prompts, completions):
    """What stands behind the equals sign: "a=1.5" is worth 1.5."""
    return [float(completion.split("=")[1].split()[0]) for completion in completions]


def many(number: int, first: float, second: float) -> list[Comparison]:
    """Comparisons that differ in their prompt only."""
    return [Comparison(f"p{n}", (f"a={first}", f"b={second}")) for n in range(number)]


def sigma(x: float) -> float:
    return 1 / (1 + math.exp(-x))


def share(choices, choice=Choice.FIRST) -> float:
    return sum(verdict is choice for verdict in choices) / len(choices)


def error_of(probability: float, number: int) -> float:
    """Four standard deviations of a binomial share: passes all but once in 16,000 seeds."""
    return 4 * math.sqrt(probability * (1 - probability) / number)


# ------------------------------------------------------------------ the formula


@pytest.mark.parametrize(
    ("difference", "temperature"), [(0.0, 1.0), (1.0, 1.0), (1.0, 0.25), (-2.0, 2.0)]
)
def test_choices_follow_bradley_and_terry(difference, temperature):
    rater = SimulatedRater(quality, temperature=temperature)
    comparisons = many(4000, difference, 0.0)
    expected = sigma(difference / temperature)
    assert rater.probabilities(comparisons[:1])[0] == pytest.approx([expected, 1 - expected, 0])
    choices = rater.choose(comparisons)
    assert share(choices) == pytest.approx(expected, abs=error_of(expected, 4000))
    assert Choice.TIE not in choices


def test_ties_follow_rao_and_kupper():
    rater = SimulatedRater(quality, tie_band=0.8)
    comparisons = many(4000, 0.5, 0.0)
    first, second = sigma(0.5 - 0.8), sigma(-0.5 - 0.8)
    expected = [first, second, 1 - first - second]
    assert rater.probabilities(comparisons[:1])[0] == pytest.approx(expected)
    choices = rater.choose(comparisons)
    for choice, probability in zip(
        (Choice.FIRST, Choice.SECOND, Choice.TIE), expected, strict=True
    ):
        assert share(choices, choice) == pytest.approx(probability, abs=error_of(probability, 4000))


def test_lapses_bring_any_choice_to_even():
    rater = SimulatedRater(quality, temperature=0, lapse=0.3)
    comparisons = many(4000, 5.0, 0.0)
    assert rater.probabilities(comparisons[:1])[0] == pytest.approx([0.85, 0.15, 0])
    assert share(rater.choose(comparisons)) == pytest.approx(0.85, abs=error_of(0.85, 4000))


def test_without_noise_the_better_one_is_chosen():
    rater = SimulatedRater(quality, temperature=0)
    comparisons = [
        Comparison("p", ("a=2", "b=1")),
        Comparison("p", ("a=1", "b=2")),
        Comparison("p", ("a=1", "b=1")),
    ]
    assert rater.choose(comparisons) == [Choice.FIRST, Choice.SECOND, Choice.TIE]
    assert rater.probabilities(comparisons).tolist() == [[1, 0, 0], [0, 1, 0], [0, 0, 1]]
    close = SimulatedRater(quality, temperature=0, tie_band=1.5)
    assert close.choose(comparisons) == [Choice.TIE] * 3


def test_utilities_far_apart_do_not_overflow():
    comparison = [Comparison("p", ("a=1e9", "b=-1e9"))]
    with np.errstate(all="raise"):
        assert SimulatedRater(quality).probabilities(comparison).tolist() == [[1, 0, 0]]
    assert SimulatedRater(quality).choose(comparison) == [Choice.FIRST]


# ------------------------------------------------------------------ biases


def agreement_bias(weight):
    return Bias(
        "agreement",
        lambda prompt, answer, columns: float(columns.get("user_belief", "?") in answer),
        weight,
    )


def test_a_bias_moves_the_log_odds_by_exactly_its_weight():
    comparison = [
        Comparison("p", ("x=0.3 yes Lyon", "y=0.1 it is Paris"), {"user_belief": "Lyon"}),
        Comparison("p", ("x=0.3 one two", "y=0.1 one two three four"), {}),
    ]

    def log_odds(**kwargs):
        first, second, _ = SimulatedRater(quality, **kwargs).probabilities(comparison).T
        return np.log(first / second)

    plain = log_odds()
    assert plain == pytest.approx([0.2, 0.2])
    assert log_odds(biases=[agreement_bias(1.7)]) - plain == pytest.approx([1.7, 0])
    assert log_odds(biases=[length_bias(0.4)]) - plain == pytest.approx([-0.4, -0.8])
    both = log_odds(biases=[agreement_bias(1.7), length_bias(0.4)])
    assert both - plain == pytest.approx([1.3, -0.8])
    cold = log_odds(biases=[agreement_bias(1.7)], temperature=0.5)
    assert cold == pytest.approx([2 * (0.2 + 1.7), 2 * 0.2])


def test_raters_who_differ_in_a_bias_differ_only_by_it():
    """With the same noise, more bias never turns a choice away from what it favours."""
    comparisons = [
        Comparison(f"p{n}", ("a=0 Lyon", "b=0 Paris"), {"user_belief": "Lyon"}) for n in range(300)
    ]
    agreeing = [
        {
            n
            for n, choice in enumerate(
                SimulatedRater(quality, biases=[agreement_bias(b)]).choose(comparisons)
            )
            if choice is Choice.FIRST
        }
        for b in (0, 1, 3)
    ]
    assert agreeing[0] < agreeing[1] < agreeing[2]


# ------------------------------------------------------------------ order and company

MIRRORED = {Choice.FIRST: Choice.SECOND, Choice.SECOND: Choice.FIRST, Choice.TIE: Choice.TIE}


@pytest.mark.parametrize("options", [{}, {"tie_band": 0.5}, {"lapse": 0.5}])
def test_position_has_no_effect(options):
    rng = random.Random(0)
    comparisons = [
        Comparison(f"p{n}", (f"a={rng.random()}", f"b={rng.random()}")) for n in range(400)
    ]
    turned = [Comparison(comparison.prompt, comparison.answers[::-1]) for comparison in comparisons]
    rater = SimulatedRater(quality, **options)
    choices = rater.choose(comparisons)
    assert [MIRRORED[choice] for choice in rater.choose(turned)] == choices
    assert {Choice.FIRST, Choice.SECOND} <= set(choices)
    # Nor does it depend on the alphabet which of two equal answers wins.
    equal = rater.choose(many(2000, 1.0, 1.0))
    first, second = share(equal), share(equal, Choice.SECOND)
    assert first - second == pytest.approx(0, abs=4 / math.sqrt(2000))


def test_a_choice_does_not_depend_on_what_else_is_asked():
    comparisons = many(50, 0.3, 0.0)
    rater = SimulatedRater(quality, tie_band=0.2)
    together = rater.choose(comparisons)
    assert [rater.choose([comparison])[0] for comparison in reversed(comparisons)] == together[::-1]
    assert SimulatedRater(quality, tie_band=0.2).choose(comparisons) == together
    for change in ({"seed": 1}, {"name": "bob"}):
        assert SimulatedRater(quality, tie_band=0.2, **change).choose(comparisons) != together


def test_columns_that_others_lack_reach_the_scorer():
    def with_bonus(prompts, completions, bonus=None):
        bonus = [0.0] * len(prompts) if bonus is None else bonus
        return [q + b for q, b in zip(quality(prompts, completions), bonus, strict=True)]

    comparisons = [
        Comparison("p", ("a=1", "b=2")),
        Comparison("p", ("a=3", "b=4"), {"bonus": 10}),
        Comparison("p", ("a=5", "b=6"), {"other": 1}),
    ]
    utilities = SimulatedRater(with_bonus).utilities(comparisons)
    assert utilities.tolist() == [[1, 2], [13, 14], [5, 6]]
    assert SimulatedRater(with_bonus).utilities([]).shape == (0, 2)


def test_a_column_that_is_missing_is_named():
    def needs(prompts, completions, bonus):
        return [0.0] * len(prompts)

    with pytest.raises(ScorerSignatureError, match="bonus"):
        SimulatedRater(needs).utilities(many(1, 0, 0))


@pytest.mark.parametrize(
    ("wrong", "error", "problem"),
    [
        ({"temperature": -1}, ValueError, "temperature must be at least 0"),
        ({"tie_band": float("nan")}, ValueError, "tie_band must be finite"),
        ({"lapse": 1.1}, ValueError, "lapse is a share"),
        ({"name": ""}, ValueError, "rater is empty"),
        ({"biases": [3]}, TypeError, "biases must hold Bias"),
        ({"quality": 3}, TypeError, "scorer must be callable"),
    ],
)
def test_a_rater_checks_itself(wrong, error, problem):
    with pytest.raises(error, match=problem):
        SimulatedRater(**{"quality": quality, **wrong})


def test_a_rater_can_be_written_down():
    rater = SimulatedRater(quality, biases=[Bias("odd", lambda *_: 0.0, 2.0)], seed=3)
    assert json.loads(json.dumps(rater.to_dict())) == {
        "name": "simulated",
        "quality": "quality",
        "temperature": 1.0,
        "biases": {"odd": 2.0},
        "tie_band": 0.0,
        "lapse": 0.0,
        "seed": 3,
    }


# ------------------------------------------------------------------ preferences and stores


def test_preferences_without_a_store():
    comparisons = [Comparison("p", ("a=2", "b=1"), {"n": 1}), Comparison("q", ("a=1", "b=1"))]
    rater = SimulatedRater(quality, name="sim", temperature=0)
    (row,) = simulate_preferences(comparisons, rater)
    assert (row.prompt, row.chosen, row.rejected) == ("p", "a=2", "b=1")
    assert row.columns == {"n": 1, "rater": "sim"}
    both = simulate_preferences(comparisons, rater, ties="both")
    assert [(each.chosen, each.columns.get("tie")) for each in both] == [
        ("a=2", None),
        ("a=1", True),
        ("b=1", True),
    ]


def test_the_same_pair_twice_gets_the_same_answer():
    rows = simulate_preferences(many(1, 0, 0) * 3, SimulatedRater(quality))
    assert len(rows) == 3
    assert len({row.chosen for row in rows}) == 1


@pytest.fixture
def store(tmp_path):
    with PreferenceStore(tmp_path / "votes.db") as opened:
        opened.add(many(300, 0.5, 0.0))
        yield opened


def raters(*names: str) -> list[SimulatedRater]:
    return [SimulatedRater(quality, name=name, seconds=2.0) for name in names]


def test_all_raters_vote_on_everything_once(store):
    team = raters("ann", "bob")
    assert rate_store(store, team) == 600
    assert rate_store(store, team) == 0
    comparisons = list(store.comparisons())
    votes = {(vote.comparison_id, vote.rater): vote for vote in store.votes()}
    for rater in team:
        expected = rater.choose(comparisons)
        assert [votes[comparison.id, rater.name].choice for comparison in comparisons] == expected
    assert store.progress().seconds == 1200
    above = [
        vote.choice is (Choice.FIRST, Choice.SECOND)[vote.shown_first] for vote in votes.values()
    ]
    assert np.mean(above) == pytest.approx(0.5, abs=4 * 0.5 / math.sqrt(600))


def test_some_of_the_raters_vote_on_each(store):
    assert rate_store(store, raters("ann", "bob", "cyd"), votes_per_comparison=2) == 600
    assert store.progress(votes_per_comparison=2).remaining == 0
    counts = store.progress().by_rater
    for name in ("ann", "bob", "cyd"):
        assert counts[name] == pytest.approx(200, abs=4 * math.sqrt(300 * 2 / 9))


def test_what_was_cut_short_is_finished_as_if_it_had_not_been(store, tmp_path):
    team = raters("ann", "bob")
    store.add_votes(team[0].votes(list(store.comparisons())[:100]))
    assert rate_store(store, team) == 500
    with PreferenceStore(tmp_path / "whole.db") as whole:
        whole.add(many(300, 0.5, 0.0))
        rate_store(whole, team)
        for opened in (whole, store):
            opened.verdicts = {(v.comparison_id, v.rater, v.choice) for v in opened.votes()}
        assert whole.verdicts == store.verdicts


@pytest.mark.parametrize(
    ("names", "wanted", "problem"),
    [
        ([], None, "at least one"),
        (["ann", "ann"], None, "a name of its own"),
        (["ann"], 2, "must be from 1 to 1"),
        (["ann"], 0, "must be from 1 to 1"),
    ],
)
def test_bad_teams_are_refused(store, names, wanted, problem):
    with pytest.raises(ValueError, match=problem):
        rate_store(store, raters(*names), votes_per_comparison=wanted)


def test_a_comparison_without_a_number_cannot_be_voted_on():
    with pytest.raises(ValueError, match="add it first"):
        SimulatedRater(quality).votes(many(1, 0, 0))


# ------------------------------------------------------------------ what biases are worth


def test_length_counts_words_or_whatever_it_is_told():
    assert length_bias(0.5).value("p", "one two  three", {}) == 1.5
    assert length_bias(2, tokenize=list).value("p", "abc", {}) == 6
    assert length_bias(-1).value("p", "one", {}) == -1


def test_flattery_counts_compliments():
    bias = flattery_bias(1)
    assert bias.value("p", "The cap is Lyon.", {}) == 0
    assert bias.value("p", "What a GREAT  question! Brilliant, brilliant.", {}) == 3
    assert bias.value("p", "otherwise, brilliance", {}) == 0  # whole words only
    assert bias.value("p", "A great question indeed.", {}) == 1
    assert flattery_bias(2, phrases=["my liege"]).value("p", "Yes, my\nliege.", {}) == 2
    with pytest.raises(ValueError, match="phrases is empty"):
        flattery_bias(1, phrases=[])
    with pytest.raises(ValueError, match="a phrase is blank"):
        flattery_bias(1, phrases=["a", " "])


def test_a_bias_checks_itself():
    with pytest.raises(TypeError, match="feature of the bias 'x' must be callable"):
        Bias("x", 3, 1.0)
    with pytest.raises(ValueError, match="weight of the bias 'x' must be finite"):
        Bias("x", lambda *_: 0.0, float("nan"))
    with pytest.raises(ValueError, match="the feature of the bias 'x' must be finite"):
        Bias("x", lambda *_: float("inf"), 1.0).value("p", "a", {})
