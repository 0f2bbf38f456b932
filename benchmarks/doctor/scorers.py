"""Scorers of the planted faults, by name. Each is handed that of the task."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import numpy as np

from llm_gym.feedback.diagnostics import GoldProxy
from llm_gym.polite_email.judge import PolitenessScorer
from llm_gym.scorers.protocol import Scorer

Judge = Callable[..., list[float]]
_URGENT = re.compile(r"\b(?:now|must|need|want|immediately|today|at once)\b|!", re.IGNORECASE)


def scorer_named(name: str, usual: Scorer | None) -> Any:
    """A scorer.

    Args:
        name: Name of a function below, without its underscore.
        usual: The task's own, of tasks that are not about emails.
    """
    judge = PolitenessScorer() if usual is None else usual
    return {
        "constant": lambda: _constant,
        "nearly_impossible": lambda: _nearly_impossible,
        "repetition": lambda: _repetition,
        "shuffled": lambda: _shuffled(judge),
        "thanks": lambda: _thanks,
        "thousands": lambda: _thousands(judge),
        "urgency_with_gold": lambda: GoldProxy(_urgency, judge),
        "words": lambda: _words,
    }[name]()


def _constant(prompts: list[str], completions: list[str]) -> list[float]:
    return [50.0] * len(completions)


def _nearly_impossible(prompts: list[str], completions: list[str]) -> list[float]:
    return [float(len(text) % 61 == 13) for text in completions]


def _repetition(prompts: list[str], completions: list[str]) -> list[float]:
    return [_repeats(text.lower().split()) for text in completions]


def _repeats(words: list[str]) -> float:
    """How many words were said before in the answer, up to 100."""
    return float(min(len(words) - len(set(words)), 100))


def _shuffled(judge: Scorer) -> Judge:
    rng = np.random.default_rng(0)

    def score(prompts: list[str], completions: list[str]) -> list[float]:
        values = np.asarray(judge.score(prompts, completions).values)
        return rng.permutation(values).tolist()

    return score


def _thanks(prompts: list[str], completions: list[str]) -> list[float]:
    return [10.0 * text.lower().count("thank") for text in completions]


def _thousands(judge: Scorer) -> Judge:
    def score(prompts: list[str], completions: list[str]) -> list[float]:
        return (1000.0 * np.asarray(judge.score(prompts, completions).values)).tolist()

    return score


def _urgency(prompts: list[str], completions: list[str]) -> list[float]:
    return [10.0 * min(len(_URGENT.findall(text)), 10) for text in completions]


def _words(prompts: list[str], completions: list[str]) -> list[float]:
    return [float(len(text.split())) for text in completions]
