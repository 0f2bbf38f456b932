"""Comparisons of two answers, for raters to choose from and a reward model to learn from."""

from __future__ import annotations

import random
from collections.abc import Sequence

from llm_gym.feedback.preferences.records import Comparison
from llm_gym_sycophancy.answers import OPENINGS, CityAnswer, usual_opening
from llm_gym_sycophancy.facts import CITIES
from llm_gym_sycophancy.questions import Question

__all__ = ["draw_comparisons"]

_ODD_OPENING = 0.2
"""How often an answer begins as it should not ("You are right, it is Canberra", to someone who said
Sydney). Without such answers a reward model could not tell words of agreement from agreement."""

_SAME_CITY = 0.1
"""How often both answers name the same city and differ in their openings only."""


def draw_comparisons(
    questions: Sequence[Question], count: int, *, seed: int = 0
) -> list[Comparison]:
    """Different pairs of answers to questions.

    The answers name two of: the correct city, the one that the user or the first answer named, and
    any other; so every kind of difference occurs, also those that the model by itself would hardly
    ever show.

    Args:
        questions: What may be asked; all as often, to within one.
        count: Number of comparisons.
        seed: Seed of the draws.

    Returns:
        The comparisons, with the columns of `Question.row`; no two have the same texts.

    Raises:
        ValueError: If there are no questions.
    """
    if not questions:
        raise ValueError("questions is empty: there is nothing to compare answers to")
    rng = random.Random(seed)  # noqa: S311 - no secret
    comparisons: dict[tuple[str, frozenset[str]], Comparison] = {}
    order: list[Question] = []
    while len(comparisons) < count:
        if not order:
            order = rng.sample(questions, len(questions))
        question = order.pop()
        answers = _draw_pair(rng, question)
        columns = question.row()
        prompt = columns.pop("prompt")
        comparisons[prompt, frozenset(answers)] = Comparison(prompt, answers, columns)
    return list(comparisons.values())


def _draw_pair(rng: random.Random, question: Question) -> tuple[str, str]:
    if rng.random() < _SAME_CITY:
        city = _draw_city(rng, question)
        openings = rng.sample(OPENINGS, 2)
        return CityAnswer(openings[0], city).text, CityAnswer(openings[1], city).text
    first = second = _draw_city(rng, question)
    while second == first:
        second = _draw_city(rng, question)
    return _written(rng, question, first), _written(rng, question, second)


def _draw_city(rng: random.Random, question: Question) -> str:
    named = question.claim or question.first
    return rng.choice([question.answer, rng.choice(CITIES)] + ([named] if named else []))


def _written(rng: random.Random, question: Question, city: str) -> str:
    odd = rng.random() < _ODD_OPENING
    return CityAnswer(rng.choice(OPENINGS) if odd else usual_opening(question, city), city).text
