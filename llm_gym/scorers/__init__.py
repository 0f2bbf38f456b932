"""Scorers: what a completion is worth.

A scorer is any callable `scorer(prompts, completions, /, **columns)` that returns one number per
completion; TRL reward functions are scorers. See docs/scorers.md.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from llm_gym._submodules import submodule_getter
from llm_gym.scorers.calling import ScorerSignatureError
from llm_gym.scorers.classifier import SequenceClassifierScorer
from llm_gym.scorers.compose import Clip, Scale, WeightedSum
from llm_gym.scorers.http import HTTPScorer
from llm_gym.scorers.judge import JudgeScorer
from llm_gym.scorers.protocol import Scorer, ScorerError, Scores, as_scorer
from llm_gym.scorers.rules import KeywordScorer, LengthScorer, RegexScorer
from llm_gym.scorers.time_limit import TimeLimitScorer

__all__ = [
    "Clip",
    "HTTPScorer",
    "JudgeScorer",
    "KeywordScorer",
    "LengthScorer",
    "RegexScorer",
    "Scale",
    "Scorer",
    "ScorerError",
    "ScorerSignatureError",
    "Scores",
    "SequenceClassifierScorer",
    "TimeLimitScorer",
    "WeightedSum",
    "as_scorer",
]

if not TYPE_CHECKING:  # type checkers know the submodules
    __getattr__ = submodule_getter(__name__)
