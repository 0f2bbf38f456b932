"""Several raters: who judges what, and whom to believe.

The agreement bias sits in people, and not in all of them alike. A few comparisons whose answer is
known (controls) tell those who choose what is true from those who choose what pleases.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence

from llm_gym.feedback.preferences import (
    Choice,
    Comparison,
    Preference,
    SimulatedRater,
    simulate_preferences,
)
from llm_gym_sycophancy.answers import CityAnswer, usual_opening
from llm_gym_sycophancy.questions import Question
from llm_gym_sycophancy.scorers import AnswerScorer, agreement_with_user

__all__ = ["biased_rater", "controls", "panel_preferences", "truthfulness", "weighted"]


def biased_rater(
    agreement: float, *, truth: float = 1.0, name: str = "rater", seed: int = 0
) -> SimulatedRater:
    """A Bradley-Terry rater with `utility = truth * 1{correct} + agreement * 1{agrees}`.

    Args:
        agreement: The agreement bias b.
        truth: What a correct answer is worth.
        name: Name of the rater; part of the seed.
        seed: Seed of the rater's noise.
    """
    quality = AnswerScorer(truth=truth, name="truth")
    return SimulatedRater(quality, name=name, biases=[agreement_with_user(agreement)], seed=seed)


def panel_preferences(
    comparisons: Sequence[Comparison], raters: Sequence[SimulatedRater], *, seed: int = 0
) -> list[Preference]:
    """Have each comparison judged by one rater of the panel.

    Args:
        comparisons: Pairs of answers to judge.
        raters: The panel; each gets as many comparisons, to within one.
        seed: Seed of who gets which.

    Returns:
        One preference for each comparison, by rater; the column "rater" says whose it is.

    Raises:
        ValueError: If the panel is empty or two raters share a name.
    """
    names = [rater.name for rater in raters]
    if not names or len(set(names)) < len(names):
        raise ValueError(f"raters must be at least one, each with a name of its own, got {names}")
    shuffled = random.Random(seed).sample(list(comparisons), len(comparisons))  # noqa: S311
    return [
        preference
        for index, rater in enumerate(raters)
        for preference in simulate_preferences(shuffled[index :: len(raters)], rater)
    ]


def controls(questions: Sequence[Question]) -> list[Comparison]:
    """Comparisons with a known answer: the correct city (first) against the user's wrong one.

    Args:
        questions: Questions of which those with a wrong hint are taken.

    Raises:
        ValueError: If there is none.
    """
    comparisons = []
    for question in questions:
        if question.kind != "wrong_hint":
            continue
        cities = (question.answer, question.claim)
        answers = [CityAnswer(usual_opening(question, city), city).text for city in cities]
        columns = question.row()
        comparisons.append(Comparison(columns.pop("prompt"), (answers[0], answers[1]), columns))
    if not comparisons:
        raise ValueError("questions has none of the kind wrong_hint to make controls from")
    return comparisons


def truthfulness(rater: SimulatedRater, known: Sequence[Comparison]) -> float:
    """How far a rater's choice is better than chance on controls.

    Args:
        rater: Chooses between answers; see `biased_rater`.
        known: What `controls` returned.

    Returns:
        `max(0, 2 * share of correct choices - 1)`: 1 for always, 0 for chance or worse.
    """
    correct = sum(choice is Choice.FIRST for choice in rater.choose(known))
    return max(0.0, 2 * correct / len(known) - 1)


def weighted(preferences: Sequence[Preference], weights: Mapping[str, float]) -> list[Preference]:
    """Writes each rater's weight into the column "weight" of the rater's preferences.

    With `RewardModelConfig(weight_column="weight")` a reward model then believes the raters in
    proportion to their weights.

    Args:
        preferences: With the column "rater".
        weights: Weight of each rater, not negative.

    Raises:
        ValueError: If a rater has no weight, one is negative, or none is positive.
    """
    unknown = {row.columns["rater"] for row in preferences} - weights.keys()
    if unknown:
        raise ValueError(f"weights has no entry for {sorted(unknown)}")
    if min(weights.values(), default=0.0) < 0 or not any(weights.values()):
        raise ValueError(f"weights must not be negative and not all 0, got {dict(weights)}")
    return [
        Preference(
            row.prompt,
            row.chosen,
            row.rejected,
            {**row.columns, "weight": weights[row.columns["rater"]]},
        )
        for row in preferences
    ]
