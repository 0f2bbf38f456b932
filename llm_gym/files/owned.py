"""Directories that are ours: whole or absent, and replaced only while nothing else is in them.

Everything that this package writes as a whole directory (a model, a checkpoint) has a file
`llm_gym.json` in it:

    {"format": 1, "kind": "model", "llm_gym": "0.1.0",
     "files": {"model.safetensors": {"bytes": 9170, "sha256": "..."}, ...}}

It is by this file that a directory is known to be ours and to be whole. One without it, or with
anything in it that the file does not list, belongs to somebody else and stays as it is.
"""

from __future__ import annotations

import ctypes
import errno
import json
import os
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from llm_gym.files import atomic

MARKER = "llm_gym.json"
FORMAT = 1


@contextmanager
def replace_directory(directory: str | Path, kind: str = "model") -> Iterator[Path]:
    """Yields an empty temporary directory that becomes `directory` when the block succeeds.

    If the block raises, the temporary directory is removed and an old `directory` stays as it was.
    On Linux the two are exchanged in one step. Elsewhere an old one is first moved aside under a
    fixed name; `recover_directory` finds it there if the process died in between.

    Args:
        directory: The destination; its content, if any, is replaced as a whole. A symbolic link
            stays, and what it leads to is replaced.
        kind: What is written, on one or two words: "model", "checkpoint".

    Yields:
        The temporary directory to write into.

    Raises:
        ValueError: See `check_replaceable`; when the block begins and again when it ends.
    """
    directory = check_replaceable(directory, kind)
    directory.parent.mkdir(parents=True, exist_ok=True)
    atomic.clear_leftovers(directory.parent, directory.name)
    with atomic.temporary_beside(directory, directory=True) as temporary:
        yield temporary
        follow_umask(temporary)
        write_marker(temporary, kind, files=manifest(temporary))
        for path in temporary.rglob("*"):
            atomic.sync(path)
        atomic.sync(temporary)
        _put(temporary, check_replaceable(directory, kind))


def check_replaceable(directory: str | Path, kind: str = "model") -> Path:
    """Whether a directory may be written as a whole; long work asks before it begins.

    Args:
        directory: The destination.
        kind: See `replace_directory`.

    Returns:
        Where it is, symbolic links followed.

    Raises:
        ValueError: It is a file; or it is not empty, and we did not write it, wrote something of
            another kind there, or somebody has added or changed a file since.
    """
    directory = Path(os.path.realpath(directory))
    recover_directory(directory)
    if not directory.exists() or (directory.is_dir() and not any(directory.iterdir())):
        return directory
    problem = _not_ours(directory, kind)
    if problem is not None:
        raise ValueError(
            f"{directory} will not be replaced, because {problem}; choose another directory, or "
            "move what is there"
        )
    return directory


def _not_ours(directory: Path, kind: str, *, contents: bool = True) -> str | None:
    if not directory.is_dir():
        return "it is a file"
    if not (directory / MARKER).is_file():
        return f"it was not written by llm_gym (it has no {MARKER})"
    marker = read_marker(directory)
    if marker["kind"] != kind:
        return f"it holds a {marker['kind']}, not a {kind}"
    for name in present_files(directory):
        if name not in marker["files"]:
            return f"{name} in it was not written by llm_gym"
        if contents and not _as_written(directory / name, marker["files"][name]):
            return f"{name} in it has been changed since llm_gym wrote it"
    return None


def present_files(directory: Path) -> list[str]:
    """Relative paths of all files below a directory, the marker left out; links count as files."""
    return sorted(
        path.relative_to(directory).as_posix()
        for path in directory.rglob("*")
        if (path.is_symlink() or not path.is_dir()) and path != directory / MARKER
    )


def damage(directory: str | Path, kind: str) -> str | None:
    """Says why a directory of ours is not whole; None if every file is what was written.

    Args:
        directory: What `replace_directory` made.
        kind: Of which kind it must be.
    """
    directory = Path(directory)
    if not (directory / MARKER).is_file():
        return f"{directory / MARKER} is missing, so {directory} is no whole {kind}"
    try:
        marker = read_marker(directory)
    except ValueError as error:
        return str(error)
    if marker["kind"] != kind:
        return f"{directory} holds a {marker['kind']}, not a {kind}"
    for name, written in marker["files"].items():
        if not (directory / name).is_file():
            return f"{directory / name} is missing, so {directory} is no whole {kind}"
        if not _as_written(directory / name, written):
            return f"{directory / name} is corrupt: its content is not what was saved"
    return None


def add_text(directory: str | Path, name: str, text: str) -> Path:
    """Writes a file into a directory that stays ours by that.

    Args:
        directory: Of ours or not.
        name: Of the file.
        text: All of it.

    Returns:
        The path written.
    """
    directory = Path(directory)
    if (directory / MARKER).is_file():
        marker = read_marker(directory)
        if marker["files"].get(name, True) is not None:
            # Before the file, so that a process which dies in between leaves a directory of ours.
            write_marker(directory, marker["kind"], files={**marker["files"], name: None})
    return atomic.write_text(directory / name, text)


