"""A random state of its own for a world that draws from Python's and NumPy's global generators."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager
from threading import RLock
from typing import Any, NamedTuple

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
        python = random.Random(seed)  # noqa: S311 -- as games seed it
        numpys: Any = np.random.MT19937(0)
        numpys.state = np.random.RandomState(seed).get_state(legacy=False)
        self._state = _State(python.getstate(), numpys, None)

    @contextmanager
    def lent(self) -> Iterator[None]:
        """Puts the state into the global generators, and takes it out again."""
        with _LOCK:
            theirs = _exchanged(self._state)
            try:
                yield
            finally:
                self._state = _exchanged(theirs)


class _State(NamedTuple):
    """What the global generators have.

    Attributes:
        python: State of `random`.
        numpys: What NumPy's functions draw from. Changing it costs next to nothing, whereas a state
            is 624 numbers to be copied.
        drawn_ahead: NumPy's state, if a normal number was drawn ahead, which NumPy forgets when it
            is given another generator. Normal numbers come in pairs.
    """

    python: tuple[Any, ...]
    numpys: Any
    drawn_ahead: Any


def _exchanged(new: _State) -> _State:
    """Gives the global generators what is new; returns what they had."""
    numpy_random: Any = np.random  # NumPy's types do not know these two functions
    state = numpy_random.get_state(legacy=False)
    drawn_ahead = state if state["has_gauss"] else None
    old = _State(random.getstate(), numpy_random.get_bit_generator(), drawn_ahead)
    random.setstate(new.python)
    numpy_random.set_bit_generator(new.numpys)
    if new.drawn_ahead is not None:
        numpy_random.set_state(new.drawn_ahead)
    return old
