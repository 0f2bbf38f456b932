"""A random state of its own for a world that draws from Python's and NumPy's global generators."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager
from threading import RLock
from typing import Any

import numpy as np

_LOCK = RLock()  # the generators are the process's


class OwnRandom:
    """Global generators that only one world draws from.

    Many games seed and draw from `random` and `numpy.random` as if they were alone. Between
    `with own.lent():` they have what this object left there the last time, and afterwards the
    generators are as they were: worlds in threads do not disturb each other, nor the caller. One
    at a time may be in there; a world that hangs in there holds up all that share the generators.

    Args:
        seed: What the first use begins with.
    """

    def __init__(self, seed: int = 0) -> None:
        self.seed(seed)

    def seed(self, seed: int) -> None:
        """Begins anew.

        Args:
            seed: From 0 to 2**32 - 1.
        """
        self._state: tuple[Any, Any] = (
            random.Random(seed).getstate(),  # noqa: S311 -- as games seed it
            np.random.RandomState(seed).get_state(),
        )

    @contextmanager
    def lent(self) -> Iterator[None]:
        """Puts the state into the global generators, and takes it out again."""
        with _LOCK:
            theirs = _exchanged(self._state)
            try:
                yield
            finally:
                self._state = _exchanged(theirs)


def _exchanged(new: tuple[Any, Any]) -> tuple[Any, Any]:
    """Sets the states of the global generators; returns those they had."""
    old = random.getstate(), np.random.get_state()  # noqa: NPY002
    random.setstate(new[0])
    np.random.set_state(new[1])  # noqa: NPY002
    return old
