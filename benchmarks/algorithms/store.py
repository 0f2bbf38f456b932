"""Runs on disk: one line of JSON each, never lost, and never mixed with those of other settings."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.common import whole_lines

Run = dict[str, Any]


class OtherRunsError(ValueError):
    """A file holds runs of another version or of other settings."""


class RunStore:
    """The lines of one file.

    Args:
        path: The file; made with the first run.
        version: What lines of other versions differ in: versions of the libraries.

    Raises:
        OtherRunsError: The file has lines of another version.
    """

    def __init__(self, path: Path, version: dict[str, str]) -> None:
        self.path, self.version = path, version
        self.runs: list[Run] = whole_lines(path)
        for run in self.runs:
            differing = sorted(
                name
                for name in {*run["version"], *version}
                if run["version"].get(name) != version.get(name)
            )
            if differing:
                was, now = ({n: v.get(n) for n in differing} for v in (run["version"], version))
                raise OtherRunsError(
                    f"{path} holds runs of another version: {was}, now {now}; choose another "
                    "--output, or go on with that version"
                )

    def to_do(self, jobs: Sequence[Run]) -> list[Run]:
        """The jobs that are not done yet; those that crashed are to be done again.

        Args:
            jobs: Dicts with `key` (names the job) and `settings` (fingerprint).

        Raises:
            OtherRunsError: A job was done with other settings.
        """
        done = {run["key"]: run["settings"] for run in self.runs if run["status"] == "done"}
        for job in jobs:
            if done.get(job["key"], job["settings"]) != job["settings"]:
                raise OtherRunsError(
                    f"{self.path} holds {job['key']} with other settings; choose another --output "
                    "for the new ones"
                )
        return [job for job in jobs if job["key"] not in done]

    def add(self, run: Run) -> None:
        """Writes a run at the end of the file."""
        run = {**run, "version": self.version}
        line = json.dumps(run, allow_nan=False) + "\n"
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with open(self.path, "a", encoding="utf-8") as file:
            file.write(line)
            file.flush()
            os.fsync(file.fileno())
        self.runs.append(run)

    def of(self, jobs: Sequence[Run]) -> list[Run]:
        """The last line of each of the jobs that has one."""
        last = {run["key"]: run for run in self.runs}
        return [last[job["key"]] for job in jobs if job["key"] in last]
