"""How the library fares when it is killed, when the disk fails, and when it is lied to: one table.

    python benchmarks/faults/run.py --output runs/faults             # everything
    python benchmarks/faults/run.py --quick --output runs/faults     # a sample of everything
    python benchmarks/faults/run.py --only kills --output runs/faults

The table has a row for each thing that was tried; `results.json` has every failure, too.
"""

from __future__ import annotations

import argparse
import importlib
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]

PARTS = {
    "kills": "benchmarks.faults.kills",
    "disks": "benchmarks.faults.disks",
    "page": "benchmarks.faults.page",
    "memory": "benchmarks.faults.memory",
    "mutants": "benchmarks.faults.mutants",
    "mutation": "benchmarks.faults.mutation",
    "numbers": "benchmarks.faults.numerics",
    "cost": "benchmarks.faults.cost",
    "checkpoints": "benchmarks.faults.checkpoints",
    "command_lines": "benchmarks.faults.command_lines",
    "api_calls": "benchmarks.faults.api_calls",
    "fuzz": "benchmarks.faults.fuzz",
}
"""Modules by name; each has `measure(output, quick)`, which gives rows."""

OF_COMMANDS = ("kills", "disks")
"""Their `measure` takes names of `COMMANDS`, too."""


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--output", type=Path, required=True, help="directory for runs and results")
    parser.add_argument("--quick", action="store_true", help="a sample of everything")
    parser.add_argument("--only", nargs="+", choices=PARTS, default=list(PARTS), help="parts")
    parser.add_argument(
        "--commands", nargs="+", help="commands that kills and disks try; all if not given"
    )
    options = parser.parse_args()

    from benchmarks.common import columns, record
    from benchmarks.faults.commands import COMMANDS
    from llm_gym.files.atomic import write_json

    if unknown := set(options.commands or ()) - set(COMMANDS):
        parser.error(f"--commands: no {sorted(unknown)}; there are {sorted(COMMANDS)}")
    results = record({"quick": options.quick, "parts": options.only})
    table = [("what was tried", "as it should", "tried")]
    for name in options.only:
        part = importlib.import_module(PARTS[name])
        of_commands = options.commands and name in OF_COMMANDS
        more = {"commands": options.commands} if of_commands else {}
        results[name] = []
        for row in part.measure(options.output / name, options.quick, **more):
            table.append((row.what, f"{row.good:,}", f"{row.tried:,}"))
            results[name].append(row._asdict())
            write_json(options.output / "results.json", results)
    print(columns(table))
    return 0


if __name__ == "__main__":
    sys.path[0] = str(ROOT)
    sys.exit(main())
