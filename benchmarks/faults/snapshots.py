"""What a run left on the disk, without what no two runs share: when it was, how long it took."""

from __future__ import annotations

import hashlib
import json
import sqlite3
from pathlib import Path
from typing import Any, Literal

from llm_gym.files.atomic import sha256_of

MARKER = "llm_gym.json"
CHECKPOINT = "checkpoint.json"
# "t": of an episode, as Stable-Baselines3 writes it; "lengths": of logs, which hold times.
_TIMES = {"seconds", "t", "created_at", "lengths"}
_SHOWN_ONLY = {".html", ".zip"}  # hold times among other things: that they are there is compared
_WEIGHTS = {".safetensors", ".npz"}

Content = Literal["weights", "samples", "figures", "other"]


def snapshot(directory: Path) -> dict[str, str]:
    """Everything below a directory, hidden files too: digests by relative path.

    Times are left out of JSON and of databases. TensorBoard's files are left out altogether: their
    names hold the time, and a resumed run begins another one.
    """
    return {
        path.relative_to(directory).as_posix(): "directory" if path.is_dir() else _digest(path)
        for path in sorted(directory.rglob("*"))
        if "tensorboard" not in path.relative_to(directory).parts
    }


def differences(found: dict[str, str], wanted: dict[str, str]) -> list[str]:
    """In which ways a directory is not as it should be, in words; none if it is.

    Args:
        found: Snapshot of the directory.
        wanted: Snapshot of one that nothing happened to.
    """
    extra, missing = sorted(found.keys() - wanted.keys()), sorted(wanted.keys() - found.keys())
    other = sorted(
        {_kind(name) for name in found.keys() & wanted.keys() if found[name] != wanted[name]}
    )
    outermost = [name for name in extra if Path(name).parent.as_posix() not in extra]
    return [
        *(f"left over: {name}" for name in outermost),
        *(f"missing: {name}" for name in missing),
        *(f"other {kind}" for kind in other),
    ]


def damaged(directory: Path) -> list[str]:
    """What says that it is whole and is not: checkpoints, and whatever has a marker.

    Args:
        directory: Of a run that was stopped. Hidden directories are still being written.
    """
    problems = []
    for path in sorted(directory.rglob("*.json")):
        hidden = any(part.startswith(".") for part in path.relative_to(directory).parts)
        if path.name in (MARKER, CHECKPOINT) and not hidden:
            listed = json.loads(path.read_text(encoding="utf-8")).get("files", {})
            problems += [
                f"damaged: {(path.parent / name).relative_to(directory)}"
                for name, expected in listed.items()
                if not (path.parent / name).is_file()
                or sha256_of(path.parent / name) != expected["sha256"]
            ]
    steps = (path for path in directory.rglob("step-*") if not path.name.startswith("."))
    return problems + [
        f"half a checkpoint: {path.relative_to(directory)}"
        for path in steps
        if not (path / CHECKPOINT).is_file()
        and not any(part.startswith(".") for part in path.relative_to(directory).parts)
    ]


def _kind(name: str) -> str:
    path = Path(name)
    if path.suffix in _WEIGHTS:
        return "weights"
    return path.name


def _digest(path: Path) -> str:
    if path.suffix in _SHOWN_ONLY:
        return "there"
    if path.name == MARKER:
        content: Any = _marker(path)
    elif path.suffix in (".json", ".jsonl"):
        content = _json(path)
    elif path.suffix == ".db":
        content = _database(path)
    else:
        return sha256_of(path)
    return hashlib.sha256(json.dumps(content).encode()).hexdigest()


def _marker(path: Path) -> Any:
    """What a marker says but for the digests, which follow from files that are compared."""
    content = json.loads(path.read_text(encoding="utf-8"))
    return {**content, "files": sorted(content.get("files", {}))}


def _json(path: Path) -> Any:
    text = path.read_text(encoding="utf-8")
    try:
        if path.suffix == ".json":
            return _timeless(json.loads(text))
        return [_timeless(json.loads(line)) for line in text.splitlines()]
    except ValueError:
        return text  # torn, which the digest shows


def _timeless(value: Any) -> Any:
    if isinstance(value, dict):
        return {
            name: _timeless(each)
            for name, each in value.items()
            if name not in _TIMES and not name.startswith("time/")
        }
    return [_timeless(each) for each in value] if isinstance(value, list) else value


def _database(path: Path) -> Any:
    connection = sqlite3.connect(f"file:{path}?mode=ro", uri=True)
    connection.row_factory = sqlite3.Row
    try:
        names = [
            row[0]
            for row in connection.execute("SELECT name FROM sqlite_master WHERE type='table'")
        ]
        return {
            name: [_timeless(dict(row)) for row in connection.execute(f"SELECT * FROM {name}")]  # noqa: S608
            for name in sorted(names)
        }
    finally:
        connection.close()
