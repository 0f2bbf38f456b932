"""Runs that are killed: at random moments, before each file operation, in the middle of a write."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from benchmarks.faults.commands import COMMANDS
from benchmarks.faults.driver import Fault
from benchmarks.faults.rows import Row
from benchmarks.faults.trials import Bench, benches, seen, spread, told_at

RUNS, QUICK_RUNS = 30, 3  # of each command, killed at random moments
KILLS = 4  # at most, in each of them
QUICK_POINTS = 12


def measure(output: Path, quick: bool, commands: Sequence[str] = tuple(COMMANDS)) -> Iterator[Row]:
    """Kills every command, and starts it again.

    Args:
        output: Directory for the runs.
        quick: A dozen points of each command in place of all.
        commands: Names of the commands.

    Yields:
        A row as soon as it is known: all of them take hours.
    """
    for bench in benches(output, commands):
        yield at_random(bench, QUICK_RUNS if quick else RUNS)
        yield before_operations(bench, QUICK_POINTS if quick else None)
        yield within_writes(bench, QUICK_POINTS if quick else None)


def at_random(bench: Bench, runs: int) -> Row:
    """Kills runs at random moments, each up to `KILLS` times; the moments have a seed.

    Args:
        bench: The command.
        runs: How many.
    """
    generator = np.random.default_rng(sum(bench.command.name.encode()))
    failures, kills = [], 0
    for number in seen(range(1, runs + 1), f"{bench.command.name}: random"):
        moments = generator.uniform(0, bench.seconds, KILLS).tolist()
        times, problems = bench.killed_at_random(moments)
        kills += times
        if problems:
            failures.append(f"run {number}, killed {times} times: {'; '.join(problems)}")
    what = f"{bench.command.name}: SIGKILL at random moments ({kills} kills)"
    return Row(what, runs - len(failures), runs, failures)


def before_operations(bench: Bench, at_most: int | None = None) -> Row:
    """Kills a run before each of its file operations.

    Args:
        bench: The command.
        at_most: Operations to try, evenly spread; None tries all.
    """
    points = spread(range(1, len(bench.operations) + 1), at_most)
    return _killed(bench, "kill", "SIGKILL before a file operation", points)


def within_writes(bench: Bench, at_most: int | None = None) -> Row:
    """Kills a run after half of each of its writes.

    Args:
        bench: The command.
        at_most: Writes to try, evenly spread; None tries all.
    """
    writes = [i for i, each in enumerate(bench.operations, start=1) if each.name == "write"]
    return _killed(bench, "tear", "SIGKILL in the middle of a write", spread(writes, at_most))


def _killed(bench: Bench, action: str, what: str, points: list[int]) -> Row:
    failures = []
    for number in seen(points, f"{bench.command.name}: {action}"):
        if problems := bench.killed(Fault(action, number)):
            place = told_at(number, bench.operations[number - 1])
            failures.append(f"{place}: {'; '.join(problems)}")
    name = f"{bench.command.name}: {what}"
    return Row(name, len(points) - len(failures), len(points), failures)
