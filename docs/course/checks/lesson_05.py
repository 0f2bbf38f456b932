"""The exercises of lesson 5."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from checks import same


def wants_short(answer: Callable[..., Any]) -> None:
    """100, less 2 for each word above 20, at least 0."""
    texts = ["one two", "word " * 20, "word " * 25, "word " * 90]
    wanted = [100.0, 100.0, 90.0, 0.0]
    same(
        answer(["a prompt"] * 4, texts), wanted, "of texts with 2, 20, 25 and 90 words, the points"
    )


def mixture(answer: Callable[..., Any]) -> None:
    """A weighted mean of two scorers."""

    def length(prompts: list[str], completions: list[str]) -> list[float]:
        return [float(len(text)) for text in completions]

    def zero(prompts: list[str], completions: list[str]) -> list[float]:
        return [0.0 for _ in completions]

    both = answer(length, zero, 0.25)
    if both is None or not callable(both):
        raise AssertionError(f"mixture(...) should be a function, and is {both!r}")
    same(
        both(["p", "p"], ["abcd", "ab"]),
        [1.0, 0.5],
        "a quarter of the length and else 0, of abcd and ab,",
    )
    other = answer(zero, length, 0.25)
    same(other(["p"], ["abcd"]), [3.0], "a quarter of 0 and else the length, of abcd,")
