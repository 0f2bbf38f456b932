"""The curves of a run that may still be running: read on from where the last look ended."""

from __future__ import annotations

import json
import math
import os
from pathlib import Path
from typing import Any, BinaryIO

FIGURES = (
    ("score", ("rollout/score_mean", "rollout/ep_rew_mean")),
    ("score on held-out prompts", ("eval/mean_score",)),
    ("return in still air", ("return/none",)),
    ("return in moderate turbulence", ("return/moderate",)),
    ("share of flights on target", ("success/moderate",)),
    ("elevator, degrees a step", ("stick/moderate",)),
    ("KL per answer, nats", ("rollout/kl_per_sequence",)),
    ("answer length, tokens", ("rollout/ep_len_mean",)),
    ("entropy, nats a token", ("train/entropy",)),
    ("explained variance", ("train/explained_variance",)),
    ("clipped share", ("train/clip_fraction",)),
    ("loss", ("train/loss", "train/critic_loss")),
)
"""What is drawn, and the names under which algorithms log it: the first that is there."""

MOST_POINTS = 400
"""Points of a curve on the page; a curve of more is thinned evenly, its last point kept."""


class Curves:
    """The figures of a growing `metrics.jsonl`.

    Args:
        path: The file; it need not be there yet. A run that goes on from a checkpoint writes it
            anew, and then it is read anew.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._forget()

    def _forget(self) -> None:
        self._offset, self._file = 0, (0, 0)
        self._curves: dict[str, dict[float, float | None]] = {}

    def read(self) -> list[dict[str, Any]]:
        """What there is by now.

        Returns:
            For each figure that the run has `name`, `steps` (tokens) and `values`, None where one
            was not finite. Of several rows of one step the last counts.
        """
        try:
            with open(self._path, "rb") as file:
                self._read_on(file)
        except FileNotFoundError:
            self._forget()
        found = []
        for name, keys in FIGURES:
            points = next((self._curves[key] for key in keys if key in self._curves), None)
            if points:
                steps, values = _thinned(list(points.items()))
                found.append({"name": name, "steps": steps, "values": values})
        return found

    def _read_on(self, file: BinaryIO) -> None:
        status = os.fstat(file.fileno())
        if (status.st_dev, status.st_ino) != self._file or status.st_size < self._offset:
            self._forget()
            self._file = status.st_dev, status.st_ino
        file.seek(self._offset)
        for line in file:
            if not line.endswith(b"\n"):  # it is being written
                break
            self._offset += len(line)
            self._take(line)

    def _take(self, line: bytes) -> None:
        try:
            row = json.loads(line)
            step = float(row["step"])
        except (ValueError, TypeError, KeyError, RecursionError):
            return  # the run itself says what it lost when it goes on
        for _, keys in FIGURES:
            for key in keys:
                if key in row:
                    self._curves.setdefault(key, {})[step] = _finite(row[key])


def _finite(value: Any) -> float | None:
    is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
    return float(value) if is_number and math.isfinite(value) else None


def _thinned(points: list[tuple[float, float | None]]) -> tuple[list[float], list[float | None]]:
    stride = -(-len(points) // MOST_POINTS)
    kept = points[(len(points) - 1) % stride :: stride]
    return [step for step, _ in kept], [value for _, value in kept]