def remove_directory(directory: str | Path, kind: str) -> None:
    """Removes a directory of ours: it is gone in one step, whatever happens to the process.

    One with something in it that we did not write stays, with a warning.

    Args:
        directory: What `replace_directory` made.
        kind: Of which kind it must be.
    """
    directory = Path(directory)
    problem = _not_ours(directory, kind, contents=False)
    if problem is not None:
        warnings.warn(f"{directory} stays, because {problem}", stacklevel=2)
        return
    doomed = atomic.temporary_name(directory)
    os.rename(directory, doomed)
    atomic.remove(doomed)


def recover_directory(directory: str | Path) -> None:
    """Undoes a `replace_directory` that died after moving the old one aside."""
    directory = Path(os.path.abspath(directory))  # "." has no name of its own
    previous = _previous(directory)
    if previous.exists():
        if directory.exists():
            atomic.remove(previous)
        else:
            os.rename(previous, directory)


# ------------------------------------------------------------------ the marker


def write_marker(
    directory: Path, kind: str, *, files: Mapping[str, Any] | None = None, **more: Any
) -> None:
    """Writes `llm_gym.json`.

    Args:
        directory: Where to.
        kind: What the directory holds.
        files: What belongs to it, by relative path: see `manifest`. None for one that is not
            replaced as a whole.
        **more: Further entries, JSON-able.
    """
    from llm_gym import __version__

    content: dict[str, Any] = {"format": FORMAT, "kind": kind, "llm_gym": __version__, **more}
    if files is not None:
        content["files"] = dict(files)
    atomic.write_json(directory / MARKER, content)


def read_marker(directory: str | Path) -> dict[str, Any]:
    """Reads and checks `llm_gym.json`.

    Returns:
        Its content; `files` is there, empty for a directory that is not replaced as a whole.

    Raises:
        ValueError: It is missing, damaged, or of another format.
    """
    path = Path(directory) / MARKER
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise ValueError(f"{path} is corrupt: {type(error).__name__}: {error}") from error
    if not isinstance(content, dict) or not isinstance(content.get("kind"), str):
        raise ValueError(f"{path} is corrupt: it does not say of which kind {directory} is")
    if content.get("format") != FORMAT:
        raise ValueError(
            f"{path} has format {content.get('format')!r}, this version of llm_gym reads {FORMAT}"
        )
    files = content.setdefault("files", {})
    if not isinstance(files, dict) or not all(map(_is_entry, files.items())):
        raise ValueError(f"{path} is corrupt: its list of files is damaged")
    return content


def manifest(directory: Path) -> dict[str, dict[str, Any]]:
    """Size and SHA-256 of every file below a directory, by relative path."""
    return {
        name: {
            "bytes": (directory / name).stat().st_size,
            "sha256": atomic.sha256_of(directory / name),
        }
        for name in present_files(directory)
    }


def _is_entry(item: tuple[str, Any]) -> bool:
    """Whether an entry of the list names a file below the directory, by its digest or without."""
    name, written = item
    inside = not os.path.isabs(name) and ".." not in Path(name).parts
    return inside and (written is None or (isinstance(written, dict) and "sha256" in written))


def _as_written(path: Path, written: dict[str, Any] | None) -> bool:
    if written is None:  # such files come after the directory, and may be written again
        return True
    if path.is_symlink() or path.stat().st_size != written.get("bytes"):
        return False
    return bool(atomic.sha256_of(path) == written["sha256"])


# ------------------------------------------------------------------ permissions, exchange


def follow_umask(directory: str | Path) -> None:
    """Gives the weights below a directory the permissions that every other new file has.

    safetensors writes files that their owner alone can read, whatever the umask says.

    Args:
        directory: Written by this process.
    """
    directory = Path(directory)
    probe = atomic.temporary_name(directory / "umask")
    probe.touch()  # asking for the umask itself would change it for all threads
    mode = probe.stat().st_mode & 0o777
    probe.unlink()
    for path in directory.rglob("*.safetensors"):
        path.chmod(mode)


def _put(temporary: Path, directory: Path) -> None:
    """Moves a finished directory to its place; what was there is in its place then, or gone."""
    if not (directory.exists() and _exchange(temporary, directory)):
        previous = _previous(directory)
        if directory.exists():
            os.rename(directory, previous)
        os.rename(temporary, directory)
        atomic.remove(previous)
    atomic.sync(directory.parent)


def _exchange(first: Path, second: Path) -> bool:
    """Lets two directories change places in one step; False where the system cannot."""
    library = None if os.name == "nt" else ctypes.CDLL(None, use_errno=True)
    renameat2 = getattr(library, "renameat2", None)
    if renameat2 is None:
        return False
    here, exchange = -100, 2  # AT_FDCWD, RENAME_EXCHANGE: renameat2(2)
    if renameat2(here, os.fsencode(first), here, os.fsencode(second), exchange) == 0:
        return True
    code = ctypes.get_errno()
    if code in (errno.ENOSYS, errno.EINVAL, errno.EOPNOTSUPP):
        return False
    raise OSError(code, os.strerror(code), str(second))


def _previous(path: Path) -> Path:
    return path.with_name(f".{path.name}.llm_gym-previous")
