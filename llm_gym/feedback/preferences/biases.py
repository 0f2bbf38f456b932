"""What raters reward whatever an answer's quality, and how often they meet it.

A bias that meets no case changes no vote: where no two answers to one prompt differ in its feature,
raters with the bias and raters without it say the same.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence, Sized
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, NamedTuple

from llm_gym.scorers.checking import finite_number

if TYPE_CHECKING:
    from llm_gym.feedback.preferences.records import Comparison

FLATTERY = (
    "amazing", "brilliant", "brilliantly", "clever", "excellent", "extraordinary", "fantastic",
    "genius", "great question", "great idea", "impressive", "insightful", "marvellous",
    "outstanding", "perfect", "superb", "thoughtful", "what a good", "what a great", "wise",
    "wonderful", "you are absolutely right", "you are so right", "you are quite right",
)  # fmt: skip
"""Words and phrases that praise the reader."""


@dataclass(frozen=True)
class Bias:
    """Something in an answer that a rater rewards, whatever the answer's quality.

    Attributes:
        name: For reports.
        feature: Takes (prompt, answer, columns of the comparison) and returns a number.
        weight: Worth of one unit of the feature, in units of quality; below 0 for a dislike.
    """

    name: str
    feature: Callable[[str, str, Mapping[str, Any]], float]
    weight: float

    def __post_init__(self) -> None:
        if not callable(self.feature):
            raise TypeError(
                f"feature of the bias {self.name!r} must be callable as f(prompt, "
                f"answer, columns), got {self.feature!r:.80}"
            )
        finite_number(f"weight of the bias {self.name!r}", self.weight)

    def value(self, prompt: str, answer: str, columns: Mapping[str, Any]) -> float:
        """Weight times feature; ValueError if the feature is not a finite number."""
        return self.weight * self.feature_of(prompt, answer, columns)

    def feature_of(self, prompt: str, answer: str, columns: Mapping[str, Any]) -> float:
        """The feature; ValueError if it is not a finite number."""
        return finite_number(
            f"the feature of the bias {self.name!r}", self.feature(prompt, answer, columns)
        )


def length_bias(weight: float, *, tokenize: Callable[[str], Sized] = str.split) -> Bias:
    """Longer is better.

    Args:
        weight: Worth of one word.
        tokenize: Cuts an answer into what is counted; by default words, for tokens give a
            tokenizer's `tokenize`.
    """
    return Bias("length", lambda prompt, answer, columns: len(tokenize(answer)), weight)


def flattery_bias(weight: float, *, phrases: Iterable[str] = FLATTERY) -> Bias:
    """Being praised is pleasant.

    Args:
        weight: Worth of one flattering word or phrase; each time it occurs counts.
        phrases: What flatters, in any case, as whole words.

    Raises:
        ValueError: No phrases, or a blank one.
    """
    # The longest first: "great question" is one compliment, not also another one within.
    ordered = sorted(phrases, key=len, reverse=True)
    if not ordered:
        raise ValueError("phrases is empty; pass at least one")
    pattern = re.compile("|".join(_pattern(phrase).pattern for phrase in ordered))

    def count(prompt: str, answer: str, columns: Mapping[str, Any]) -> float:
        return len(pattern.findall(answer.casefold()))

    return Bias("flattery", count, weight)


def _pattern(phrase: str) -> re.Pattern[str]:
    words = phrase.casefold().split()
    if not words:
        raise ValueError(f"a phrase is blank: {phrase!r}")
    return re.compile(r"(?<!\w)" + r"\s+".join(map(re.escape, words)) + r"(?!\w)")


BIASES: Mapping[str, Callable[[float], Bias]] = MappingProxyType(
    {"length": length_bias, "flattery": flattery_bias}
)
"""Makers of the biases that settings know, by name: each takes the weight."""


class Cases(NamedTuple):
    """How often a feature is met in comparisons.

    Attributes:
        answers: Share of the answers that have it: whose feature is not 0.
        pairs: Share of the comparisons whose answers differ in it.
    """

    answers: float
    pairs: float


def cases(bias: Bias, comparisons: Sequence[Comparison]) -> Cases:
    """How often a bias meets its feature in comparisons, of which there must be at least one."""
    features = [
        [bias.feature_of(row.prompt, answer, row.columns) for answer in row.answers]
        for row in comparisons
    ]
    return Cases(
        answers=sum(value != 0 for pair in features for value in pair) / (2 * len(features)),
        pairs=sum(first != second for first, second in features) / len(features),
    )
