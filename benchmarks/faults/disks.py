"""Disks that fail: full, broken, read-only, forbidden; once, or from some moment on."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from benchmarks.faults.commands import COMMANDS
from benchmarks.faults.driver import Fault
from benchmarks.faults.rows import Row
from benchmarks.faults.trials import Bench, benches, seen, spread, told_at

ERRORS = {
    "ENOSPC": {"create", "mkdir", "write", "truncate", "fsync", "link", "symlink"},
    "EIO": None,
    "EROFS": None,
    "EACCES": {"create", "open", "mkdir", "rmdir", "rename", "unlink", "chmod", "link", "symlink"},
}
"""What can fail so: a full disk lets files be removed, a forbidden directory lets open ones be
written; None is everything."""
QUICK_POINTS = 4  # of each error


def measure(output: Path, quick: bool, commands: Sequence[str] = tuple(COMMANDS)) -> Iterator[Row]:
    """Lets the disk fail under every command.

    Args:
        output: Directory for the runs.
        quick: A few points of each command and error in place of all.
        commands: Names of the commands.

    Yields:
        A row as soon as it is known: all of them take hours.
    """
    for bench in benches(output, commands):
        for name in ERRORS:
            yield failing(bench, name, QUICK_POINTS if quick else None)


def failing(bench: Bench, error: str, at_most: int | None = None) -> Row:
    """Lets each file operation of a run fail that can; every other time, all later ones, too.

    Args:
        bench: The command.
        error: Name of the error.
        at_most: Operations to try, evenly spread; None tries all.
    """
    names = ERRORS[error]
    met = [i for i, each in enumerate(bench.operations, 1) if names is None or each.name in names]
    points = spread(met, at_most)
    failures = []
    for turn, number in enumerate(seen(points, f"{bench.command.name}: {error}")):
        lasting = turn % 2 == 1
        if problems := bench.failed(Fault("fail", number, error, lasting)):
            place = told_at(number, bench.operations[number - 1])
            failures.append(f"{place}{' and later' if lasting else ''}: {'; '.join(problems)}")
    what = f"{bench.command.name}: {error} in a file operation"
    return Row(what, len(points) - len(failures), len(points), failures)
