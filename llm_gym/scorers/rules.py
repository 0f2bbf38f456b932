"""Rules: scorers that only look at the text."""

from __future__ import annotations

import re
from collections.abc import Mapping

import numpy as np

from llm_gym.scorers.checking import finite_number
from llm_gym.scorers.protocol import Columns, Scorer


class RegexScorer(Scorer):
    r"""One score where a regular expression matches the completion, another where it does not.

    Args:
        pattern: The expression, as a string or compiled (flags such as `re.IGNORECASE` go in when
            compiling, or as `(?i)`).
        score: Score of a match.
        otherwise: Score without one.
        full_match: True if the pattern has to match the whole completion, False if a match
            anywhere in it will do.
        name: Name in messages.

    Raises:
        ValueError: The pattern is not a valid expression, or a score is not finite.
        TypeError: The pattern is neither a string nor compiled from one.

    Example:
        >>> from llm_gym.scorers import RegexScorer
        >>> RegexScorer(r"\d+")(["How many?"] * 2, ["About 40.", "A few."])
        [1.0, 0.0]
    """

    def __init__(
        self,
        pattern: str | re.Pattern[str],
        score: float = 1.0,
        otherwise: float = 0.0,
        *,
        full_match: bool = False,
        name: str = "regex",
    ) -> None:
        try:
            self.pattern = re.compile(pattern)
        except re.error as error:
            raise ValueError(
                f"pattern {pattern!r} is not a valid regular expression: {error}"
            ) from error
        if isinstance(self.pattern.pattern, bytes):
            raise TypeError(f"pattern must be of str, not of bytes: {pattern!r}")
        self.match = finite_number("score", score)
        self.otherwise = finite_number("otherwise", otherwise)
        self.full_match = full_match
        self.name = name

    def compute(self, prompts: list[str], completions: list[str], columns: Columns) -> np.ndarray:
        """Matches each completion. See `Scorer.compute`."""
        find = self.pattern.fullmatch if self.full_match else self.pattern.search
        return np.array([self.match if find(text) else self.otherwise for text in completions])

    def __repr__(self) -> str:
        return f"RegexScorer({self.pattern.pattern!r}, {self.match!r}, {self.otherwise!r})"


class LengthScorer(Scorer):
    r"""A tent over the wanted length: 1 at `target`, falling evenly to 0 at `tolerance` from it.

    `max(0, 1 - |length - target| / tolerance)`; with target 20 and tolerance 10:

    ```
    1 |         /\
      |       /    \
    0 |_____/        \_____
           10   20   30
    ```

    Args:
        target: The wanted length, at least 0.
        unit: "words" (runs of characters between white space) or "characters".
        tolerance: Distance from the target at which the score reaches 0, above 0. None takes
            the target itself (or 1 if that is 0), so that both an empty completion and one of twice
            the length score 0.
        name: Name in messages.

    Raises:
        ValueError: A negative target, a tolerance of 0 or less, or an unknown unit.

    Example:
        >>> from llm_gym.scorers import LengthScorer
        >>> LengthScorer(4)(["Well?"] * 3, ["I quite agree, sir.", "Two words.", ""])
        [1.0, 0.5, 0.0]
    """

    def __init__(
        self,
        target: float,
        *,
        unit: str = "words",
        tolerance: float | None = None,
        name: str = "length",
    ) -> None:
        self.target = finite_number("target", target)
        if self.target < 0:
            raise ValueError(f"target must be at least 0, got {target!r}")
        if unit not in ("words", "characters"):
            raise ValueError(f"unit must be 'words' or 'characters', got {unit!r}")
        self.tolerance = (
            self.target or 1.0 if tolerance is None else finite_number("tolerance", tolerance)
        )
        if self.tolerance <= 0:
            raise ValueError(f"tolerance must be above 0, got {tolerance!r}")
        self.unit = unit
        self.name = name

    def compute(self, prompts: list[str], completions: list[str], columns: Columns) -> np.ndarray:
        """Measures each completion. See `Scorer.compute`."""
        lengths = np.array(
            [len(text.split()) if self.unit == "words" else len(text) for text in completions]
        )
        return np.maximum(0.0, 1.0 - np.abs(lengths - self.target) / self.tolerance)

    def __repr__(self) -> str:
        return f"LengthScorer({self.target!r}, unit={self.unit!r}, tolerance={self.tolerance!r})"


class KeywordScorer(Scorer):
    """The sum of the weights of the words that a completion contains.

    Each word counts once, however often it occurs, so that repeating it does not pay. Only whole
    words count ("thank" is not in "thankless"), in any case. A word may be a phrase; any white
    space matches between its words.

    Args:
        weights: Word or phrase -> weight; negative for words to avoid.
        name: Name in messages.

    Raises:
        ValueError: No words, an empty word, the same word twice in different case, or a weight that
            is not finite.

    Example:
        >>> from llm_gym.scorers import KeywordScorer
        >>> polite = KeywordScorer({"please": 1.0, "thank you": 2.0, "now": -1.0})
        >>> polite(["Ask."] * 2, ["Please, PLEASE! Thank  you.", "Do it now."])
        [3.0, -1.0]
    """

    def __init__(self, weights: Mapping[str, float], *, name: str = "keywords") -> None:
        if not weights:
            raise ValueError("weights is empty; pass at least one {word: weight}")
        self.weights: dict[str, float] = {}
        for word, weight in weights.items():
            key = " ".join(word.casefold().split())
            if not key:
                raise ValueError(f"weights has an empty word: {word!r}")
            if key in self.weights:
                raise ValueError(f"weights has the word {key!r} twice; case does not tell apart")
            self.weights[key] = finite_number(f"the weight of {word!r}", weight)
        self.name = name
        self._patterns = {
            # Not \b: that would never match before a word such as "#hashtag".
            word: re.compile(r"(?<!\w)" + r"\s+".join(map(re.escape, word.split())) + r"(?!\w)")
            for word in self.weights
        }

    def compute(self, prompts: list[str], completions: list[str], columns: Columns) -> np.ndarray:
        """Looks for each word. See `Scorer.compute`."""
        return np.array(
            [
                sum(
                    weight
                    for word, weight in self.weights.items()
                    if self._patterns[word].search(text)
                )
                for text in map(str.casefold, completions)
            ],
            dtype=np.float64,
        )

    def __repr__(self) -> str:
        return f"KeywordScorer({self.weights!r})"
