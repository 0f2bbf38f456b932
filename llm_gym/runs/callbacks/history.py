"""The logged figures of a run, as JSON lines in a file or as columns in memory; its speed."""

from __future__ import annotations

import json
import math
import numbers
import time
from array import array
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, TextIO

from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.logger import KVWriter

from llm_gym.runs.logs import cut_rows

Row = dict[str, Any]  # a number, or None where it was not finite


_ABSENT = math.inf  # in a column, where a row has no such figure; None is NaN there


class _Columns:
    """Rows in memory, an array for each figure: eight bytes a number, where a dict takes 100."""

    def __init__(self) -> None:
        self._columns: dict[str, array[float]] = {}
        self._length = 0

    def append(self, row: Row) -> None:
        for key in row.keys() - self._columns.keys():
            self._columns[key] = array("d", [_ABSENT]) * self._length
        for key, column in self._columns.items():
            value = row.get(key, _ABSENT)
            column.append(math.nan if value is None else value)
        self._length += 1

    def rows(self, *keys: str) -> Iterator[Row]:
        columns = {key: self._columns[key] for key in keys or self._columns if key in self._columns}
        for index in range(self._length):
            row: Row = {
                key: None if math.isnan(column[index]) else column[index]
                for key, column in columns.items()
                if column[index] != _ABSENT
            }
            yield {**row, "step": int(row["step"])}


class History(KVWriter):
    """An output format for Stable-Baselines3's logger that can tell every row.

    With a file it keeps nothing in memory, and reads the rows back where somebody asks for them.

    Args:
        path: Append each row to this file, one JSON object a line, at once, so that a run that is
            killed keeps its curve. None keeps rows in memory, eight bytes a number.
        resume_at: Rows that `path` already holds stay up to this step (in tokens); later ones were
            written after the checkpoint that is being resumed and are dropped, and so is what
            follows a damaged line. None starts the file anew.
        listener: Called with each new row.
    """

    def __init__(
        self,
        path: str | Path | None = None,
        *,
        resume_at: int | None = None,
        listener: Callable[[Row], None] | None = None,
    ) -> None:
        self._listener = listener
        self._file: TextIO | None = None
        self._memory = _Columns() if path is None else None
        if path is not None:
            self._path = Path(path).absolute()
            cut_rows(self._path, resume_at)
            self._file = open(self._path, "a", encoding="utf-8")  # noqa: SIM115 - in close()

    @property
    def rows(self) -> list[Row]:
        """All rows, oldest first, made anew whenever they are asked for."""
        return list(self._each())

    def write(
        self, key_values: dict[str, Any], key_excluded: dict[str, tuple[str, ...]], step: int = 0
    ) -> None:
        """Keeps the numbers among `key_values`, None for what is not finite; see `Logger.dump`."""
        row: Row = {"step": step, **numbers_or_gaps(key_values)}
        if self._memory is not None:
            self._memory.append(row)
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
        curves: dict[str, dict[float, float]] = {key: {} for key in keys}
        for row in self._each("step", *keys):
            for key in keys:
                if key in row:
                    curves[key][row["step"]] = math.nan if row[key] is None else row[key]
        for points in curves.values():
            if points:
                return list(points.keys()), list(points.values())
        return [], []

    def _each(self, *keys: str) -> Iterator[Row]:
        """The rows one at a time; of those in memory only these figures."""
        return _each_row(self._path) if self._memory is None else self._memory.rows(*keys)


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
    return list(_each_row(Path(path)))


def _each_row(path: Path) -> Iterator[Row]:
    broken: ValueError | None = None
    with open(path, encoding="utf-8") as file:
        for number, line in enumerate(file, start=1):
            if broken is not None:  # and it is not the last
                raise broken
            try:
                row = json.loads(line)
            except (ValueError, RecursionError) as error:
                broken = ValueError(f"{path}: line {number} is not JSON: {error}")
                continue
            yield row


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
