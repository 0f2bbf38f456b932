"""The cockpit in words: what the instruments say, and what a pilot may answer.

An observation becomes one line of ten readings, always in this order, each a name and a number:

    low 230 climb 12 slow 21 speed 54 attack 24 up 31 raising 6 power 54 back 12 throttle 55

| reading | where it is negative | what it is | in |
|---|---|---|---|
| `low` | `high` | how far below the target altitude, or above it | tenths of a metre |
| `climb` | `sink` | rate of climb | tenths of a m/s |
| `slow` | `fast` | how far below the target airspeed, or above it | tenths of a m/s |
| `speed` | | airspeed | m/s |
| `attack` | `counter` | angle of attack | tenths of a degree |
| `up` | `down` | where the nose points: pitch | tenths of a degree |
| `raising` | `lowering` | what the nose does: pitch rate | tenths of a degree a second |
| `power` | | the engine's power | per cent |
| `back` | `forward` | where the stick holds the elevator | tenths of a degree |
| `throttle` | | where the throttle lever is | per cent |

Numbers are rounded to two significant digits. The line is all of the observation, in so many
digits: whoever remembers nothing can fly by it.

An answer is `hold`, or a move of the stick, of the throttle, or of both, from where they are:

    stick back 2            throttle up 1            stick forward 1 throttle down 9

Back raises the nose. A number is from 1 to 9: clicks of 0.4 degrees of the elevator, or of 4 % of
the throttle. Nothing else is understood.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from llm_gym_autopilot.pilots.protocol import (
    ELEVATOR_LIMIT,
    Sight,
    observation_of,
    see,
    to_action,
)

__all__ = [
    "HOLD",
    "LONGEST_LINE",
    "MOST_CLICKS",
    "NAMES",
    "PAIRS",
    "STICK_CLICK",
    "THROTTLE_CLICK",
    "Move",
    "action_of",
    "lines_of",
    "move_to",
    "read_lines",
    "understand",
]

STICK_CLICK = math.radians(0.4)  # of elevator
THROTTLE_CLICK = 0.04
MOST_CLICKS = 9
HOLD = "hold"

_TENTHS, _DEGREES = 10.0, math.degrees(10.0)
# Of a quantity of `Sight`: its name where it is not negative, and where it is, and what a unit is.
_READINGS = (
    ("altitude_error", "low", "high", _TENTHS),
    ("climb", "climb", "sink", _TENTHS),
    ("airspeed_error", "slow", "fast", _TENTHS),
    ("airspeed", "speed", "", 1.0),
    ("alpha", "attack", "counter", _DEGREES),
    ("pitch", "up", "down", _DEGREES),
    ("pitch_rate", "raising", "lowering", _DEGREES),
    ("power", "power", "", 100.0),
    ("elevator", "back", "forward", -_DEGREES),
    ("throttle", "throttle", "", 100.0),
)
PAIRS = tuple((above, below) for _, above, below, _ in _READINGS)  # names of either side
NAMES = tuple(name for pair in PAIRS for name in pair if name)
LONGEST_LINE = " ".join(f"{max(names, key=len)} 9900" for _, *names, _ in _READINGS)
_ANSWER = re.compile(
    r"(?:stick (?P<stick>back|forward) (?P<clicks>[1-9]))?"
    r"(?P<both> (?!$)(?<!^ ))?"
    r"(?:throttle (?P<throttle>up|down) (?P<share>[1-9]))?"
)


class Move(NamedTuple):
    """What an answer does to the controls.

    Attributes:
        back: Clicks of the stick, back positive, from -9 to 9.
        up: Clicks of the throttle.
    """

    back: int
    up: int

    def __str__(self) -> str:
        """The answer in words."""
        said = []
        if self.back:
            said.append(f"stick {'back' if self.back > 0 else 'forward'} {abs(self.back)}")
        if self.up:
            said.append(f"throttle {'up' if self.up > 0 else 'down'} {abs(self.up)}")
        return " ".join(said) or HOLD


def lines_of(observations: NDArray[np.floating]) -> list[str]:
    """What the instruments say.

    Args:
        observations: Of N aeroplanes, `(N, 11)`.

    Returns:
        A line for each.
    """
    seen = see(np.atleast_2d(observations))
    columns = [
        [_reading(value, above, below) for value in _coarse(getattr(seen, name) * unit).tolist()]
        for name, above, below, unit in _READINGS
    ]
    return [" ".join(readings) for readings in zip(*columns, strict=True)]


def _reading(value: float, above: str, below: str) -> str:
    number = int(value)
    return f"{below} {-number}" if number < 0 and below else f"{above} {max(number, 0)}"


def _coarse(values: NDArray[np.floating]) -> NDArray[np.float64]:
    """Whole numbers of two significant digits."""
    whole = np.rint(values)
    step = 10.0 ** np.maximum(np.floor(np.log10(np.maximum(np.abs(whole), 1.0))) - 1.0, 0.0)
    return np.rint(values / step) * step


def read_lines(lines: Sequence[str]) -> NDArray[np.float32]:
    """Observations as far as lines tell them.

    Args:
        lines: N lines of `lines_of`.

    Returns:
        float32 `(N, 11)`.

    Raises:
        ValueError: A text is no line of instruments.
    """
    values = np.array([_values(line) for line in lines]).T
    told = dict(zip([name for name, *_ in _READINGS], values, strict=True))
    return observation_of(Sight(**told, target_airspeed=told["airspeed"] + told["airspeed_error"]))


def _values(line: str) -> list[float]:
    words = line.split(" ")
    values = []
    for (_, above, below, unit), name, number in zip(
        _READINGS, words[::2], words[1::2], strict=False
    ):
        if name not in (above, below) or not (number.isascii() and number.isdigit()):
            break
        values.append((1.0 if name == above else -1.0) * int(number) / unit)
    if len(values) < len(_READINGS) or len(words) > 2 * len(_READINGS):
        raise ValueError(
            f"line={line!r} is no line of instruments, as llm_gym_autopilot.words says"
        )
    return values


def understand(answer: str) -> Move | None:
    """What an answer means.

    Args:
        answer: What somebody said.

    Returns:
        The move; None if it means none.
    """
    if answer == HOLD:
        return Move(0, 0)
    found = _ANSWER.fullmatch(answer)
    if found is None or not answer:
        return None
    if (found["both"] is not None) != bool(found["stick"] and found["throttle"]):
        return None
    back = int(found["clicks"] or 0) * (1 if found["stick"] == "back" else -1)
    return Move(back, int(found["share"] or 0) * (1 if found["throttle"] == "up" else -1))


def move_to(observation: NDArray[np.floating], action: NDArray[np.floating]) -> list[Move]:
    """The moves that come nearest to what pilots want.

    Args:
        observation: `(N, 11)`, which says where stick and throttle are.
        action: Stick and throttle lever that are wanted, `(N, 2)` from -1 to 1.

    Returns:
        A move for each.
    """
    seen = see(observation)
    back = (ELEVATOR_LIMIT * action[:, 0] + seen.elevator) / STICK_CLICK
    up = ((action[:, 1] + 1) / 2 - seen.throttle) / THROTTLE_CLICK
    clicks = np.clip(np.rint([back, up]), -MOST_CLICKS, MOST_CLICKS).astype(int).T  # (N, 2)
    return [Move(*row) for row in clicks.tolist()]


def action_of(observation: NDArray[np.floating], moves: Sequence[Move]) -> NDArray[np.float32]:
    """Stick and throttle lever after moves.

    Args:
        observation: `(N, 11)`, which says where they are.
        moves: A move for each.

    Returns:
        float32 `(N, 2)` from -1 to 1.
    """
    seen = see(observation)
    back, up = np.array(moves, dtype=np.float64).T  # (N,)
    return to_action(seen.elevator - STICK_CLICK * back, seen.throttle + THROTTLE_CLICK * up)
