"""What a run has written, read for the doctor: figures, looks at tokens, samples and settings."""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from llm_gym.files.schema import read_json
from llm_gym.runs.trace import Look, read_look, trace_files

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]

METRICS = ("metrics.jsonl", "progress.json", "progress.csv")
"""Logs of figures: the library's own, then Stable-Baselines3's. The first that is there is read."""

_SETTINGS = ("settings.json", "config.json")
_STAGES = ("ppo",)  # folders of `rlhf` and `demo` in which reinforcement learning is at work
_STEP = ("step", "time/total_timesteps")
_MOST_LOOKS = 64


@dataclass(frozen=True)
class Curve:
    """The finite values of a figure.

    Attributes:
        steps: int `(n,)`, tokens that had been generated.
        values: float `(n,)`.
        rows: int `(n,)`, which row of the log each is of.
    """

    steps: NDArray[np.int64]
    values: Floats
    rows: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.values)

    def part(self, first: float, last: float = 1.0) -> Curve:
        """What lies between two shares of the curve, at least one value of one that has any."""
        start = min(int(first * len(self)), max(len(self) - 1, 0))
        place = slice(start, max(int(np.ceil(last * len(self))), start + 1))
        return Curve(self.steps[place], self.values[place], self.rows[place])

    @property
    def span(self) -> tuple[int, int]:
        """First and last step."""
        return int(self.steps[0]), int(self.steps[-1])

    @property
    def mean(self) -> float:
        """Mean of the values."""
        return float(self.values.mean())

    @property
    def median(self) -> float:
        """Median of the values."""
        return float(np.median(self.values))

    @property
    def error(self) -> float:
        """Standard error of the mean, of values that have nothing to do with each other."""
        n = len(self)
        return float(self.values.std(ddof=1) / np.sqrt(n)) if n > 1 else math.inf


@dataclass(frozen=True)
class RunRecord:
    """A run as its files tell it.

    Attributes:
        rows: The log: figures by name, None where one was not finite; "step" is in each.
        settings: What the run was asked to do; empty where it does not say.
        looks: What was seen of single tokens, oldest first.
        samples: Answers with `step`, `prompt`, `completion`, `score`, `stop_reason`.
    """

    rows: list[dict[str, Any]]
    settings: Mapping[str, Any] = field(default_factory=dict)
    looks: tuple[Look, ...] = ()
    samples: tuple[Mapping[str, Any], ...] = ()

    @cached_property
    def _curves(self) -> dict[str, Curve]:
        points: dict[str, list[tuple[int, float, int]]] = {}
        for number, row in enumerate(self.rows):
            for name, value in row.items():
                if value is not None and math.isfinite(value):
                    points.setdefault(name, []).append((int(row["step"]), float(value), number))
        return {
            name: Curve(*(np.array(column) for column in zip(*found, strict=True)))
            for name, found in points.items()
        }

    def has(self, name: str) -> bool:
        """Whether a figure was logged, and ever finite."""
        return name in self._curves

    def curve(self, *names: str) -> Curve:
        """The first of these figures that was logged; an empty curve if none was."""
        for name in names:
            if name in self._curves:
                return self._curves[name]
        nothing = np.zeros(0)
        return Curve(nothing.astype(np.int64), nothing, nothing.astype(np.int64))

    @property
    def iterations(self) -> int:
        """How many rollouts it logged."""
        return max(len(self.curve("rollout/ep_rew_mean")), len(self.curve("train/n_updates")))

    @property
    def step(self) -> int:
        """Where it stands."""
        return int(self.rows[-1]["step"])

    def gaps(self, *names: str) -> list[int]:
        """Steps at which one of these figures was not finite."""
        return [int(row["step"]) for row in self.rows if any(row.get(n, 0) is None for n in names)]


