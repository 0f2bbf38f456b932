"""Flies pilots in the fast environment and in JSBSim: same seeds, so same targets and gusts."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from typing import Any

from llm_gym_autopilot.evaluation import FlightEvaluation, evaluate_pilot

from benchmarks.autopilot.entries import GAP_AIRCRAFT, GAP_LEVELS, GAP_PILOTS
from benchmarks.common import mean_with_interval

MISSING = 'jsbsim is not installed (pip install "llm-gym-autopilot[jsbsim]")'


def measure_gap(*, episodes: int, say: Callable[[str], None]) -> dict[str, Any]:
    """Part "gap".

    Args:
        episodes: Flown by each pilot, at each level, of each aeroplane.
        say: Is called with a line of progress now and then.

    Returns:
        `rows`, one a pilot, aeroplane and level: `toy` and `jsbsim` (return and success
        with intervals) and, for the Navion, `difference` of the returns of equal seeds. The toy
        flies the Navion only: that is what the c172p is compared with, too. `skipped`: a
        reason, if nothing was flown.
    """
    if importlib.util.find_spec("jsbsim") is None:
        say(f"gap: skipped, {MISSING}")
        return {"skipped": MISSING}
    rows = []
    for key, label in GAP_PILOTS.items():
        for level in GAP_LEVELS:
            toy = evaluate_pilot(key, turbulence=level, episodes=episodes)
            for aircraft in GAP_AIRCRAFT:
                real = evaluate_pilot(key, "jsbsim", level, episodes, aircraft=aircraft)
                row = gap_row(toy, real)
                rows.append({"pilot": key, "label": label, **row})
                say(
                    f"gap: {label}, {aircraft}, {level}: return "
                    f"{row['toy']['return']['mean']:.2f} in the toy, "
                    f"{row['jsbsim']['return']['mean']:.2f} in JSBSim"
                )
    return {"rows": rows, "episodes": episodes}


def gap_row(toy: FlightEvaluation, real: FlightEvaluation) -> dict[str, Any]:
    """Figures of one pilot, one aeroplane and one level."""
    row: dict[str, Any] = {"aircraft": real.aircraft, "turbulence": real.turbulence}
    for name, flown in (("toy", toy), ("jsbsim", real)):
        row[name] = {
            "return": mean_with_interval(flown.measures["return"]),
            "success": flown.means["success"]._asdict(),
        }
    if toy.aircraft == real.aircraft:
        difference = real.measures["return"] - toy.measures["return"]
        row["difference"] = mean_with_interval(difference)
    return row
