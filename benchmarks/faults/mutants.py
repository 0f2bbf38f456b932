"""Faults put into the library by hand, one at a time: does a test fail?

They are data: `injected/*.yaml` has a file, the text that stands there exactly once, what takes its
place, and what that would do. One that does the same as before is marked `equivalent`, with the
reason, and is not counted. Every fault is tried in a copy of the tree; what was tried is in a log,
so a run that was stopped goes on, and `--share` counts what a run has tried that was stopped.

    python -m benchmarks.faults.mutants --output runs/faults
    python -m benchmarks.faults.mutants --output runs/faults --again      # those that survived
    python -m benchmarks.faults.mutants --output runs/faults --only learning/kl
"""

from __future__ import annotations

import argparse
import hashlib
import json
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import yaml

from benchmarks.common import ROOT, whole_lines
from benchmarks.faults.fitting import Fitting
from benchmarks.faults.rows import Row, with_interval
from benchmarks.faults.workshop import Workshop

INJECTED = Path(__file__).with_name("injected")
_KEYS = {"effect", "old", "new"}
_QUICK = 12  # every so manyth


class Mutant(NamedTuple):
    """A fault.

    Attributes:
        file: Path in the tree.
        old: What stands there exactly once.
        new: What takes its place.
        effect: What it would do.
        equivalent: Why it does nothing; empty if it does something.
    """

    file: str
    old: str
    new: str
    effect: str
    equivalent: str = ""

    def applied(self, text: str) -> str:
        """A file's text with the fault in it.

        Raises:
            ValueError: The old text does not stand there exactly once.
        """
        count = text.count(self.old)
        if count != 1:
            raise ValueError(
                f"{self.file}: {self.old!r} stands there {count} times, not once; the mutant "
                f"'{self.effect}' in {INJECTED.name}/ has to follow the code"
            )
        return text.replace(self.old, self.new)

    def lines(self, text: str) -> range:
        """The lines it changes, from 1."""
        first = text[: text.index(self.old)].count("\n") + 1
        return range(first, first + self.old.rstrip("\n").count("\n") + 1)

    def key(self, text: str) -> str:
        """Tells this fault in this file from all others."""
        return hashlib.sha256("\0".join((text, self.old, self.new)).encode()).hexdigest()[:16]


def read_mutants(folder: Path = INJECTED) -> list[Mutant]:
    """All faults of a folder.

    Raises:
        ValueError: An entry has other keys than it should.
    """
    mutants = []
    for path in sorted(folder.glob("*.yaml")):
        for file, entries in yaml.safe_load(path.read_text(encoding="utf-8")).items():
            for entry in entries:
                if not _KEYS <= set(entry) <= {*_KEYS, "equivalent"}:
                    raise ValueError(f"{path}, {file}: {entry} must have the keys {sorted(_KEYS)}")
                mutants.append(Mutant(file, **entry))
    return mutants


def texts_of(mutants: Sequence[Mutant], root: Path = ROOT) -> dict[str, str]:
    """Content of the mutants' files, every mutant having been found to fit.

    Raises:
        ValueError: Mutants that do not fit, all of them.
    """
    texts = {m.file: (root / m.file).read_text(encoding="utf-8") for m in mutants}
    problems = []
    for mutant in mutants:
        try:
            mutant.applied(texts[mutant.file])
        except ValueError as error:
            problems.append(str(error))
    if problems:
        raise ValueError("\n".join(problems))
    return texts


def try_out(mutants: Sequence[Mutant], output: Path, *, again: bool = False) -> dict[str, str]:
    """Which test failed on each mutant, by its key; an empty text if none did.

    Args:
        mutants: What to try.
        output: Folder of the log and of the copy of the tree.
        again: Try those that survived before once more.
    """
    texts = texts_of(mutants)
    log = output / "mutants.jsonl"
    known = {line["key"]: line["failed"] for line in whole_lines(log)}
    output.mkdir(parents=True, exist_ok=True)
    left = [
        m
        for m in mutants
        if not (known.get(m.key(texts[m.file])) if again else m.key(texts[m.file]) in known)
    ]
    left.sort(key=lambda m: m.key(texts[m.file]))  # a run that is stopped has tried a share of them
    if not left:
        return known
    with Workshop(output / "tree") as workshop:
        fitting = Fitting(workshop, output / "reach.json", [m.file for m in left])
        for number, mutant in enumerate(left, 1):
            text, started = texts[mutant.file], time.monotonic()
            groups = fitting.groups(mutant.file, text, mutant.lines(text))
            failed = workshop.failing_on(mutant.file, mutant.applied(text), groups) or ""
            known[mutant.key(text)] = failed
            line = {"key": mutant.key(text), **mutant._asdict(), "failed": failed}
            with log.open("a", encoding="utf-8") as file:
                file.write(json.dumps(line) + "\n")
            seconds = time.monotonic() - started
            print(
                f"{number}/{len(left)} {seconds:4.0f} s {mutant.file}: {mutant.effect}: "
                f"{failed or 'SURVIVED'}",
                flush=True,
            )
    return known


def drawn(mutants: Sequence[Mutant], share: float) -> list[Mutant]:
    """A random share of them, the same ones each time; a smaller one is part of a larger one."""
    texts = texts_of(mutants)
    return [m for m in mutants if int(m.key(texts[m.file]), 16) < share * 2**64]


def row_of(mutants: Sequence[Mutant], results: dict[str, str]) -> Row:
    """The row of the table: how many of those that do something were caught."""
    texts = texts_of(mutants)
    counted = [m for m in mutants if not m.equivalent]
    survived = [m for m in counted if not results[m.key(texts[m.file])]]
    return Row(
        "mutants injected by hand that a test catches",
        len(counted) - len(survived),
        len(counted),
        [f"{mutant.file}: {mutant.effect}" for mutant in survived],
    )


def measure(output: Path, quick: bool) -> list[Row]:
    """Tries the mutants, or some of them.

    Args:
        output: Folder of the log and of the copy of the tree.
        quick: Try a few.
    """
    mutants = [m for m in read_mutants() if not m.equivalent]
    mutants = mutants[::_QUICK] if quick else mutants
    return [row_of(mutants, try_out(mutants, output))]


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the script; returns the exit code: 1 if a mutant survived."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--output", type=Path, required=True, help="folder of log and copy")
    parser.add_argument("--quick", action="store_true", help="try a few")
    parser.add_argument("--share", type=float, default=1.0, help="share of them, drawn at random")
    parser.add_argument("--again", action="store_true", help="try those that survived once more")
    parser.add_argument("--only", default="", help="files whose path contains this")
    given = parser.parse_args(argv)
    mutants = [m for m in read_mutants() if not m.equivalent and given.only in m.file]
    mutants = drawn(mutants[::_QUICK] if given.quick else mutants, given.share)
    row = row_of(mutants, try_out(mutants, given.output, again=given.again))
    print(f"{row.what}: {with_interval(row)}")
    for failure in row.failures:
        print(f"  survived: {failure}")
    return 1 if row.failures else 0


if __name__ == "__main__":
    sys.exit(main())
