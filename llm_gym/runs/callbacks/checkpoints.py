"""Checkpoints while training, and a stop that loses nothing."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stable_baselines3.common.callbacks import BaseCallback

from llm_gym.files.ranges import check_numbers, shown
from llm_gym.learning.base import AnswerLearner
from llm_gym.parallel import world
from llm_gym.runs.checkpoint import numbered_checkpoint, save_numbered_checkpoint
from llm_gym.runs.divergence import check_distribution
from llm_gym.runs.logs import log_state, read_log, restore_pending
from llm_gym.runs.signals import handled
from llm_gym.runs.training_state import State, of_rollout

if TYPE_CHECKING:
    from stable_baselines3.common.on_policy_algorithm import OnPolicyAlgorithm


class CheckpointCallback(BaseCallback):
    """Saves a checkpoint every few iterations, and at the end.

    Checkpoints are taken between iterations, after the gradient steps and before the next rollout:
    the only moment at which resuming continues exactly. A stop that was asked for takes effect
    there too. An algorithm that samples everything before it learns (`sample_once`) is saved at the
    turn from one to the other as well: its answers and scores may have been dear, and learning is
    long.

    In several processes of one run each takes part, and the first writes.

    Where a rollout may fail, as worlds and scorers can, `save_beginning` keeps all that was before.

    Nothing is saved of a run that has diverged: training ends with a `DivergenceError` instead.

    Args:
        directory: Folder for the checkpoints, one `step-NNN` directory each.
        every: Iterations between two checkpoints.
        keep_last: How many to keep; None keeps all.
        logs: Names of files and folders beside `directory` that the run adds to: a checkpoint says
            how long they were, so that `llm_gym.runs.logs.cut_back` can make them so again. What
            was recorded for their next row is kept in any case.

    Attributes:
        saved: The newest checkpoint of this run; None before the first.
        stopped: Whether training ended because `request_stop` was called.
    """

    model: OnPolicyAlgorithm

    def __init__(
        self,
        directory: str | Path,
        *,
        every: int = 10,
        keep_last: int | None = 2,
        logs: Sequence[str] = (),
    ) -> None:
        super().__init__()
        check_numbers(every=every)
        if keep_last is not None:
            check_numbers(keep_last=keep_last)
        if isinstance(logs, str | Path):
            raise TypeError(f"logs={shown(logs)} is a single name; pass a list of names")
        self.directory = Path(directory)
        self.every = every
        self.keep_last = keep_last
        self.logs = logs
        self.saved: Path | None = None
        self.stopped = False
        self._stop_requested = False
        self._iterations = 0
        # Of the rollout that is on its way: the state and the logs at its beginning.
        self._beginning: tuple[State, dict[str, Any]] | None = None
        self._keeps_beginnings = False

    def request_stop(self) -> None:
        """Asks training to end after this iteration; may be called from a signal handler."""
        self._stop_requested = True

    def _on_training_start(self) -> None:
        self._iterations = 0
        # What the last update recorded is written with the next rollout: Stable-Baselines3 writes a
        # row before it learns.
        log = read_log(self.directory, self.model.num_timesteps)
        if log is not None:
            restore_pending(self.logger, log)

    def _on_rollout_start(self) -> None:
        if world().any(self._stop_requested):
            self.stopped = True
        if self._is_due() or self.stopped:
            self._save()
        self._iterations += 1
        if self._keeps_beginnings:
            self._remember()

    def at_rollout_start(self) -> BaseCallback:
        """A callback that goes before all others, so that nothing is lost if one of them fails.

        Asked for it, this one also keeps what `save_beginning` saves, of a language model.
        """
        self._keeps_beginnings = True
        return _AtRolloutStart(self._remember)

    def _remember(self) -> None:
        state = of_rollout(self.model)
        self._beginning = state, log_state(self.directory.parent, self.logs, self.logger)

    def save_beginning(self) -> Path | None:
        """Saves training as it was when the rollout began that has failed since.

        A rollout leaves weights as they are, so that resuming loses nothing but what was sampled
        in it.

        Returns:
            The checkpoint; None if there is nothing new to keep, or no rollout has failed: an
            update that fails leaves weights that are neither old nor new. In several processes the
            others may wait for this one, so nothing is saved.
        """
        if self._beginning is None or world().size > 1 or not self.model._n_updates:
            return None
        state, log = self._beginning
        path = numbered_checkpoint(self.directory, state[0]["num_timesteps"])
        if path.exists():
            return path
        return save_numbered_checkpoint(
            self.model, self.directory, keep_last=self.keep_last, log=log, beginning=state
        )

    def _is_due(self) -> bool:
        return self._iterations > 0 and self._iterations % self.every == 0

    def _on_step(self) -> bool:
        # A callback cannot stop training at the start of a rollout; this is the next chance. What
        # happens after the checkpoint is not part of it.
        return not self.stopped

    def _on_rollout_end(self) -> None:
        self._beginning = None
        if isinstance(self.model, AnswerLearner) and self.model.is_turning_point():
            self._save()

    def _on_training_end(self) -> None:
        if not self.stopped:
            self._save()

    def _save(self) -> None:
        check_distribution(self.model)
        log = log_state(self.directory.parent, self.logs, self.logger)
        self.saved = save_numbered_checkpoint(
            self.model, self.directory, keep_last=self.keep_last, log=log
        )


class _AtRolloutStart(BaseCallback):
    """Calls a function when a rollout begins."""

    def __init__(self, call: Callable[[], None]) -> None:
        super().__init__()
        self._call = call

    def _on_rollout_start(self) -> None:
        self._call()

    def _on_step(self) -> bool:
        return True


@contextmanager
def stop_on_signals(
    callback: CheckpointCallback, announce: Callable[[str], None]
) -> Iterator[None]:
    """Turns the first Ctrl-C, SIGTERM or SIGHUP into `callback.request_stop()`.

    A second one raises `KeyboardInterrupt` at once, also where the process was started with Ctrl-C
    ignored (a shell's background job); the checkpoint saved last is then the newest. A SIGHUP that
    is ignored (`nohup`) stays so.

    Args:
        callback: The callback that ends training.
        announce: Called with a sentence for the user when the first signal comes.

    Yields:
        Nothing; the former handlers are back when the block ends.
    """
    told = False

    def handle(signum: int) -> None:
        nonlocal told
        if told:
            raise KeyboardInterrupt
        told = True
        callback.request_stop()
        announce("stopping after this iteration with a checkpoint; Ctrl-C again stops at once")

    with handled(handle):
        yield
