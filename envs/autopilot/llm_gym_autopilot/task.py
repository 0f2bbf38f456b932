"""The task around the aeroplane: spaces, reward, ends, and where episodes start.

Everything here is data or a pure function. The environment of one aeroplane, that of many and
JSBSim's share it, so that a policy finds the same task in each.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray

from llm_gym_autopilot.aircraft import FEET

STEP_SECONDS = 0.2
MAX_EPISODE_STEPS = 300

# What an observation holds, what each entry is divided by, and where it is cut off.
CENTRE_AIRSPEED = 53.6  # m/s, subtracted from airspeeds
OBSERVATION_NAMES = (
    "altitude_error",
    "climb_rate",
    "airspeed_error",
    "airspeed",
    "alpha",
    "pitch_rate",
    "pitch",
    "power",
    "elevator_command",
    "throttle_command",
    "target_airspeed",
)
ALTITUDE_SCALE = 30.0  # m
CLIMB_SCALE = 6.0  # m/s
AIRSPEED_ERROR_SCALE = 6.0  # m/s
AIRSPEED_SCALE = 12.0  # m/s
ALPHA_SCALE = 0.1  # rad
PITCH_RATE_SCALE = 0.1  # rad/s
PITCH_SCALE = 0.2  # rad
ELEVATOR_SCALE = 0.1  # rad
OBSERVATION_BOUNDS = np.array([5, 5, 10, 5, 10, 20, 8, 1, 2, 1, 3], dtype=np.float32)

# Clicks of the discrete actions.
NUM_ACTIONS = 9
ELEVATOR_CLICK = math.radians(0.6)
THROTTLE_CLICK = 0.05

# Reward: 1 at the target with still hands, never below 0, so that crashing is never worth it.
ALTITUDE_WEIGHT, ALTITUDE_HALF = 0.6, 15.0  # half of it is lost at 15 m
AIRSPEED_WEIGHT, AIRSPEED_HALF = 0.3, 3.0  # m/s
SMOOTHNESS_WEIGHT = 0.1
ELEVATOR_MOVE, THROTTLE_MOVE = 0.05, 0.2  # a step's movement that costs all of it

# Ends.
ALPHA_MARGIN = math.radians(1.7)  # past the stall
MAX_PITCH = 0.8  # rad
MAX_ALTITUDE_ERROR = 305.0  # m
CAUSES = ("ground", "stall", "overspeed", "underspeed", "pitch", "altitude", "load_factor")

# Where episodes start and what they aim at; drawn uniformly.
START_AIRSPEED = (150 * FEET, 200 * FEET)
START_ALTITUDE = (2500 * FEET, 6500 * FEET)
TARGET_OFFSET = (-300 * FEET, 300 * FEET)
TARGET_AIRSPEED = (150 * FEET, 200 * FEET)
# Standard deviations around the trimmed state.
PITCH_DEVIATION, ALPHA_DEVIATION, PITCH_RATE_DEVIATION = 0.03, 0.01, 0.02

# Success: the target held during the last 15 s; wider bands where there are gusts.
HOLD_STEPS = 75
ALTITUDE_BAND, ALTITUDE_BAND_GUSTS = 20 * FEET, 50 * FEET
AIRSPEED_BAND, AIRSPEED_BAND_GUSTS = 5 * FEET, 10 * FEET
HELD_ALTITUDE_STEPS = math.ceil(0.95 * HOLD_STEPS)
HELD_AIRSPEED_STEPS = math.ceil(0.80 * HOLD_STEPS)


def observation_space() -> spaces.Box:
    """Space of one aeroplane's observation, float32 `(11,)`."""
    return spaces.Box(-OBSERVATION_BOUNDS, OBSERVATION_BOUNDS, dtype=np.float32)


def action_space(discrete: bool) -> spaces.Box | spaces.Discrete:
    """Space of one aeroplane's action.

    Args:
        discrete: Nine combinations of clicks instead of stick and throttle.

    Returns:
        `Discrete(9)` or `Box(-1, 1, (2,), float32)`.
    """
    if discrete:
        return spaces.Discrete(NUM_ACTIONS)
    return spaces.Box(-1.0, 1.0, (2,), dtype=np.float32)


def commands(action: NDArray[np.floating[Any]], elevator_limit: float) -> tuple[Any, Any]:
    """Elevator and throttle of continuous actions.

    Args:
        action: Stick and throttle lever, `(..., 2)`, each from -1 to 1 (cut off beyond).
        elevator_limit: Elevator angle of the full stick, rad.

    Returns:
        Elevator [rad, trailing edge down positive] and throttle [0 to 1], `(...)` each.
    """
    cut = np.clip(action, -1.0, 1.0)
    return -elevator_limit * cut[..., 0], (cut[..., 1] + 1) / 2


def clicked(action: Any, elevator: Any, throttle: Any, elevator_limit: float) -> tuple[Any, Any]:
    """Elevator and throttle after the clicks of discrete actions.

    Args:
        action: `3 * stick + throttle`, each 0 (nose down, less), 1 (none) or 2 (nose up, more).
        elevator: Last command, rad.
        throttle: Last command.
        elevator_limit: rad.

    Returns:
        The new commands.
    """
    stick, lever = action // 3 - 1, action % 3 - 1
    return (
        np.clip(elevator - ELEVATOR_CLICK * stick, -elevator_limit, elevator_limit),
        np.clip(throttle + THROTTLE_CLICK * lever, 0.0, 1.0),
    )


def reward_terms(
    altitude_error: Any, airspeed_error: Any, elevator_move: Any, throttle_move: Any
) -> tuple[Any, Any, Any]:
    """What altitude, airspeed and unrest take from the reward of 1.

    Args:
        altitude_error: m.
        airspeed_error: m/s.
        elevator_move: Change of the elevator command in this step, rad.
        throttle_move: Change of the throttle command.

    Returns:
        Three terms, each zero or negative; the reward is 1 plus their sum.
    """
    off_altitude, off_airspeed = np.abs(altitude_error), np.abs(airspeed_error)
    unrest = np.abs(elevator_move) / ELEVATOR_MOVE + np.abs(throttle_move) / THROTTLE_MOVE
    return (
        -ALTITUDE_WEIGHT * off_altitude / (off_altitude + ALTITUDE_HALF),
        -AIRSPEED_WEIGHT * off_airspeed / (off_airspeed + AIRSPEED_HALF),
        -SMOOTHNESS_WEIGHT * np.minimum(unrest, 1.0),
    )
