"""Answers in the terminal, their tokens coloured by a number."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, NamedTuple

from llm_gym.files.untrusted import as_rich, printable

if TYPE_CHECKING:
    from rich.text import Text

    from llm_gym.scorers.protocol import Scorer
    from llm_gym.stages.chat import Answer, Conversation, WrittenToken

_UP = (37, 99, 184)  # the pages' blue
_PALE = (232, 240, 250)
_DARK_FROM = 0.8  # where both inks can be read
_DARK_INK, _LIGHT_INK = "#14161a", "#ffffff"


class _Colour(NamedTuple):
    """What tokens can be coloured by.

    Attributes:
        meaning: In words.
        of: A token's number; None where it has none.
        is_share: Whether it lies between 0 and 1 and is dark where it is low.
    """

    meaning: str
    of: Callable[[WrittenToken], float | None]
    is_share: bool = False


COLOURS = {
    "probability": _Colour("how probable each token was", lambda t: t.prob, is_share=True),
    "entropy": _Colour("how open each choice was", lambda t: t.entropy),
    "value": _Colour("what the critic expected before each token", lambda t: t.value),
    "score": _Colour("the score if the answer ended there", lambda _: None),
}


class Painter:
    """Colours the tokens of answers, and says what they are worth to a scorer.

    Args:
        scorer: Judges; None if nobody does.
    """

    def __init__(self, scorer: Scorer | None = None) -> None:
        self._scorer = scorer
        self._name: str | None = None

    def choose(self, name: str | None, talks: Sequence[Conversation]) -> None:
        """Colours by something else from now on.

        Args:
            name: One of `COLOURS`; None colours nothing.
            talks: The models.

        Raises:
            ValueError: There is no such colour, or none of the models can have it.
        """
        if name is not None and name not in COLOURS:
            raise ValueError(f"colour must be one of {', '.join(COLOURS)}, got {name!r}")
        if name == "score" and self._scorer is None:
            raise ValueError("colour 'score' needs somebody who judges: give --scorer NAME")
        if name == "value" and not any(talk.has_critic for talk in talks):
            raise ValueError(
                "colour 'value' needs a critic, which training runs of llm_gym leave beside their "
                "models, and none of these has one; take 'probability'"
            )
        self._name = name

    def legend(self) -> str:
        """What the colours say."""
        if self._name is None:
            return "no colours"
        colour = COLOURS[self._name]
        return f"{colour.meaning}: the darker, the {'less' if colour.is_share else 'more'}"

    def growing(self, answers: Sequence[Answer]) -> list[Text]:
        """Answers while they are written; scores come at their ends."""
        return self._painted(answers, [self._numbers(answer) for answer in answers])

    def finished(self, prompt: str, answers: Sequence[Answer]) -> list[Text]:
        """Answers that are written.

        Args:
            prompt: What was asked.
            answers: Of each model.
        """
        if self._scorer is None:
            return self.growing(answers)
        from llm_gym.cli.scoring import worth
        from llm_gym.stages.scored import scores_so_far

        columns = [self._numbers(answer) for answer in answers]
        if self._name == "score":
            columns = [[*scores_so_far(self._scorer, prompt, each.beginnings)] for each in answers]
        painted = self._painted(answers, columns)
        values = self._scorer.score([prompt] * len(answers), [each.text for each in answers]).values
        for text, value in zip(painted, values, strict=True):
            text.append(f"\n\nscore {worth(float(value), self._scorer.highest)}", style="bold")
        return painted

    def _numbers(self, answer: Answer) -> list[float | None]:
        if self._name is None:
            return []
        return [COLOURS[self._name].of(token) for token in answer.tokens]

    def _painted(
        self, answers: Sequence[Answer], columns: Sequence[Sequence[float | None]]
    ) -> list[Text]:
        """Answers over one scale, so that one colour is one number."""
        known = [x for column in columns for x in column if x is not None and math.isfinite(x)]
        if self._name is None or not known:
            return [as_rich(answer.text) for answer in answers]
        share = COLOURS[self._name].is_share
        low, high = (1.0, 0.0) if share else (min(known), max(known))
        return [
            _coloured(answer.texts, [_place(x, low, high) for x in column])
            for answer, column in zip(answers, columns, strict=True)
        ]


def _place(x: float | None, low: float, high: float) -> float | None:
    """Where a number lies between two, from 0 to 1; None where it is none."""
    if x is None or not math.isfinite(x):
        return None
    return (x - low) / (high - low) if high != low else 0.0


def _coloured(texts: Sequence[str], shades: Sequence[float | None]) -> Text:
    """Tokens in their colours. A line's end has none, or a terminal would paint to its edge."""
    from rich.text import Text

    painted = Text()
    for text, shade in zip(texts, shades, strict=True):
        for number, line in enumerate(printable(text).split("\n")):
            painted.append("\n" if number else "")
            painted.append(line, style="" if shade is None else _style(shade))
    return painted


def _style(shade: float) -> str:
    """Ink that can be read on a background between pale and blue."""
    mixed = [round(pale + (up - pale) * shade) for pale, up in zip(_PALE, _UP, strict=True)]
    ink = _LIGHT_INK if shade > _DARK_FROM else _DARK_INK
    return f"{ink} on rgb({','.join(map(str, mixed))})"
