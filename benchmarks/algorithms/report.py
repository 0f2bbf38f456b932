"""What is reported of runs of all kinds together, and the page."""

from __future__ import annotations

from typing import Any

from benchmarks.algorithms.flight import tables as flight
from benchmarks.algorithms.known_optimum import tables as known_optimum
from benchmarks.algorithms.text import tables as text


def of_all_runs(runs: list[dict[str, Any]]) -> dict[str, Any]:
    """What is reported of runs of every kind alike: crashes, commits, CPU seconds."""
    return {
        "crashed": [
            {"key": run["key"], "error": run["error"]} for run in runs if run["status"] != "done"
        ],
        "commits": sorted({str(run["commit"]) for run in runs}),
        "cpu_seconds": sum(run.get("total_cpu_seconds", 0.0) for run in runs),
    }


def page(results: dict[str, Any]) -> str:
    """Tables of all kinds of runs that there are, and what did not run, as Markdown."""
    parts = [
        part for tables in (known_optimum, text, flight) for part in tables.all_tables(results)
    ]
    if results["cannot_run"]:
        parts.append("Not run: " + "; ".join(results["cannot_run"]) + ".")
    if results["crashed"]:
        lines = [f"- {crash['key']}: {crash['error']}" for crash in results["crashed"]]
        parts.append("Crashed:\n\n" + "\n".join(lines))
    return "\n\n".join(part for part in parts if part) + "\n"
