"""A trial: a run meets a fault, is started again, and must end as if nothing had happened."""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from tqdm import tqdm

from benchmarks.faults.commands import COMMANDS, OUTPUT, Command, write_inputs
from benchmarks.faults.driver import LONGEST, Driver, Ending, Fault, Operation
from benchmarks.faults.snapshots import damaged, differences, snapshot

FAILED = 1  # exit code of a run that the machine stopped, not the person's command


class Bench:
    """A command with what its undisturbed run does and leaves.

    Args:
        driver: Runs the commands.
        command: The command.
        directory: Holds the inputs; runs get directories in it.

    Attributes:
        operations: Those of the undisturbed run.
        seconds: How long that took.

    Raises:
        RuntimeError: The command fails without a fault, or two runs leave different things.
    """

    def __init__(self, driver: Driver, command: Command, directory: Path) -> None:
        self.driver = driver
        self.command = command
        self.run = directory / "run"  # the same for all, as settings may hold it
        self.prepared = directory / f"prepared-{_plain(command.name)}"
        self._empty()
        if command.replaces:
            self._succeed(command.replaces)
        shutil.copytree(self.run, self.prepared)
        self.before = snapshot(self.run / OUTPUT / "model")
        left = []
        for _ in range(2):
            self._fresh()
            ending = self._succeed(command.first)
            left.append(snapshot(self.run))
        self.operations, self.seconds = ending.operations, ending.seconds
        self.wanted = left[1]
        if different := differences(left[0], left[1]):
            raise RuntimeError(f"two undisturbed runs of {command.name} differ: {different}")
        self.after = snapshot(self.run / OUTPUT / "model")

    def killed(self, fault: Fault) -> list[str]:
        """Lets a run be killed, and starts it again.

        Returns:
            What was not as it should be; nothing if all was.
        """
        self._fresh()
        ending = self.driver.run(self.command.first, self.run, fault)
        problems = (
            [] if ending.killed or ending.code == 0 else [f"ended otherwise: {_told(ending)}"]
        )
        return [*problems, *self._afterwards()]

    def killed_at_random(self, moments: Sequence[float]) -> tuple[int, list[str]]:
        """Lets a run be killed again and again, each time it was started again.

        Args:
            moments: Seconds after which each start is killed; the last one runs to its end.

        Returns:
            How often it was killed before it was done, and what was not as it should be.
        """
        self._fresh()
        kills = 0
        for number, after in enumerate(moments):
            ending = self._go_on(Fault(after=after)) if number else self._first(Fault(after=after))
            if not ending.killed:
                break
            kills += 1
        return kills, self._afterwards()

    def failed(self, fault: Fault) -> list[str]:
        """Lets the disk fail under a run, and starts it again once the disk is well.

        Returns:
            What was not as it should be; nothing if all was.
        """
        self._fresh()
        ending = self._first(fault)
        return [*self._complaints(ending), *self._afterwards()]

    def _complaints(self, ending: Ending) -> list[str]:
        """How a run whose disk failed said so; a failure that it could do without is none."""
        if ending.code == 0:
            return []
        told = [line for line in ending.errors.splitlines() if "error: " in line]
        problems = []
        if ending.killed and ending.seconds >= LONGEST:
            problems.append("hangs")
        elif "Traceback" in ending.errors or "defect of llm-gym" in ending.errors:
            problems.append(f"traceback: {_told(ending)}")
        elif len(told) != 1:
            problems.append(f"{len(told)} sentences: {_told(ending)}")
        elif ending.code != FAILED:
            problems.append(f"exit code {ending.code}: {_told(ending)}")
        return problems

    def _afterwards(self) -> list[str]:
        """What is there after a fault, and after the run was started again."""
        problems = damaged(self.run)
        if self.command.replaces and snapshot(self.run / OUTPUT / "model") not in (
            self.before,
            self.after,
        ):
            problems.append("neither the old model nor the new one is there")
        ending = self._go_on(Fault())
        if ending.killed:
            return [*problems, "hangs when it is started again"]
        if ending.code:
            return [*problems, f"cannot go on: {_told(ending)}"]
        if "Traceback" in ending.errors:
            problems.append(f"traceback when it goes on: {_told(ending)}")
        return [*problems, *differences(snapshot(self.run), self.wanted)]

    def _first(self, fault: Fault) -> Ending:
        return self.driver.run(self.command.first, self.run, fault)

    def _go_on(self, fault: Fault) -> Ending:
        """As a person does who saw it die: resumes it or, where there is no run, begins it."""
        if self.command.again:
            ending = self.driver.run(self.command.again, self.run, fault)
            if ending.killed or not ending.code:
                return ending
        return self._first(fault)

    def _succeed(self, command: str) -> Ending:
        ending = self.driver.run(command, self.run)
        self.driver.load(ending.modules)
        if ending.code:
            raise RuntimeError(f"{self.command.name} fails without any fault: {_told(ending)}")
        return ending

    def _empty(self) -> None:
        shutil.rmtree(self.run, ignore_errors=True)
        shutil.rmtree(self.prepared, ignore_errors=True)
        self.run.mkdir()

    def _fresh(self) -> None:
        shutil.rmtree(self.run)
        shutil.copytree(self.prepared, self.run)


def benches(output: Path, commands: Iterable[str]) -> Iterator[Bench]:
    """Each command's bench in turn; all share one driver.

    Args:
        output: Directory for the runs; it is made.
        commands: Their names.
    """
    output.mkdir(parents=True, exist_ok=True)
    write_inputs(output)
    with Driver(output / "driver") as driver:
        for name in commands:
            yield Bench(driver, COMMANDS[name], output)


def seen(numbers: Sequence[int], what: str) -> Iterable[int]:
    """The numbers, with a bar that says how many have been tried."""
    return tqdm(numbers, desc=what, disable=None)  # none where nobody looks


def spread(numbers: Sequence[int], at_most: int | None) -> list[int]:
    """At most so many of them, evenly spread, the first and the last among them; None is all."""
    if at_most is None or len(numbers) <= at_most:
        return list(numbers)
    return [numbers[i * (len(numbers) - 1) // max(at_most - 1, 1)] for i in range(at_most)]


def told_at(number: int, operation: Operation) -> str:
    """Where a fault came, for a line of a report."""
    return f"operation {number} ({operation.name} {operation.path})"


def _told(ending: Ending) -> str:
    lines = [line for line in ending.errors.splitlines() if line.strip()]
    return lines[-1].strip()[:200] if lines else f"exit code {ending.code}, nothing said"


def _plain(name: str) -> str:
    return "".join(letter if letter.isalnum() else "-" for letter in name)
