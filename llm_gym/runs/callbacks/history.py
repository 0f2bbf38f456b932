"""The logged figures of a run, kept in memory and as JSON lines in a file; tokens per second."""

from __future__ import annotations

import json
import math
import numbers
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TextIO

from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.logger import KVWriter

from llm_gym.runs.logs import cut_rows

Row = dict[str, Any]  # a number, or None where it was not finite


class History(KVWriter):
    """An output format for Stable-Baselines3's logger that remembers every row.

    Args:
        path: Append each row to this file too, one JSON object a line, at once, so that a run that
            is killed keeps its curve. None keeps rows in memory only.
        resume_at: Rows that `path` already holds are read back up to this step (in tokens); later
            ones were written after the checkpoint that is being resumed and are dropped, and so is
            what follows a damaged line. None starts the file anew.
        listener: Called with each new row.
    """

    def __init__(
        self,
        path: str | Path | None = None,
        *,
        resume_at: int | None = None,
        listener: Callable[[Row], None] | None = None,
    ) -> None:
        self.rows: list[Row] = []
        self._listener = listener
        self._file: TextIO | None = None
        if path is not None:
            path = Path(path)
            self.rows = cut_rows(path, resume_at)
            self._file = open(path, "a", encoding="utf-8")  # noqa: SIM115 - closed in close()

    def write(
        self, key_values: dict[str, Any], key_excluded: dict[str, tuple[str, ...]], step: int = 0
    ) -> None:
        """Keeps the numbers among `key_values`, None for what is not finite; see `Logger.dump`."""
        row: Row = {"step": step, **numbers_or_gaps(key_values)}
        self.rows.append(row)
        if self._file is not None:
            self._file.write(json.dumps(row) + "\n")
            self._file.flush()
        if self._listener is not None:
            self._listener(row)

    def close(self) -> None:
        """Closes the file, if there is one."""
        if self._file is not None:
            self._file.close()

    def curve(self, *keys: str) -> tuple[list[float], list[float]]:
        """Steps and values of the first of `keys` that any row has; rows without it are left out.

        Several keys are given where algorithms log the same thing under different names. Of several
        rows of one step, the last counts. Where it was not finite it is NaN.
        """
        for key in keys:
            points = {
                row["step"]: math.nan if row[key] is None else row[key]
                for row in self.rows
                if key in row
            }
            if points:
                return list(points.keys()), list(points.values())
        return [], []


def finite_numbers(key_values: Mapping[str, Any]) -> dict[str, float]:
    """The finite numbers of a dump, numpy's and torch's too; texts and pictures are left out."""
    return {k: value for k, value in numbers_or_gaps(key_values).items() if value is not None}


def numbers_or_gaps(key_values: Mapping[str, Any]) -> dict[str, float | None]:
    """The numbers of a dump, None for what is not finite, which JSON cannot hold."""
    return {
        key: float(value) if math.isfinite(value) else None
        for key, value in sorted(key_values.items())
        if isinstance(value, numbers.Real)
    }


def read_rows(path: str | Path) -> list[Row]:
    """Reads the rows back; a last line cut off by a crash is ignored."""
    rows = []
    lines = Path(path).read_text(encoding="utf-8").splitlines()
    for number, line in enumerate(lines, start=1):
        try:
            rows.append(json.loads(line))
        except json.JSONDecodeError as error:
            if number == len(lines):
                break
            raise ValueError(f"{path}: line {number} is not JSON: {error}") from error
    return rows


class ThroughputCallback(BaseCallback):
    """Records `time/tokens_per_second`: tokens of an iteration over its whole wall time.

    An iteration runs from the start of one rollout to the start of the next, so the time of the
    gradient steps counts. Stable-Baselines3's own `time/fps` is the mean since the run began; this
    one shows a slowdown as it happens.
    """

    def __init__(self) -> None:
        super().__init__()
        self._mark: tuple[float, int] | None = None

    def _on_training_start(self) -> None:
        self._mark = None

    def _on_rollout_start(self) -> None:
        now, tokens = time.perf_counter(), self.model.num_timesteps
        if self._mark is not None:
            elapsed = now - self._mark[0]
            if elapsed > 0:
                rate = (tokens - self._mark[1]) / elapsed
                self.logger.record("time/tokens_per_second", rate)
        self._mark = now, tokens

    def _on_step(self) -> bool:
        return True
