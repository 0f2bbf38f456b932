"""Held-out prompts in the course of training, and the checkpoint of the best evaluation."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stable_baselines3.common.callbacks import BaseCallback

from llm_gym.files.ranges import check_numbers, shown
from llm_gym.parallel import world
from llm_gym.runs.checkpoint import EVALUATION, save_checkpoint
from llm_gym.runs.directory import read_object

if TYPE_CHECKING:
    from stable_baselines3.common.on_policy_algorithm import OnPolicyAlgorithm

    from llm_gym.runs.evaluation import Evaluation


class EvaluationCallback(BaseCallback):
    """Evaluates every few iterations and at the end, and may keep the best checkpoint.

    The best one is a whole checkpoint beside the numbered ones, which `keep_last` does not count.
    Its score lies in it, in `evaluation.json`, so that a resumed run goes on from there. Of several
    processes the first evaluates. To come before `CheckpointCallback` in the list of callbacks.

    Args:
        measure: Evaluates the algorithm; leaves its random state as it is.
        every: Iterations between two evaluations, counted in whole rollouts of tokens, so that a
            resumed run has them where it would have had them.
        best: Directory for the checkpoint with the highest mean score; None keeps none.

    Attributes:
        latest: The last evaluation; None before the first.
    """

    model: OnPolicyAlgorithm

    def __init__(
        self, measure: Callable[[Any], Evaluation], *, every: int, best: Path | None = None
    ) -> None:
        super().__init__()
        check_numbers(every=every)
        self.measure, self.every, self.best = measure, every, best
        self.latest: Evaluation | None = None
        self._interval, self._evaluated_at = 1, 0

    def _on_training_start(self) -> None:
        self._interval = self.every * self.model.n_steps * self.model.n_envs * world().size
        # One that was due at the checkpoint of a resumed run came before the checkpoint.
        self._evaluated_at = self.model.num_timesteps

    def _on_step(self) -> bool:
        return True

    def _on_rollout_start(self) -> None:
        if self.model.num_timesteps // self._interval > self._evaluated_at // self._interval:
            self._evaluate()

    def _on_training_end(self) -> None:
        if self.model.num_timesteps >= self.model._total_timesteps:  # else it was stopped
            self._evaluate()

    def _evaluate(self) -> None:
        self._evaluated_at = self.model.num_timesteps
        summary = self._summary() if world().rank == 0 else None
        summary = world().of_first(summary)
        if self.best is not None and summary is not None:
            save_checkpoint(self.model, self.best, evaluation=summary)

    def _summary(self) -> dict[str, Any] | None:
        """What is to be said of the algorithm as it is, if none before was better."""
        found = self.measure(self.model)
        if not hasattr(found, "mean_score"):
            raise TypeError(
                f"measure must return what llm_gym.evaluate does, with a mean_score, got "
                f"{shown(found)}"
            )
        self.latest = found
        self.logger.record("eval/mean_score", found.mean_score)
        if self.best is None or found.mean_score <= best_score(self.best):
            return None
        summary = {"step": self.model.num_timesteps, "mean_score": found.mean_score}
        return summary | {"low": found.low, "high": found.high, "prompts": len(found.rows)}


def best_score(directory: Path) -> float:
    """Mean score of the checkpoint that is kept as the best; minus infinity if there is none."""
    found = read_evaluation(directory)
    return float("-inf") if found is None else float(found["mean_score"])


def read_evaluation(directory: Path) -> dict[str, Any] | None:
    """The evaluation that lies in a checkpoint: step, mean score, interval, number of prompts.

    Returns:
        It; None if there is no such checkpoint.
    """
    path = directory / EVALUATION
    if not path.is_file():
        return None
    found: dict[str, Any] = read_object(path)
    return found
