"""What a system has to offer to be measured, and the clock it is measured by."""

from __future__ import annotations

import resource
import sys
import time
from collections.abc import Callable
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

if TYPE_CHECKING:
    from collections.abc import Iterator


class Batch(NamedTuple):
    """One batch of episodes, as a system reports it.

    Attributes:
        tokens: Generated tokens.
        reward: Mean score of the episodes, without any KL term; NaN where nothing scores them.
        scale: What the measured seconds of learning are to be multiplied by. Above 1 only where a
            system did a part of the batch's learning because all of it would take minutes.
    """

    tokens: int
    reward: float
    scale: float = 1.0


class System(Protocol):
    """A system under measurement. A system without one of the two methods is not asked for it."""

    rollout_clock: Clock

    def rollout_batch(self) -> Batch:
        """Generates one batch of episodes, with log-probabilities and values if the system can."""

    def train_batch(self) -> Batch:
        """Everything: generate one batch, score it, and learn from it."""


# Each module of this package has `build(workload, **options) -> System`.
Build = Callable[..., System]


@dataclass
class Clock:
    """Adds up the CPU and wall seconds that its blocks take.

    CPU seconds are those of the whole process, all threads together. On CUDA the device is waited
    for at both ends of a block.
    """

    device: str = "cpu"
    cpu_seconds: float = 0.0
    wall_seconds: float = 0.0

    @contextmanager
    def running(self) -> Iterator[None]:
        """Counts the time of the block."""
        self._wait()
        wall, cpu = time.perf_counter(), time.process_time()
        try:
            yield
        finally:
            self._wait()
            self.wall_seconds += time.perf_counter() - wall
            self.cpu_seconds += time.process_time() - cpu

    def wrap(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """The same function, with its time counted."""

        def counted(*arguments: Any, **keywords: Any) -> Any:
            with self.running():
                return function(*arguments, **keywords)

        return counted

    def _wait(self) -> None:
        if self.device.startswith("cuda"):
            import torch

            torch.cuda.synchronize()


def peak_memory_mb(device: str = "cpu") -> float:
    """Peak memory of this process in 10^6 bytes: resident on a CPU, allocated by torch on CUDA."""
    if device.startswith("cuda"):
        import torch

        return torch.cuda.max_memory_allocated() / 1e6
    unit = 1 if sys.platform == "darwin" else 1024  # ru_maxrss: bytes on macOS, KiB on Linux
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e6
