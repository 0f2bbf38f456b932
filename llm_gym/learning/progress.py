"""Callbacks as Stable-Baselines3 takes them, and its progress bar in tokens."""

from __future__ import annotations

from stable_baselines3.common.callbacks import BaseCallback, ConvertCallback, ProgressBarCallback
from stable_baselines3.common.type_aliases import MaybeCallback

from llm_gym.files.ranges import shown


def as_list(callback: MaybeCallback) -> list[BaseCallback]:
    """Whatever Stable-Baselines3 takes as callbacks.

    Raises:
        TypeError: One is none.
    """
    if isinstance(callback, list):
        for each in callback:
            if not isinstance(each, BaseCallback):
                raise TypeError(f"callback has {shown(each)}, which must be a BaseCallback")
        return list(callback)
    if not (callback is None or callable(callback) or isinstance(callback, BaseCallback)):
        raise TypeError(
            f"callback={shown(callback)} must be a BaseCallback, a list of them, a function or None"
        )
    return [callback if isinstance(callback, BaseCallback) else ConvertCallback(callback)]


class TokenBar(ProgressBarCallback):
    """Stable-Baselines3's bar counts a step of every row, also of those whose answer has ended."""

    def _on_training_start(self) -> None:
        self._before = self.model.num_timesteps
        super()._on_training_start()

    def _on_step(self) -> bool:
        self.pbar.update(self.model.num_timesteps - self._before - self.pbar.n)
        return True
