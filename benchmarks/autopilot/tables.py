"""Tables of the autopilot benchmark, as plain text."""

from __future__ import annotations

from typing import Any

from benchmarks.autopilot.entries import LEVELS, MEASURES
from benchmarks.common import columns


def print_tables(results: dict[str, Any]) -> None:
    """Prints a table of every part that was measured, and the reasons for what was skipped."""
    if "agents" in results:
        print_agents(results["agents"])
    if "gap" in results:
        print_gap(results["gap"])
    if "speed" in results:
        print_speed(results["speed"])


def print_agents(part: dict[str, Any]) -> None:
    """A table a level of turbulence."""
    for level in LEVELS:
        rows = [["", *(title for title, _, _ in MEASURES.values())]]
        for figures in part["pilots"].values():
            cells = [
                _interval(figures["levels"][level][name], factor, digits)
                if name in ("return", "success")
                else _number(figures["levels"][level][name]["mean"], factor, digits)
                for name, (_, factor, digits) in MEASURES.items()
            ]
            rows.append([figures["label"], *cells])
        print(f"\nturbulence: {level}\n{columns(rows)}")
    for figures in part["pilots"].values():
        if figures.get("note"):
            print(f"{figures['label']}: {figures['note']}")


def print_gap(part: dict[str, Any]) -> None:
    """The fast environment beside JSBSim."""
    if "skipped" in part:
        print(f"\ngap: skipped, {part['skipped']}")
        return
    head = ["", "aeroplane", "turbulence", "return, toy", "return, JSBSim", "difference"]
    rows = [[*head, "success %, toy", "success %, JSBSim"]]
    for row in part["rows"]:
        difference = row.get("difference")
        rows.append(
            [
                row["label"],
                row["aircraft"],
                row["turbulence"],
                _interval(row["toy"]["return"], 1, 1),
                _interval(row["jsbsim"]["return"], 1, 1),
                "-" if difference is None else _interval(difference, 1, 2),
                _number(row["toy"]["success"]["mean"], 100, 0),
                _number(row["jsbsim"]["success"]["mean"], 100, 0),
            ]
        )
    print(f"\ntoy and JSBSim, {part['episodes']} episodes a row (toy: always the Navion)")
    print(columns(rows))


def print_speed(part: dict[str, Any]) -> None:
    """Steps per CPU second, and ratios with their goals."""
    rows = [["", "steps per CPU second"]]
    for figures in part["contenders"].values():
        median = figures["steps_per_second"]["median"]
        rows.append([figures["label"], f"{median:,.0f}"])
    print(f"\n{columns(rows)}")
    rows = [["ratio", "median and 95 % interval", "goal"]]
    for name, ratio in part["ratios"].items():
        cell = "{median:.3g} [{low:.3g}, {high:.3g}]".format(**ratio)
        rows.append([name, cell, "-" if ratio["goal"] is None else f"{ratio['goal']:g}"])
    print(f"\n{columns(rows)}")
    for key, reason in part["skipped"].items():
        print(f"{key}: skipped, {reason}")


def _number(value: float | None, factor: float, digits: int) -> str:
    return "-" if value is None else f"{factor * value:.{digits}f}"


def _interval(figures: dict[str, float | None], factor: float, digits: int) -> str:
    mean, low, high = (_number(figures[name], factor, digits) for name in ("mean", "low", "high"))
    return f"{mean} [{low}, {high}]"
