"""Callbacks and log writers for Stable-Baselines3: history, live view, samples, checkpoints."""

from __future__ import annotations

from llm_gym.runs.callbacks.checkpoints import CheckpointCallback, stop_on_signals
from llm_gym.runs.callbacks.critic_start import CriticStart
from llm_gym.runs.callbacks.history import History, ThroughputCallback
from llm_gym.runs.callbacks.progress import ProgressCallback
from llm_gym.runs.callbacks.samples import SampleCallback

__all__ = [
    "CheckpointCallback",
    "CriticStart",
    "History",
    "ProgressCallback",
    "SampleCallback",
    "ThroughputCallback",
    "stop_on_signals",
]
