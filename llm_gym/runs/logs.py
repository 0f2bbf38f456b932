"""Files that a run only ever adds to, cut back where it goes on from an earlier moment.

A checkpoint keeps how long each of them was, and what had been recorded for the next row. A resumed
run cuts them back to that: what was written later is written again.
"""

from __future__ import annotations

import json
import math
import numbers
import os
import warnings
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from stable_baselines3.common.logger import Logger

from llm_gym.files import atomic
from llm_gym.files.schema import check_file, list_of, number, read_json, record, row_of, text, whole
from llm_gym.runs.checkpoint import LOG, numbered_checkpoint
from llm_gym.runs.directory import CHECKPOINTS

LOGS = ("metrics.jsonl", "samples.jsonl", "tensorboard", "trace")
"""What training runs add to: files, and a folder of files, in the directory of the run."""


def _value(name: str, value: Any) -> None:
    if not (value is None or isinstance(value, str)):
        number()(name, value)


_LOG = record(
    {
        "lengths": record({}, others=whole()),
        "pending": record({}, others=row_of(_value, whole(), list_of(text))),
    }
)


class LogWarning(UserWarning):
    """A log has lost rows that were written before the checkpoint."""


def log_state(root: Path, names: Sequence[str], logger: Logger) -> dict[str, Any]:
    """What a checkpoint keeps of the logs, which are on the disk from then on.

    Args:
        root: Directory of the run.
        names: Of files and folders in it.
        logger: Of the algorithm.

    Returns:
        JSON-able: `lengths` in bytes by path, and what waits for the next row as `pending`.
    """
    lengths = {}
    for path in _files(root, names):
        with open(path, "rb") as file:
            os.fsync(file.fileno())
            lengths[path.relative_to(root).as_posix()] = os.fstat(file.fileno()).st_size
    return {"lengths": lengths, "pending": _pending(logger)}


def cut_back(root: str | Path, names: Sequence[str], step: int) -> None:
    """Makes the logs what they were at a checkpoint, before anything opens them.

    Args:
        root: Directory of the run, with its checkpoints.
        names: Of files and folders in it.
        step: Where the run stands (in tokens). A run that begins, at 0, has no logs yet. Where no
            checkpoint of this step says how long they were, they are left as they are.
    """
    root = Path(root)
    log = read_log(root / CHECKPOINTS, step)
    if log is None and step:
        return
    lengths: Mapping[str, int] = log["lengths"] if log else {}
    for path in list(_files(root, names)):
        name = path.relative_to(root).as_posix()
        if name not in lengths:
            path.unlink()
        elif path.stat().st_size > lengths[name]:
            os.truncate(path, lengths[name])
    for name, length in lengths.items():
        path = root / name
        if not path.exists() or path.stat().st_size < length:
            warnings.warn(
                f"{path} has lost what was written before the checkpoint of step {step}; the run "
                "goes on without",
                LogWarning,
                stacklevel=2,
            )


def read_log(checkpoints: Path, step: int) -> dict[str, Any] | None:
    """What `log_state` gave at a step; None if no checkpoint has it.

    Args:
        checkpoints: Folder of numbered checkpoints.
        step: Where the run stood; at 0 there was nothing.

    Raises:
        ValueError: The file is damaged.
    """
    path = numbered_checkpoint(checkpoints, step) / LOG
    if not step or not path.exists():
        return None
    log: dict[str, Any] = read_json(path)
    check_file(path, _LOG, log)
    return log


def restore_pending(logger: Logger, log: Mapping[str, Any]) -> None:
    """Records again what waited for the next row when a checkpoint was saved.

    Args:
        logger: Of the algorithm that goes on.
        log: From `log_state`.
    """
    for name, (value, count, excluded) in log["pending"].items():
        logger.name_to_value[name] = math.nan if value is None else value
        logger.name_to_excluded[name] = tuple(excluded)
        if count:
            logger.name_to_count[name] = count


def cut_rows(path: Path, step: int | None) -> list[dict[str, Any]]:
    """Cuts a file of JSON lines back to a step, and to what is before a damaged line.

    Args:
        path: The file; every row has "step". If it does not exist, it is made.
        step: The last one to keep; None keeps nothing.

    Returns:
        The rows that are left. A warning says which were lost to a damaged line.
    """
    rows: list[dict[str, Any]] = []
    kept: list[str] = []
    resumes = step is not None and path.exists()
    lines = path.read_text(encoding="utf-8", errors="replace").splitlines() if resumes else []
    for place, line in enumerate(lines, start=1):
        try:
            row = json.loads(line)
            late = row["step"] > step
        except (ValueError, TypeError, KeyError, RecursionError):
            if place < len(lines):  # the last is what a killed process was writing
                warnings.warn(
                    f"line {place} of {path} is damaged: it and the {len(lines) - place} after "
                    "it were removed",
                    LogWarning,
                    stacklevel=3,
                )
            break
        if not late:
            rows.append(row)
            kept.append(line + "\n")
    atomic.write_text(path, "".join(kept))
    return rows


def _files(root: Path, names: Sequence[str]) -> Iterator[Path]:
    for path in (root / name for name in names):
        if path.is_dir():
            yield from (file for file in sorted(path.rglob("*")) if file.is_file())
        elif path.exists():
            yield path


def _pending(logger: Logger) -> dict[str, tuple[Any, int, list[str]]]:
    """Value, how many it is the mean of (0 if none), and the formats that do not get it, by name.

    Pictures and histograms are nowhere but in the row they were recorded for, and are left out.
    """
    return {
        name: (
            value if isinstance(value, str) else float(value) if math.isfinite(value) else None,
            logger.name_to_count.get(name, 0),
            list(logger.name_to_excluded.get(name) or ()),
        )
        for name, value in logger.name_to_value.items()
        if isinstance(value, (str, numbers.Real))
    }