def read_run(directory: str | Path) -> RunRecord:
    """Reads what a run has written by now.

    Args:
        directory: Of a run of `train`, `demo`, `rlhf` or an agent; or with a log of
            Stable-Baselines3's, `progress.csv` or `progress.json`.

    Returns:
        The record. A last line that is still being written is left out.

    Raises:
        FileNotFoundError: There is no such directory.
        ValueError: It has no log, or one that is damaged; the message has the file and the line.
    """
    root = Path(directory)
    if not root.is_dir():
        raise FileNotFoundError(f"there is no directory {str(directory)!r}; give a run's")
    places = (root, *(root / stage for stage in _STAGES))
    log = next((p / name for p in places for name in METRICS if (p / name).is_file()), None)
    if log is None:
        raise ValueError(
            f"{directory} holds no run to examine: it has none of {', '.join(METRICS)}"
        )
    rows = list(_csv_rows(log) if log.suffix == ".csv" else _json_rows(log))
    if not rows:
        raise ValueError(f"{log} has no whole row yet: there is nothing to examine")
    folder = log.parent
    files = trace_files(folder)
    kept = files[:: max(1, -(-len(files) // _MOST_LOOKS))]
    return RunRecord(
        [_with_step(row, log, place) for place, row in enumerate(rows, start=1)],
        _settings((folder, root)),
        tuple(read_look(path) for path in kept),
        tuple(_samples(folder / "samples.jsonl")),
    )


def _json_rows(path: Path) -> Iterator[dict[str, Any]]:
    """The whole lines of a file of JSON objects."""
    for place, line in enumerate(_lines(path), start=1):
        if not line.endswith("\n"):  # it is being written
            return
        try:
            row = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise ValueError(f"{path}: line {place} is damaged: {error}") from None
        if not isinstance(row, dict):
            raise ValueError(f"{path}: line {place} is damaged: it is no JSON object")
        yield row


def _csv_rows(path: Path) -> Iterator[dict[str, Any]]:
    """The whole lines of Stable-Baselines3's table; an empty field says nothing."""
    lines = [line for line in _lines(path) if line.endswith("\n")]
    reader = csv.reader(lines)
    names = next(reader, [])
    for place, fields in enumerate(reader, start=2):
        if len(fields) > len(names):
            raise ValueError(
                f"{path}: line {place} is damaged: it has {len(fields)} fields under "
                f"{len(names)} names"
            )
        row = dict(zip(names, fields, strict=False))
        yield {name: _number(text, path, place, name) for name, text in row.items() if text}


def _lines(path: Path) -> list[str]:
    try:
        with open(path, encoding="utf-8", newline="") as file:
            return [line.replace("\r\n", "\n") for line in file]
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} is damaged: {error}") from None


def _number(text: str, path: Path, place: int, name: str) -> float | str:
    try:
        return float(text)
    except ValueError:
        if name.startswith(("rollout/", "train/", "time/")):
            raise ValueError(
                f"{path}: line {place} is damaged: {name} is {text[:40]!r}, not a number"
            ) from None
        return text


def _with_step(row: dict[str, Any], path: Path, place: int) -> dict[str, Any]:
    """A row's numbers, with its step."""
    step = next((row[name] for name in _STEP if name in row), None)
    if isinstance(step, bool) or not isinstance(step, (int, float)) or not math.isfinite(step):
        raise ValueError(
            f"{path}: row {place} does not say at which step it was written: it has no number as "
            f"{' or '.join(_STEP)}"
        )
    figures = {n: v for n, v in row.items() if v is None or _is_number(v)}
    if "train/entropy_loss" in figures and "train/entropy" not in figures:  # Stable-Baselines3's
        loss = figures["train/entropy_loss"]
        figures["train/entropy"] = None if loss is None else -loss
    return {**{n: _finite(v) for n, v in figures.items()}, "step": int(step)}


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _finite(value: float | None) -> float | None:
    return value if value is not None and math.isfinite(value) else None


def _settings(folders: Iterable[Path]) -> dict[str, Any]:
    """What the run was asked to do; of `rlhf` the settings stand apart from digests of files."""
    for path in (folder / name for folder in folders for name in _SETTINGS):
        if path.is_file():
            found = read_json(path)
            if not isinstance(found, dict):
                raise ValueError(f"{path} is no JSON object")
            inner = found.get("settings")
            return inner if isinstance(inner, dict) else found
    return {}


def _samples(path: Path) -> Iterator[dict[str, Any]]:
    """Answers as they were sampled; conversations are left out."""
    for row in _json_rows(path) if path.is_file() else ():
        if isinstance(row.get("prompt"), str) and isinstance(row.get("completion"), str):
            yield row
