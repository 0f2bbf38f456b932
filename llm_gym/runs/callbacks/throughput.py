"""Tokens per second, rollout and update together."""

from __future__ import annotations

import time

from stable_baselines3.common.callbacks import BaseCallback

__all__ = ["ThroughputCallback"]


class ThroughputCallback(BaseCallback):
    """Records `time/tokens_per_second`: tokens of an iteration over its whole wall time.

    An iteration runs from the start of one rollout to the start of the next, so the time of the
    gradient steps counts. Stable-Baselines3's own `time/fps` is the mean since the run began; this
    one shows a slowdown as it happens.
    """

    def __init__(self) -> None:
        super().__init__()
        self._mark: tuple[float, int] | None = None

    def _on_training_start(self) -> None:
        self._mark = None

    def _on_rollout_start(self) -> None:
        now, tokens = time.perf_counter(), self.model.num_timesteps
        if self._mark is not None:
            elapsed = now - self._mark[0]
            if elapsed > 0:
                rate = (tokens - self._mark[1]) / elapsed
                self.logger.record("time/tokens_per_second", rate)
        self._mark = now, tokens

    def _on_step(self) -> bool:
        return True
