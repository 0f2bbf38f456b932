"""Flies a pilot many times and measures it, in the fast environment or in JSBSim.

    from llm_gym_autopilot.evaluation import evaluate_pilot, flight_table
    print(flight_table([evaluate_pilot("pid", turbulence=level) for level in ("none", "severe")]))

or `python -m llm_gym_autopilot evaluate pid lqr`. The same seed means the same starts, targets and
gusts for every pilot and in both simulators, so that differences are the pilots' or the simulators'
own.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray

from llm_gym_autopilot import metrics, task
from llm_gym_autopilot.flight_log import FlightLog, fly_in_jsbsim, fly_together
from llm_gym_autopilot.pilots import PILOTS, Pilot, load_pilot
from llm_gym_autopilot.turbulence import LEVELS, MIXED

__all__ = ["SIMULATORS", "FlightEvaluation", "Interval", "evaluate_pilot", "flight_table", "main"]

Array = NDArray[np.float64]

SIMULATORS = ("toy", "jsbsim")
HELD_OUT_SEED = 1_000_000  # far from the seeds that training and tuning count up from

_RESAMPLES = 2000


class Interval(NamedTuple):
    """A mean over episodes with its 95 % interval: a share's is Wilson's, else a bootstrap.

    Attributes:
        mean: NaN if no episode has the measure.
        low: Lower end.
        high: Upper end.
        episodes: Number of episodes that have the measure.
    """

    mean: float
    low: float
    high: float
    episodes: int


@dataclass(frozen=True, eq=False)
class FlightEvaluation:
    """What `evaluate_pilot` found.

    Attributes:
        pilot: Name of the pilot.
        env: "toy" or "jsbsim".
        aircraft: Name of the aeroplane, as `aircraft=` takes it.
        turbulence: Level, or "mixed".
        seed: Seed of the first episode.
        measures: By name, float64 `(episodes,)`: `return`, `success` (0 or 1), `steps`,
            `rise_time_s` and `settling_time_s` of the altitude, `overshoot_m`, `altitude_rms_m` and
            `airspeed_rms_mps` of the last 30 s, `elevator_deg_per_step`, `throttle_per_step`. See
            `llm_gym_autopilot.metrics`; NaN where an episode lacks it.
        causes: Causes of early ends, one an episode; None where it lasted.
        means: By name, over the episodes that have the measure.
    """

    pilot: str
    env: str
    aircraft: str
    turbulence: str
    seed: int
    measures: dict[str, Array]
    causes: tuple[str | None, ...]
    means: dict[str, Interval]

    @property
    def episodes(self) -> int:
        """Number of episodes flown."""
        return len(self.causes)

    @property
    def mean_return(self) -> float:
        """Mean sum of rewards."""
        return self.means["return"].mean

    @property
    def success_rate(self) -> float:
        """Share of successful episodes, 0 to 1."""
        return self.means["success"].mean

    def to_dict(self, *, per_episode: bool = True) -> dict[str, Any]:
        """JSON-able form; what is NaN here is None there.

        Args:
            per_episode: With the measures of each episode.

        Returns:
            Plain values.
        """
        plain: dict[str, Any] = {
            "pilot": self.pilot,
            "env": self.env,
            "aircraft": self.aircraft,
            "turbulence": self.turbulence,
            "seed": self.seed,
            "episodes": self.episodes,
            "means": {
                name: {key: _plain(value) for key, value in interval._asdict().items()}
                for name, interval in self.means.items()
            },
            "causes": {cause: self.causes.count(cause) for cause in task.CAUSES},
        }
        if per_episode:
            plain["measures"] = {
                name: [_plain(value) for value in values.tolist()]
                for name, values in self.measures.items()
            }
        return plain


def evaluate_pilot(
    pilot: Pilot | str | Path,
    env: str = "toy",
    turbulence: str = MIXED,
    episodes: int = 300,
    seed: int = HELD_OUT_SEED,
    aircraft: str = "navion",
    discrete: bool | None = None,
    name: str | None = None,
) -> FlightEvaluation:
    """Flies episodes with seeds seed, seed + 1, ... and measures them.

    Args:
        pilot: Anything with `predict`, such as a Stable-Baselines3 model; or what `load_pilot`
            takes.
        env: "toy", where all episodes fly side by side, or "jsbsim", one after the other.
        turbulence: A level, or "mixed".
        episodes: How many, each flown once.
        seed: Seed of the first.
        aircraft: "navion", or "c172p" in JSBSim.
        discrete: Whether the pilot clicks; None asks the pilot.
        name: Name of the pilot, for tables.

    Returns:
        Measures of each episode and their means.

    Raises:
        ValueError: An unknown name, or no episodes.
        ImportError: JSBSim is not installed.
    """
    if env not in SIMULATORS:
        raise ValueError(f"env={env!r} must be one of {', '.join(SIMULATORS)}")
    if isinstance(episodes, bool) or not isinstance(episodes, (int, np.integer)) or episodes < 1:
        raise ValueError(f"episodes must be a positive integer, got {episodes!r}")
    if seed < 0:
        raise ValueError(f"seed must not be negative, got {seed}")
    if isinstance(pilot, (str, Path)):
        name = name or (str(pilot) if str(pilot) in PILOTS else Path(pilot).stem)
        pilot = load_pilot(pilot)
    if discrete is None:
        discrete = _is_discrete(pilot)
    fly = fly_together if env == "toy" else fly_in_jsbsim
    log = fly(pilot, aircraft, turbulence, int(episodes), int(seed), discrete)
    measures = _measure(log)
    return FlightEvaluation(
        pilot=name or type(pilot).__name__,
        env=env,
        aircraft=aircraft,
        turbulence=turbulence,
        seed=int(seed),
        measures=measures,
        causes=tuple(log.causes),
        means={
            key: _share(values) if key == "success" else _bootstrap(values)
            for key, values in measures.items()
        },
    )


def _is_discrete(pilot: Any) -> bool:
    known = getattr(pilot, "discrete", None)
    if known is None:
        return isinstance(getattr(pilot, "action_space", None), spaces.Discrete)
    return bool(known)


# ---------------------------------------------------------------------- measuring


def _measure(log: FlightLog) -> dict[str, Array]:
    altitude, airspeed, elevator, throttle = log.readings
    # A flight that ended in its very last step has all readings, but not lasted.
    lasted = np.array([cause is None for cause in log.causes])
    band = np.where(log.gusty, task.ALTITUDE_BAND_GUSTS, task.ALTITUDE_BAND)
    return {
        "return": np.nansum(log.rewards, axis=0),
        "success": (metrics.flight_success(altitude, airspeed, log.gusty) & lasted).astype(float),
        "steps": np.sum(~np.isnan(log.rewards), axis=0).astype(np.float64),
        "rise_time_s": metrics.rise_time(altitude),
        "settling_time_s": np.where(lasted, metrics.settling_time(altitude, band), np.nan),
        "overshoot_m": metrics.overshoot(altitude),
        "altitude_rms_m": metrics.root_mean_square(altitude),
        "airspeed_rms_mps": metrics.root_mean_square(airspeed),
        "elevator_deg_per_step": metrics.control_movement(elevator),
        "throttle_per_step": metrics.control_movement(throttle),
    }


def _bootstrap(values: Array) -> Interval:
    """Percentile interval of the mean (Efron, 1979); the same values give the same interval."""
    values = values[~np.isnan(values)]
    if values.size == 0:
        return Interval(math.nan, math.nan, math.nan, 0)
    picks = np.random.default_rng(0).integers(values.size, size=(_RESAMPLES, values.size))
    low, high = np.percentile(values[picks].mean(axis=1), (2.5, 97.5))
    return Interval(float(values.mean()), float(low), float(high), values.size)


def _share(values: Array) -> Interval:
    """A share with its score interval (Wilson, 1927), which has a width even at 0 and at 1."""
    share, flights, quantile = float(values.mean()), values.size, 1.959963984540054
    prior = quantile**2 / flights
    centre = (share + prior / 2) / (1 + prior)
    half = math.sqrt(prior * (share * (1 - share) + prior / 4)) / (1 + prior)
    return Interval(
        share, max(0.0, min(share, centre - half)), min(1.0, max(share, centre + half)), flights
    )


def _plain(value: float) -> float | None:
    return None if isinstance(value, float) and math.isnan(value) else value


# ---------------------------------------------------------------------- telling

_COLUMNS = (
    ("return", "return", 1.0, 1),
    ("success %", "success", 100.0, 0),
    ("rise s", "rise_time_s", 1.0, 1),
    ("settle s", "settling_time_s", 1.0, 1),
    ("overshoot m", "overshoot_m", 1.0, 1),
    ("altitude rms m", "altitude_rms_m", 1.0, 1),
    ("speed rms m/s", "airspeed_rms_mps", 1.0, 2),
    ("elevator deg/step", "elevator_deg_per_step", 1.0, 2),
    ("throttle %/step", "throttle_per_step", 100.0, 2),
)


def flight_table(evaluations: Sequence[FlightEvaluation]) -> str:
    """Evaluations as a table of plain text, one a line.

    Args:
        evaluations: In the order of the lines.

    Returns:
        Lines without a line end behind the last: means over episodes, the return's and the
        success's with their 95 % intervals.
    """
    head = ("pilot", "flown in", "turbulence", *(title for title, *_ in _COLUMNS))
    rows = [head, *(_row(evaluation) for evaluation in evaluations)]
    widths = [max(len(row[i]) for row in rows) for i in range(len(head))]
    return "\n".join(
        "  ".join(
            cell.ljust(width) if index < 3 else cell.rjust(width)
            for index, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    )


def _row(evaluation: FlightEvaluation) -> tuple[str, ...]:
    cells = []
    for _, measure, factor, digits in _COLUMNS:
        mean, low, high, episodes = evaluation.means[measure]
        cell = f"{factor * mean:.{digits}f}" if episodes else "-"
        if measure in ("return", "success"):
            cell += f" [{factor * low:.{digits}f}, {factor * high:.{digits}f}]"
        cells.append(cell)
    return (
        evaluation.pilot,
        f"{evaluation.env} {evaluation.aircraft}",
        evaluation.turbulence,
        *cells,
    )


def main(argv: Sequence[str] | None = None) -> int:
    """Command line: `evaluate pid lqr --turbulence none severe`.

    Args:
        argv: Arguments behind the command's name; those of the process if None.

    Returns:
        Exit status.
    """
    parser = argparse.ArgumentParser(
        prog="python -m llm_gym_autopilot evaluate",
        description="Fly pilots many times, and print how well they did.",
    )
    parser.add_argument("pilots", nargs="+", help=f"{', '.join(PILOTS)}, or an .npz file")
    parser.add_argument("--env", choices=SIMULATORS, default="toy", help="default: toy")
    parser.add_argument("--aircraft", default="navion", help="navion, or c172p in jsbsim")
    parser.add_argument(
        "--turbulence", nargs="+", choices=(*LEVELS, MIXED), default=list(LEVELS), help="levels"
    )
    parser.add_argument("--episodes", type=int, default=300, help="of each (300)")
    parser.add_argument("--seed", type=int, default=HELD_OUT_SEED, help="of the first episode")
    options = parser.parse_args(argv)
    try:
        pilots = {name: load_pilot(name) for name in options.pilots}
        evaluations = [
            evaluate_pilot(
                pilot,
                options.env,
                level,
                options.episodes,
                options.seed,
                options.aircraft,
                name=name if name in PILOTS else Path(name).stem,
            )
            for name, pilot in pilots.items()
            for level in options.turbulence
        ]
    except (ValueError, FileNotFoundError, ImportError) as error:
        parser.error(str(error))
    print(flight_table(evaluations))
    return 0
