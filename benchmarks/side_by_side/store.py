"""What is done, one JSON line a system and seed, so that a run goes on where it stopped."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from benchmarks.common import whole_lines
from benchmarks.driver import Entry
from benchmarks.side_by_side.equivalence import Run
from benchmarks.workload import Workload
from llm_gym.files.provenance import commit, versions


class Store:
    """The finished runs of an output folder.

    Args:
        path: The file of lines; may be there already. A last line that an interruption cut off is
            dropped from it.

    Raises:
        ValueError: Another line is not what this class wrote.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lines: list[dict[str, Any]] = []
        path.parent.mkdir(parents=True, exist_ok=True)
        for number, line in enumerate(whole_lines(path), start=1):
            try:
                self._lines.append({name: line[name] for name in _FIELDS})
            except (KeyError, TypeError) as error:
                raise ValueError(
                    f"{path}, line {number} is not a finished run ({error!r}); delete that line, "
                    "and the run will be done again"
                ) from error

    def find(self, system: str, entry: Entry, workload: Workload, batches: int) -> Run | None:
        """The first `batches` batches of a run under the same conditions, if there is one.

        Raises:
            ValueError: The file has this run under other conditions.
        """
        conditions = _conditions(entry, workload)
        for line in self._lines:
            same_run = line["system"] == system and _seed_and_task(line["conditions"]) == (
                _seed_and_task(conditions)
            )
            if not same_run:
                continue
            if line["conditions"] != conditions:
                raise ValueError(
                    f"{self.path} has {system} with seed {workload.seed} under other settings: "
                    f"{_difference(line['conditions'], conditions)}; choose another --output"
                )
            if len(line["batches"]) >= batches:
                return line["batches"][:batches]
        return None

    def add(self, system: str, entry: Entry, workload: Workload, run: Run) -> None:
        """Keeps a run; it is on disk when this returns."""
        line = {
            "system": system,
            "conditions": _conditions(entry, workload),
            "batches": run,
            "versions": versions(),
            "commit": commit(),
        }
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(line, allow_nan=False) + "\n")
            file.flush()
            os.fsync(file.fileno())
        self._lines.append(line)


_FIELDS = ("system", "conditions", "batches", "versions", "commit")


def _conditions(entry: Entry, workload: Workload) -> dict[str, Any]:
    """All that decides what a run learns, as JSON gives it back."""
    settings = {**workload.as_dict(), "options": entry.options, "module": entry.system}
    return json.loads(json.dumps(settings))


def _seed_and_task(conditions: dict[str, Any]) -> tuple[Any, ...]:
    """What tells two runs of a system apart that are both wanted in one file."""
    return tuple(conditions[name] for name in ("seed", "task", "layers", "width"))


def _difference(old: dict[str, Any], new: dict[str, Any]) -> str:
    names = [name for name in {**old, **new} if old.get(name) != new.get(name)]
    return ", ".join(f"{name} was {old.get(name)}, now {new.get(name)}" for name in names)
