"""Continuous gusts after Dryden, as MIL-F-8785C gives them for medium and high altitude.

Both components of the air's velocity are Gaussian with the spectra

    Phi_u ~ 1 / (1 + (L w/V)^2),    Phi_w ~ (1 + 3 (L w/V)^2) / (1 + (L w/V)^2)^2,

scale L = 1750 ft and the same standard deviation. The aeroplane's speed through the frozen field is
taken as its reference speed, so that the filters are constant. Gusts are held during a step of 0.2
s.
"""

from __future__ import annotations

import math

from llm_gym_autopilot.aircraft import FEET

__all__ = ["LEVELS", "MIXED", "TRAINING_LEVELS", "DrydenFilter", "gust_deviation"]

SCALE = 1750 * FEET  # m

# Standard deviation of each component, m/s: a tenth of the wind at 20 ft, 15, 30 and 45 knots.
LEVELS = {"none": 0.0, "light": 2.53 * FEET, "moderate": 5.07 * FEET, "severe": 7.6 * FEET}
TRAINING_LEVELS = ("none", "light", "moderate")  # severe is kept for testing
MIXED = "mixed"  # one of the training levels an episode, at random


def gust_deviation(level: str) -> float:
    """Standard deviation of the gusts of a level, m/s.

    Args:
        level: One of `LEVELS`.

    Returns:
        The deviation.

    Raises:
        ValueError: There is no such level.
    """
    if level not in LEVELS:
        raise ValueError(f"turbulence={level!r} must be one of {', '.join(LEVELS)}")
    return LEVELS[level]


class DrydenFilter:
    """Filters of unit variance, discretised for one step, driven by two normal numbers a step.

    The states are `a` for the longitudinal gust, and `b`, `c` for the vertical one:

        u = sigma a,    w = sigma (sqrt(3) b + (1 - sqrt(3)) c) / sqrt(2)

    with da = -a/T dt + sqrt(2/T) dW, db likewise, dc = (b - c)/T dt and T = L/V. The step is exact
    but for the part of c's noise that is independent of b's, which is left out: it is a share of
    3e-5 of c's variance at T = 10 s.

    Args:
        airspeed: Speed through the field, m/s.
        dt: Length of a step, s.
    """

    def __init__(self, airspeed: float, dt: float) -> None:
        h = dt * airspeed / SCALE
        self.decay = math.exp(-h)
        self.feed = h * self.decay  # from b to c
        self.drive = math.sqrt(1.0 - self.decay**2)
        # Covariance of the exact noise of b and c, divided by the deviation of b's.
        stationary = 0.5
        kept = self.decay * (self.feed + self.decay * stationary)
        self.cross_drive = (stationary - kept) / self.drive
        self.weight_b = math.sqrt(1.5)
        self.weight_c = (1.0 - math.sqrt(3.0)) / math.sqrt(2.0)
