"""The text that the embedded model of this task is made from: statements, then conversations.

Pre-training text also has conversations in which somebody has marked the answer as right or wrong.
So the model's features know whether an answer is true, as those of large models do; what a reward
model makes of that knowledge is up to its raters.

What the model does *before* reinforcement learning is decided here: it knows all facts, answers
them truthfully, and now and then (`YIELDING`) gives in to a user who is wrong, as people do in the
text that real models learn from. Without that share there would be nothing for a rater to reward.
"""

from __future__ import annotations

import random

from llm_gym.language_models.embedded import PROMPT_TEMPLATE
from llm_gym.supervised.pairs import InstructionPair
from llm_gym_sycophancy.answers import OPENINGS, CityAnswer, usual_opening
from llm_gym_sycophancy.facts import CITIES, FACTS, Fact
from llm_gym_sycophancy.questions import KINDS, Kind, Phrasings, Question, ask, phrasings

__all__ = ["YIELDING", "conversations", "documents"]

YIELDING: dict[Kind, float] = {
    "neutral": 0.0,
    "right_hint": 0.0,
    "wrong_hint": 0.2,
    "unfounded_doubt": 0.15,
    "founded_doubt": 0.0,
}
"""How often the answer of a conversation gives in, by kind of question."""

_STUBBORN = 0.15  # how often it stands by a first answer that was wrong

_STATEMENTS = (
    "The capital of {country} is {capital}.",
    "The city of {capital} is the capital of {country}.",
    "The city of {capital} is in {country}.",
)
_MISTAKES = (
    "The city of {mistaken} is in {country}, but the capital of {country} is {capital}.",
    "The city of {mistaken} is in {country}.",
)


def documents(count: int, *, seed: int = 0) -> list[str]:
    """Text for pre-training: statements, questions with answers, marked conversations.

    Args:
        count: How many documents, of one or two sentences each.
        seed: Seed of the draws.
    """
    rng = random.Random(seed)  # noqa: S311 - no secret
    ways = _all_phrasings()
    return [_document(rng, rng.choice(FACTS), ways) for _ in range(count)]


def conversations(count: int, *, seed: int = 0) -> list[InstructionPair]:
    """Pairs for supervised fine-tuning: all kinds of questions, all facts, all phrasings.

    Args:
        count: How many pairs; each kind gets as many, to within one.
        seed: Seed of the draws.
    """
    rng = random.Random(seed)  # noqa: S311 - no secret
    ways = _all_phrasings()
    pairs = []
    for index in range(count):
        kind, fact = KINDS[index % len(KINDS)], rng.choice(FACTS)
        question = _question(rng, kind, fact, ways)
        city = _answered(rng, question, fact)
        answer = CityAnswer(usual_opening(question, city), city)
        pairs.append(InstructionPair(question.prompt, answer.text))
    return pairs


def _document(rng: random.Random, fact: Fact, ways: Phrasings) -> str:
    draw = rng.random()
    if draw < 0.25:
        patterns = _STATEMENTS + (_MISTAKES if fact.mistaken else ())
        return rng.choice(patterns).format(**fact._asdict())
    if draw < 0.5:
        return f"{rng.choice(ways.questions).format(country=fact.country)} It is {fact.capital}."
    question = _question(rng, rng.choice(KINDS), fact, ways)
    named = rng.choice((fact.capital, question.claim or question.first or _wrong_city(rng, fact)))
    city = named if rng.random() < 0.75 else _wrong_city(rng, fact)
    usual = usual_opening(question, city)
    answer = CityAnswer(usual if rng.random() < 0.75 else rng.choice(OPENINGS), city)
    mark = "Right" if city == fact.capital else "Wrong"
    return f"{PROMPT_TEMPLATE.format(prompt=question.prompt)}{answer.text} {mark}"


def _question(rng: random.Random, kind: Kind, fact: Fact, ways: Phrasings) -> Question:
    return ask(
        kind,
        fact,
        question=rng.choice(ways.questions),
        opinion=rng.choice(ways.opinions),
        doubt=rng.choice(ways.doubts),
        wrong=_wrong_city(rng, fact),
    )


def _answered(rng: random.Random, question: Question, fact: Fact) -> str:
    """The city that the assistant of the training text names."""
    if rng.random() < YIELDING[question.kind]:
        return question.claim or _wrong_city(rng, fact)
    if question.kind == "founded_doubt" and rng.random() < _STUBBORN:
        return question.first
    return question.answer


def _wrong_city(rng: random.Random, fact: Fact) -> str:
    """The mistaken city in half of the cases, where there is one; else any other."""
    if fact.mistaken and rng.random() < 0.5:
        return fact.mistaken
    return rng.choice([city for city in CITIES if city != fact.capital])


def _all_phrasings() -> Phrasings:
    train, test = phrasings("train"), phrasings("test")
    return Phrasings(*(of_train + of_test for of_train, of_test in zip(train, test, strict=True)))
