"""Random streams, one an aeroplane, that cost the same for one and for many.

A NumPy generator per aeroplane would take longer to draw a gust than the physics takes to fly
through it, and one generator for all would tie an aeroplane's weather to how many others fly. So
each row has a SplitMix64 generator (Steele, Lea and Flood, *Fast Splittable Pseudorandom Number
Generators*, OOPSLA 2014): its state is one 64-bit counter, and it reads the same in Python integers
and NumPy arrays.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from llm_gym_autopilot.vector_flight import sin_cos

__all__ = ["NoiseStream", "NoiseStreams", "stream_starts"]

_MASK = (1 << 64) - 1
_GAMMA = 0x9E3779B97F4A7C15
_FIRST, _SECOND = 0xBF58476D1CE4E5B9, 0x94D049BB133111EB
_HALF = 2.0**-32  # both halves of a draw become uniform numbers of 32 bits


def _mixed(value: int) -> int:
    value = ((value ^ (value >> 30)) * _FIRST) & _MASK
    value = ((value ^ (value >> 27)) * _SECOND) & _MASK
    return value ^ (value >> 31)


def stream_starts(seed: int) -> tuple[int, int]:
    """First states of the two streams of a seed; neighbouring seeds start far apart.

    Args:
        seed: Any non-negative integer.

    Returns:
        64-bit integers: for the starts of episodes, and for the gusts during them.
    """
    first = _mixed((_mixed(seed & _MASK) + (seed >> 64)) & _MASK)
    return first, _mixed(first ^ _SECOND)


class NoiseStream:
    """One stream in Python integers.

    Attributes:
        state: The counter, 64 bits. Keep it to go on from here later.
    """

    __slots__ = ("state",)

    def __init__(self, state: int) -> None:
        self.state = state

    def uniform(self) -> float:
        """One number from the open interval (0, 1)."""
        self.state = (self.state + _GAMMA) & _MASK
        return ((_mixed(self.state) >> 32) + 0.5) * _HALF

    def normal_pair(self) -> tuple[float, float]:
        """Two independent standard normal numbers, by Box and Muller's transform."""
        self.state = (self.state + _GAMMA) & _MASK
        bits = _mixed(self.state)
        radius = math.sqrt(-2.0 * math.log(((bits >> 32) + 0.5) * _HALF))
        angle = 2.0 * math.pi * (((bits & 0xFFFFFFFF) + 0.5) * _HALF)
        return radius * math.cos(angle), radius * math.sin(angle)


class NoiseStreams:
    """N streams side by side; row i draws what `NoiseStream` of its state would.

    Args:
        state: Counters, uint64 `(N,)`; they are copied.
        dtype: Dtype of the numbers drawn, float64 or float32.

    Attributes:
        state: Counters, uint64 `(N,)`.
    """

    def __init__(self, state: NDArray[np.uint64], dtype: Any = np.float64) -> None:
        self.state = np.array(state, dtype=np.uint64)
        self._dtype = np.dtype(dtype)
        self._bits = np.empty_like(self.state)
        self._shifted = np.empty_like(self.state)
        self._halves = self._bits.view(np.uint32).reshape(-1, 2)
        self._radius = np.empty(self.state.size, self._dtype)
        self._angle = np.empty(self.state.size, self._dtype)
        self._scratch = np.empty(self.state.size, self._dtype)
        self._pair = np.empty((2, self.state.size), self._dtype)
        self._low, self._high = (0, 1) if np.little_endian else (1, 0)

    def _draw(self) -> None:
        bits, shifted = self._bits, self._shifted
        self.state += np.uint64(_GAMMA)
        np.right_shift(self.state, np.uint64(30), out=shifted)
        np.bitwise_xor(self.state, shifted, out=bits)
        bits *= np.uint64(_FIRST)
        np.right_shift(bits, np.uint64(27), out=shifted)
        bits ^= shifted
        bits *= np.uint64(_SECOND)
        np.right_shift(bits, np.uint64(31), out=shifted)
        bits ^= shifted

    def uniform(self) -> NDArray[np.floating[Any]]:
        """One number a row from (0, 1), `(N,)`."""
        self._draw()
        return ((self._halves[:, self._high] + 0.5) * _HALF).astype(self._dtype, copy=False)

    def normal_pair(self) -> NDArray[np.floating[Any]]:
        """Two standard normal numbers a row, `(2, N)`, in an array that the next draw reuses."""
        self._draw()
        pair, radius, angle = self._pair, self._radius, self._angle
        radius[:] = self._halves[:, self._high]
        radius += 0.5
        radius *= _HALF
        np.log(radius, out=radius)
        radius *= -2.0
        np.sqrt(radius, out=radius)
        angle[:] = self._halves[:, self._low]
        angle += 0.5
        angle *= 2.0 * math.pi * _HALF
        angle -= math.pi
        sin_cos(angle, pair[1], pair[0], self._scratch)
        pair *= radius
        np.negative(pair, out=pair)  # for the half turn that was taken off
        return pair
