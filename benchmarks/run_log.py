"""What a benchmark has done so far, so that an interrupted one goes on where it stopped."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from benchmarks.common import whole_lines


class RunLog:
    """Finished runs, one JSON line each, written as soon as it is done.

    Args:
        path: The file; may be there already.
        names: What the parts of a run's key are called in a line.
        conditions: JSON-able; lines of runs under others do not count.

    Attributes:
        done: Results by key, a tuple with a value for each of `names`.
    """

    def __init__(self, path: Path, names: tuple[str, ...], conditions: dict[str, Any]) -> None:
        self.path, self.names, self.conditions = path, names, conditions
        path.parent.mkdir(parents=True, exist_ok=True)
        self.done: dict[tuple[Any, ...], dict[str, Any]] = {
            tuple(line[name] for name in names): line["found"]
            for line in whole_lines(path)
            if line["conditions"] == conditions
        }

    def add(self, key: tuple[Any, ...], result: dict[str, Any]) -> None:
        """Notes a finished run.

        Args:
            key: A value for each of the names.
            result: JSON-able, finite.
        """
        line = dict(zip(self.names, key, strict=True))
        line |= {"conditions": self.conditions, "found": result}
        with open(self.path, "a", encoding="utf-8") as file:
            file.write(json.dumps(line, allow_nan=False) + "\n")
        self.done[key] = result
