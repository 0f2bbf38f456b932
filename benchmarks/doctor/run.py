"""Does the doctor name what is wrong, and nothing where nothing is? The verdict, as a table.

Faults are planted in small runs on problems whose optimum is known and on polite emails, and
healthy runs are done over tasks, seeds and algorithms. A fault is *named rightly* where the first
finding is one that its row expects; a healthy run with any finding is a false alarm. The table has
the half that the rules were made with ("development") apart from the half that was kept, and from
healthy runs that were drawn when two rules had been changed after a look at that half ("fresh").
One of those got worse by itself; before the next were drawn ("afresh") it was said that a run is
healthy if nothing was planted in it *and* its score rises. The table counts both.

A run that is there is not done again, so a command that was interrupted goes on.

    python benchmarks/doctor/run.py --output runs/doctor                    # 33 CPU minutes
    python benchmarks/doctor/run.py --output runs/doctor --only development
    python benchmarks/doctor/run.py --output runs/doctor --names email-ppo-0 dead-groups
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from benchmarks.common import record
from benchmarks.doctor.settings import DRAWS, FAULTS, HEALTHY, Run, held_out
from benchmarks.doctor.training import DONE, train
from llm_gym.files.atomic import write_json, write_text
from llm_gym.language_models.loading import quiet_libraries
from llm_gym.runs.doctor import diagnose, read_run
from llm_gym.runs.doctor.measures import RETURNS, change

HALVES = ("development", "held-out", *DRAWS)


def half_of(run: Run) -> str:
    """The half that a run is in, or the later draw that it is of."""
    for name, runs in DRAWS.items():
        if run in runs:
            return name
    kind = FAULTS if run.expected else HEALTHY
    return HALVES[run.name in held_out(kind)]


def directory_of(run: Run, output: Path) -> Path:
    """Where a run lies."""
    return output / ("faults" if run.expected else "healthy") / run.name.replace("/", "-")


def parse(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--output", type=Path, required=True, metavar="DIR")
    parser.add_argument("--only", choices=HALVES, help="these alone")
    parser.add_argument("--names", nargs="*", metavar="RUN", help="these runs alone")
    return parser.parse_args(arguments)


def chosen(options: argparse.Namespace) -> list[Run]:
    """The runs that are asked for.

    Raises:
        ValueError: There is none of a name.
    """
    runs = [*FAULTS, *HEALTHY, *(run for draw in DRAWS.values() for run in draw)]
    unknown = set(options.names or ()) - {run.name for run in runs}
    if unknown:
        raise ValueError(f"--names: there is no run {', '.join(sorted(unknown))}")
    return [
        run
        for run in runs
        if (options.only in (None, half_of(run)))
        and (not options.names or run.name in options.names)
    ]


def verdicts(runs: Sequence[Run], output: Path) -> list[dict[str, Any]]:
    """What the doctor says of each run that is there."""
    told = []
    for run in runs:
        directory = directory_of(run, output)
        if (directory / DONE).exists():
            findings = diagnose(directory)
            told.append(
                {
                    "run": run.name,
                    "half": half_of(run),
                    "what": run.what,
                    "expected": list(run.expected),
                    "found": [finding.id for finding in findings],
                    "wrong": [finding.id for finding in findings if finding.is_wrong],
                    "rose": change(read_run(directory).curve(*RETURNS)).size > 0,
                }
            )
    return told


def is_right(row: dict[str, Any]) -> bool:
    """Whether the first finding names the fault; of a healthy run, whether all are notes."""
    if not row["expected"]:
        return not row["wrong"]
    return bool(row["found"]) and row["found"][0] in row["expected"]


def summary(rows: Sequence[dict[str, Any]]) -> list[str]:
    """The counts of each half, as a table."""
    lines = [
        "| half | faults | named rightly | named, not first | without a fault | alarms "
        "| whose score rose | alarms |",
        f"|{'---|' * 8}",
    ]
    for half in HALVES:
        here = [row for row in rows if row["half"] == half]
        if not here:
            continue
        faults = [row for row in here if row["expected"]]
        healthy = [row for row in here if not row["expected"]]
        right = sum(map(is_right, faults))
        among = sum(bool({*row["found"]} & {*row["expected"]}) for row in faults)
        rose = [row for row in healthy if row["rose"]]
        counts = [len(faults), right, among - right]
        for these in (healthy, rose):
            counts += [len(these), len(these) - sum(map(is_right, these))]
        lines.append(f"| {half} | {' | '.join(map(str, counts))} |")
    return lines


def table(rows: Sequence[dict[str, Any]]) -> list[str]:
    """Every fault with what was found, and the false alarms."""
    lines = ["| fault | what is wrong | half | first finding | further |", "|---|---|---|---|---|"]
    for row in rows:
        if row["expected"] or not is_right(row):
            first, *further = row["found"] or ["nothing"]
            mark = f"`{first}`" if is_right(row) else f"**{first}**"
            name = row["run"] if row["expected"] else f"none ({row['run']})"
            more = ", ".join(f"`{each}`" for each in further)
            lines.append(f"| `{name}` | {row['what']} | {row['half']} | {mark} | {more} |")
    return lines


def main(arguments: Sequence[str] | None = None) -> None:
    """Does the runs that are not there yet, and prints the verdict."""
    options = parse(arguments)
    quiet_libraries()
    runs = chosen(options)
    for run in runs:
        done = train(run, directory_of(run, options.output))
        ended = f", {done['ended']}" if done["ended"] else ""
        print(f"{run.name}: {done['cpu_seconds']:.1f} CPU s{ended}", file=sys.stderr, flush=True)
    rows = verdicts(runs, options.output)
    told = "\n".join([*summary(rows), "", *table(rows)]) + "\n"
    write_text(options.output / "verdict.md", told)
    write_json(options.output / "results.json", {**record({}), "verdicts": rows})
    print(told, end="")


if __name__ == "__main__":
    main()
