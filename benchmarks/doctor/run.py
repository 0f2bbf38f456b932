"""Does the doctor name what is wrong, and nothing where nothing is? The verdict, as a table.

Faults are planted in small runs on problems whose optimum is known and on polite emails, and
healthy runs are done over tasks, seeds and algorithms. A fault is *named rightly* where the first
finding is one that its row expects; a healthy run with any finding is a false alarm. The table has
the half that the rules were made with ("development") apart from the half that was kept.

A run that is there is not done again, so a command that was interrupted goes on.

    python benchmarks/doctor/run.py --output runs/doctor                    # 15 CPU minutes
    python benchmarks/doctor/run.py --output runs/doctor --only development
    python benchmarks/doctor/run.py --output runs/doctor --names email-ppo-0 dead-groups
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from benchmarks.doctor.settings import FAULTS, HEALTHY, Run, held_out
from benchmarks.doctor.training import train
from llm_gym.language_models.loading import quiet_libraries

HALVES = ("development", "held-out")


def half_of(run: Run) -> str:
    """The half that a run is in."""
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
    parser.add_argument("--only", choices=HALVES, help="one half; default: both")
    parser.add_argument("--names", nargs="*", metavar="RUN", help="these runs alone")
    return parser.parse_args(arguments)


def chosen(options: argparse.Namespace) -> list[Run]:
    """The runs that are asked for.

    Raises:
        ValueError: There is none of a name.
    """
    runs = [*FAULTS, *HEALTHY]
    unknown = set(options.names or ()) - {run.name for run in runs}
    if unknown:
        raise ValueError(f"--names: there is no run {', '.join(sorted(unknown))}")
    return [
        run
        for run in runs
        if (options.only in (None, half_of(run)))
        and (not options.names or run.name in options.names)
    ]


def main(arguments: Sequence[str] | None = None) -> None:
    """Does the runs that are not there yet."""
    options = parse(arguments)
    quiet_libraries()
    for run in chosen(options):
        done = train(run, directory_of(run, options.output))
        ended = f", {done['ended']}" if done["ended"] else ""
        print(f"{run.name}: {done['cpu_seconds']:.1f} CPU s{ended}", flush=True)


if __name__ == "__main__":
    main()
