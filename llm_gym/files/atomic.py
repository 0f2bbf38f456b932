"""Files that appear whole or not at all.

A run may be stopped at any moment. Whatever this package writes for people to keep (reports,
checkpoints, figures) is written beside its destination first and renamed into place, because a
rename within one file system is atomic. `llm_gym.files.owned` does the same for directories.

What is beside a destination is called `.NAME.llm_gym-XXXXXXXX.tmp` and locked while its writer
lives: what a killed process leaves can be told from what another one is writing, and removed.
"""

from __future__ import annotations

import glob
import hashlib
import json
import os
import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from llm_gym.files.disk import naming

try:
    import fcntl
except ImportError:  # Windows, where what a killed process leaves stays
    fcntl = None  # type: ignore[assignment]

TEMPORARY = ".llm_gym-*.tmp"
"""How the name of every temporary file and directory of ours ends."""


def write_text(path: str | Path, text: str) -> Path:
    """Writes a text in UTF-8 as `write_bytes` does; line ends stay as they are."""
    return write_bytes(path, text.encode("utf-8"))


def write_bytes(path: str | Path, content: bytes) -> Path:
    """Writes a file atomically, making its parent directories.

    Args:
        path: The file to write; an old one is replaced. A symbolic link stays, and what it leads to
            is written.
        content: All of it.

    Returns:
        The path written.

    Raises:
        IsADirectoryError: There is a directory of that name.
    """
    check_file(path)
    destination = Path(os.path.realpath(path))
    destination.parent.mkdir(parents=True, exist_ok=True)
    clear_leftovers(destination.parent, destination.name)
    with temporary_beside(destination) as temporary:
        with open(temporary, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, destination)
    return Path(path)


def check_file(path: str | Path) -> None:
    """Raises `IsADirectoryError` where a directory has the name of a file to be written."""
    if os.path.isdir(path):
        raise IsADirectoryError(f"{path} is a directory; name a file in it")


def write_json(path: str | Path, value: Any) -> Path:
    """Writes `value` as indented JSON, atomically; NaN and infinity are refused (ValueError)."""
    return write_text(path, as_json(value))


def as_json(value: Any) -> str:
    """Indented JSON with a line end; NaN and infinity are refused (ValueError)."""
    return json.dumps(value, indent=2, allow_nan=False, ensure_ascii=False) + "\n"


@contextmanager
def temporary_beside(destination: Path, *, directory: bool = False) -> Iterator[Path]:
    """Yields an empty file or directory to be renamed to `destination`, and locked until then.

    Args:
        destination: Where it will go; its parent exists.
        directory: Whether to make a directory.

    Yields:
        The path. Whatever is there when the block ends is removed.

    Raises:
        OSError: The disk failed in the block, whichever library met it.
    """
    temporary, descriptor = _claimed(destination, directory)
    try:
        with naming(destination):
            yield temporary
    finally:
        remove(temporary)
        if descriptor is not None:
            os.close(descriptor)


def _claimed(destination: Path, directory: bool) -> tuple[Path, int | None]:
    """A new temporary path and the descriptor that locks it."""
    while True:
        temporary = temporary_name(destination)
        if directory:
            temporary.mkdir()
        else:
            temporary.touch(exist_ok=False)
        if fcntl is None:
            return temporary, None
        descriptor = os.open(temporary, os.O_RDONLY)
        # Another process may have taken it for a leftover before it was locked.
        if _lock(descriptor) is not False and temporary.exists():
            return temporary, descriptor
        os.close(descriptor)


def temporary_name(path: Path) -> Path:
    """A new name beside a path, by which `clear_leftovers` will know it."""
    return path.with_name(f".{path.name}.llm_gym-{uuid.uuid4().hex[:8]}.tmp")


def clear_leftovers(folder: Path, name: str | None = None) -> list[Path]:
    """Removes what processes that died while they wrote have left in a folder.

    Args:
        folder: It need not exist.
        name: What they were writing; by default anything.

    Returns:
        What was removed. Whatever a living process is writing stays, and so does everything where
        the file system has no locks to tell.
    """
    removed = []
    pattern = "*" if name is None else glob.escape(name)
    for path in sorted(folder.glob(f".{pattern}{TEMPORARY}")) if fcntl is not None else ():
        try:
            descriptor = os.open(path, os.O_RDONLY)
        except OSError:  # another process was quicker, or it is not ours to read
            continue
        try:
            if _lock(descriptor):
                remove(path)
                removed.append(path)
        finally:
            os.close(descriptor)
    return removed


def remove(path: Path) -> None:
    """Removes a file, or a directory with all it holds, if it is there; links are not followed."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


def _lock(descriptor: int) -> bool | None:
    """Whether this process has the lock now; None where the file system has none."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:
        return None
    return True


def sync(path: Path) -> None:
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
