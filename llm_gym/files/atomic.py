"""Files and directories that appear whole or not at all.

A run may be stopped at any moment. Whatever this package writes for people to keep (reports,
checkpoints, figures) is written beside its destination first and renamed into place, because a
rename within one file system is atomic.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any


def write_text(path: str | Path, text: str) -> Path:
    """Writes a text in UTF-8 as `write_bytes` does; line ends stay as they are."""
    return write_bytes(path, text.encode("utf-8"))


def write_bytes(path: str | Path, content: bytes) -> Path:
    """Writes a file atomically, making its parent directories.

    Args:
        path: The file to write; an old one is replaced.
        content: All of it.

    Returns:
        The path written.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = _sibling(path, "tmp")
    try:
        with open(temporary, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
    return path


def write_json(path: str | Path, value: Any) -> Path:
    """Writes `value` as indented JSON, atomically; NaN and infinity are refused (ValueError)."""
    return write_text(path, json.dumps(value, indent=2, allow_nan=False, ensure_ascii=False) + "\n")


@contextmanager
def replace_directory(directory: str | Path, *, marker: str = "config.json") -> Iterator[Path]:
    """Yields an empty temporary directory that becomes `directory` when the block succeeds.

    If the block raises, the temporary directory is removed and an old `directory` stays as it was.
    A directory cannot be exchanged for another in one portable step, so an old one is first moved
    aside under a fixed name; `recover_directory` finds it there if the process died in between.

    Args:
        directory: The destination; its content, if any, is replaced as a whole.
        marker: A file by which an old directory shows that it is of the same kind; by default that
            of a saved model. Anything else, such as a home directory, is never replaced.

    Yields:
        The temporary directory to write into.

    Raises:
        ValueError: The destination exists, is not empty and has no such file.
    """
    directory = Path(directory).absolute()
    directory.parent.mkdir(parents=True, exist_ok=True)
    recover_directory(directory)
    if directory.is_file() or (
        directory.exists() and any(directory.iterdir()) and not (directory / marker).is_file()
    ):
        raise ValueError(
            f"{directory} exists and will not be replaced, because it has no {marker}; "
            "choose another directory"
        )
    temporary = _sibling(directory, "tmp")
    temporary.mkdir()
    try:
        yield temporary
        follow_umask(temporary)
        for path in temporary.rglob("*"):
            _sync(path)
        _sync(temporary)
        previous = _previous(directory)
        if directory.exists():
            os.rename(directory, previous)
        os.rename(temporary, directory)
        _sync(directory.parent)
        shutil.rmtree(previous, ignore_errors=True)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def follow_umask(directory: str | Path) -> None:
    """Gives the weights below a directory the permissions that every other new file has.

    safetensors writes files that their owner alone can read, whatever the umask says.

    Args:
        directory: Written by this process.
    """
    directory = Path(directory)
    probe = _sibling(directory / "umask", "tmp")
    probe.touch()  # asking for the umask itself would change it for all threads
    mode = probe.stat().st_mode & 0o777
    probe.unlink()
    for path in directory.rglob("*.safetensors"):
        path.chmod(mode)


def recover_directory(directory: str | Path) -> None:
    """Undoes a `replace_directory` that died after moving the old one aside."""
    directory = Path(directory)
    previous = _previous(directory)
    if previous.exists():
        if directory.exists():
            shutil.rmtree(previous)
        else:
            os.rename(previous, directory)


def _previous(path: Path) -> Path:
    return path.with_name(f".{path.name}.previous")


def _sibling(path: Path, suffix: str) -> Path:
    return path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}.{suffix}")


def _sync(path: Path) -> None:
    """Forces a file, or a directory's entries, to the disk, so a rename cannot outrun its data."""
    if path.is_dir() and os.name == "nt":  # Windows cannot open a directory
        return
    descriptor = os.open(path, os.O_RDONLY if path.is_dir() else os.O_RDWR)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sha256_of(path: str | Path) -> str:
    """SHA-256 of a file's content, read in pieces."""
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()
