"""Callbacks and log writers for Stable-Baselines3: history, live view, samples, checkpoints."""

from __future__ import annotations

from typing import TYPE_CHECKING

from llm_gym._submodules import submodule_getter
from llm_gym.runs.callbacks.checkpoints import CheckpointCallback, stop_on_signals
from llm_gym.runs.callbacks.critic_start import CriticStart
from llm_gym.runs.callbacks.evaluations import EvaluationCallback
from llm_gym.runs.callbacks.history import History, ThroughputCallback
from llm_gym.runs.callbacks.progress import ProgressCallback
from llm_gym.runs.callbacks.samples import SampleCallback
from llm_gym.runs.callbacks.token_trace import TokenTrace
from llm_gym.runs.divergence import DivergenceCallback

__all__ = [
    "CheckpointCallback",
    "CriticStart",
    "DivergenceCallback",
    "EvaluationCallback",
    "History",
    "ProgressCallback",
    "SampleCallback",
    "ThroughputCallback",
    "TokenTrace",
    "stop_on_signals",
]

if not TYPE_CHECKING:  # type checkers know the submodules
    __getattr__ = submodule_getter(__name__)
