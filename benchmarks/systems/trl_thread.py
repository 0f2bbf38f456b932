"""Runs a TRL trainer batch by batch.

A trainer's `train()` owns its loop. Here it runs in a thread of its own and is held at the border
between two batches by a callback, so that systems can take turns.
"""

from __future__ import annotations

import threading
import traceback
from collections.abc import Callable
from typing import Any

from transformers import TrainerCallback

from benchmarks.systems.base import Batch, Clock
from benchmarks.tasks import Tally
from benchmarks.workload import FavouredShare, Workload


class Gate(TrainerCallback):
    """Holds the trainer's thread at the start and after every `steps` optimizer steps."""

    def __init__(self, steps: int) -> None:
        self.steps = steps
        self.go, self.done = threading.Semaphore(0), threading.Semaphore(0)

    def on_train_begin(self, *_: Any, **__: Any) -> None:
        """Waits for the first request."""
        self.go.acquire()

    def on_step_end(self, args: Any, state: Any, control: Any, **__: Any) -> None:
        """Report the batch and wait for the next request."""
        if state.global_step % self.steps == 0:
            self.done.release()
            self.go.acquire()


class TrainerInThread:
    """A trainer behind the interface of a system.

    Args:
        workload: Model, task and sizes of everything.
        scorer: The trainer's scorer, read for the reward of a batch.
        rollout_clock: Runs while the trainer generates.
        gate: The callback that `train` was given.
        train: The trainer's `train`.
    """

    def __init__(
        self,
        workload: Workload,
        scorer: FavouredShare | Tally,
        rollout_clock: Clock,
        gate: Gate,
        train: Callable[[], Any],
    ) -> None:
        self.workload, self.scorer, self.gate = workload, scorer, gate
        self.rollout_clock = rollout_clock
        self.train, self._failure = train, ""
        self._thread = threading.Thread(target=self._run, daemon=True)

    def train_batch(self) -> Batch:
        """Lets the trainer do one batch.

        Raises:
            RuntimeError: The trainer stopped by itself; its traceback is in the message.
        """
        if self._thread.ident is None:
            self._thread.start()
        self.gate.go.release()
        self.gate.done.acquire()
        if self._failure:
            raise RuntimeError(self._failure)
        tokens = self.workload.tokens_per_batch
        if self.workload.is_ragged and isinstance(self.scorer, Tally):
            tokens = self.scorer.tokens
        return Batch(tokens, self.scorer.last_mean)

    def _run(self) -> None:
        try:
            self.train()
            self._failure = "the trainer ended before it was told to"
        except Exception:
            self._failure = traceback.format_exc()
        finally:
            self.gate.done.release()
