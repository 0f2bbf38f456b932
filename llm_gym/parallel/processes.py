"""All processes of a run as one of them sees them."""

from __future__ import annotations

import functools
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    import torch


class World:
    """All processes of a run, as one of them sees them: here, one that is alone.

    Attributes:
        rank: Number of this process, from 0. The first logs, draws and writes.
        size: How many there are.
    """

    rank, size = 0, 1

    def sums(self, *values: float) -> list[float]:
        """Sums over the processes, in float64."""
        return list(values)

    def gather(self, data: bytes) -> list[bytes]:
        """What each of the processes gave, in their order."""
        return [data]

    def reduce_gradients(
        self, parameters: Sequence[torch.Tensor], share: float = 1.0, figures: Sequence[float] = ()
    ) -> list[float]:
        """Makes gradients the sums of all processes' gradients, each times its process's share.

        A parameter keeps no gradient (`None`) only where no process has one.

        Args:
            parameters: Whose gradients; those that are not trained are left out.
            share: Of this process.
            figures: What is summed with them, so that it takes no message of its own.

        Returns:
            The sums of the figures, as `sums` gives them.
        """
        return list(figures)

    def broadcast(self, tensors: Sequence[torch.Tensor]) -> None:
        """Makes tensors those of the first process."""

    @contextmanager
    def failing_together(self) -> Iterator[None]:
        """Has all processes end if the block fails in one of them, with its sentence."""
        yield

    def any(self, flag: bool) -> bool:
        """Whether it is true in one of the processes."""
        return self.sums(flag)[0] > 0

    def union(self, array: NDArray[Any]) -> NDArray[Any]:
        """The arrays of all processes `(n, ...)`, one behind the other `(sum of n, ...)`."""
        return self.unions([array])[0]

    def unions(self, arrays: Sequence[NDArray[Any]]) -> list[NDArray[Any]]:
        """The union of each of some arrays of one type, by one message for all.

        Args:
            arrays: As many in every process, at least one; their lengths may differ.
        """
        if self.size == 1:
            return list(arrays)
        lengths = json.dumps([len(array) for array in arrays]).encode()
        of_each = []
        for part in self.gather(lengths + b"\n" + np.concatenate(arrays).tobytes()):
            theirs, _, data = part.partition(b"\n")
            array = np.frombuffer(data, arrays[0].dtype).reshape(-1, *arrays[0].shape[1:])
            of_each.append(np.split(array, np.cumsum(json.loads(theirs))[:-1]))
        return [np.concatenate(same) for same in zip(*of_each, strict=True)]

    def each(self, value: Any) -> list[Any]:
        """What each of the processes has: JSON-able."""
        if self.size == 1:
            return [value]
        return [json.loads(part) for part in self.gather(json.dumps(value).encode())]

    def of_first(self, value: Any) -> Any:
        """What the first process has: JSON-able."""
        return self.each(value if self.rank == 0 else None)[0]

    def means(self, figures: Mapping[str, float], weight: float) -> dict[str, float]:
        """Means of figures over those processes that have them, each weighing what it says."""
        found: dict[str, tuple[list[float], list[float]]] = {}
        for share, theirs in self.each([weight, dict(figures)]):
            for name, value in theirs.items():
                values, weights = found.setdefault(name, ([], []))
                values.append(value)
                weights.append(share)
        return {name: _mean(*pair) for name, pair in found.items()}


def _mean(values: list[float], weights: list[float]) -> float:
    if len(set(values)) == 1:  # rounding would make another number of it
        return values[0]
    return float(np.average(values, weights=weights if sum(weights) else None))


ALONE = World()


def world() -> World:
    """The processes of this run: those that `torchrun` has started, or this one alone."""
    return _started() if number_started() > 1 else ALONE


def number_started() -> int:
    """How many processes `torchrun` has started, of which this is one; 1 if it has not."""
    return int(os.environ["WORLD_SIZE"]) if "TORCHELASTIC_RUN_ID" in os.environ else 1


def rank_started() -> int:
    """Which of them this process is; 0 if there is no other."""
    return int(os.environ["RANK"]) if number_started() > 1 else 0


@functools.cache
def _started() -> World:
    from llm_gym.parallel.torchrun import Torchrun

    return Torchrun()
