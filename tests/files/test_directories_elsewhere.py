"""Markers that lie, file systems without locks, and systems that cannot exchange directories."""

from __future__ import annotations

import ctypes
import errno
import json
import os
import sys
from types import SimpleNamespace

import pytest

from llm_gym.files import atomic, owned
from tests.files.test_owned import names, write

needs_locks = pytest.mark.skipif(atomic.fcntl is None, reason="needs locks of files")


def changed_marker(target, **changes):
    marker = json.loads((target / owned.MARKER).read_text())
    (target / owned.MARKER).write_text(json.dumps(marker | changes))
    return marker


# ------------------------------------------------------------------ the marker


def test_a_marker_says_format_kind_and_files(tmp_path):
    write(tmp_path / "model", weights="1")
    marker = owned.read_marker(tmp_path / "model")
    assert (marker["format"], marker["kind"], [*marker["files"]]) == (1, "model", ["weights"])


@pytest.mark.parametrize("kind", ["checkpoint", "run"])
def test_a_directory_is_of_its_own_kind_and_of_no_other(kind, tmp_path):
    """Whichever of the two comes first in the alphabet."""
    target = tmp_path / "model"
    write(target, weights="1")
    changed_marker(target, kind=kind)
    assert owned.damage(target, "model") == f"{target} holds a {kind}, not a model"
    with pytest.raises(ValueError, match=f"it holds a {kind}, not a model"):
        owned.check_replaceable(target)
    assert owned.damage(target, kind) is None
    owned.check_replaceable(target, kind)


@pytest.mark.parametrize("number", [0, 2, 1.5, True, 1.0])
def test_another_format_is_refused(number, tmp_path):
    target = tmp_path / "model"
    write(target, weights="1")
    changed_marker(target, format=number)
    if number == 1:
        assert owned.read_marker(target)["files"]
    else:
        with pytest.raises(ValueError, match=f"has format {number}, this version .* reads 1"):
            owned.read_marker(target)


@pytest.mark.parametrize("content", ["{", "[" * 200_000, "\x00", None])
def test_a_marker_that_cannot_be_read_is_corrupt(content, tmp_path):
    if content is not None:
        (tmp_path / owned.MARKER).write_text(content)
    with pytest.raises(ValueError, match=r"llm_gym\.json is corrupt: \w+Error: "):
        owned.read_marker(tmp_path)


@pytest.mark.parametrize("entry", [{}, {"bytes": 3}, "sha256", ["sha256"], 3])
def test_an_entry_without_a_digest_is_damage(entry, tmp_path):
    target = tmp_path / "model"
    write(target, weights="1")
    changed_marker(target, files={"weights": entry})
    with pytest.raises(ValueError, match="its list of files is damaged"):
        owned.read_marker(target)


def test_an_entry_without_a_size_is_of_a_file_that_was_changed(tmp_path):
    target = tmp_path / "model"
    write(target, weights="1")
    digest = atomic.sha256_of(target / "weights")
    changed_marker(target, files={"weights": {"sha256": digest}})
    assert owned.damage(target, "model").endswith("is corrupt: its content is not what was saved")


def test_files_of_any_size_are_as_they_were_written(tmp_path):
    target = tmp_path / "model"
    write(target, none="", some="1" * 100, more="1" * 1000)
    assert owned.damage(target, "model") is None


def test_more_of_a_marker_is_given_by_name(tmp_path):
    with pytest.raises(TypeError, match="positional"):
        owned.write_marker(tmp_path, "model", {})
    with (
        pytest.raises(TypeError, match="positional"),
        atomic.temporary_beside(tmp_path / "a", True),
    ):
        pass
    assert names(tmp_path) == []


# ------------------------------------------------------------------ two renames


def without_the_call(monkeypatch):
    monkeypatch.setattr(owned.ctypes, "CDLL", lambda *_, **__: SimpleNamespace())


def failing_with(code):
    def install(monkeypatch):
        def renameat2(*_):
            ctypes.set_errno(code)
            return -1

        library = SimpleNamespace(renameat2=renameat2)
        monkeypatch.setattr(owned.ctypes, "CDLL", lambda *_, **__: library)

    return install


def windows(monkeypatch):
    """Where `CDLL(None)` is an error."""

    def refused(*_, **__):
        raise TypeError("bad argument type for built-in operation")

    monkeypatch.setattr(owned.ctypes, "CDLL", refused)
    monkeypatch.setattr(owned, "os", SimpleNamespace(**vars(os) | {"name": "nt"}))


@pytest.mark.parametrize(
    "system",
    [
        without_the_call,
        failing_with(errno.ENOSYS),
        failing_with(errno.EINVAL),
        failing_with(errno.EOPNOTSUPP),
        windows,
    ],
)
def test_what_cannot_be_exchanged_is_renamed_twice(system, tmp_path, monkeypatch):
    target = tmp_path / "model"
    write(target, old="1")
    system(monkeypatch)
    write(target, new="2")
    assert names(target) == [owned.MARKER, "new"]
    assert names(tmp_path) == ["model"]


def test_any_other_error_of_an_exchange_is_one(tmp_path, monkeypatch):
    target = tmp_path / "model"
    write(target, old="1")
    failing_with(errno.EACCES)(monkeypatch)
    with pytest.raises(PermissionError, match=os.strerror(errno.EACCES)):
        write(target, new="2")
    assert names(target) == [owned.MARKER, "old"]
    assert names(tmp_path) == ["model"]


# ------------------------------------------------------------------ locks


@needs_locks
@pytest.mark.parametrize("directory", [False, True])
@pytest.mark.parametrize("first", ["locked by another", "removed by another"])
def test_what_another_process_took_for_a_leftover_is_made_again(
    first, directory, tmp_path, monkeypatch
):
    asked = []
    lock = atomic._lock

    def taken_once(descriptor):
        asked.append(descriptor)
        if len(asked) > 1:
            return lock(descriptor)
        if first == "locked by another":
            return False
        (path,) = tmp_path.iterdir()
        atomic.remove(path)
        return True

    monkeypatch.setattr(atomic, "_lock", taken_once)
    with atomic.temporary_beside(tmp_path / "a", directory=directory) as temporary:
        assert temporary.exists()
        assert temporary.is_dir() is directory
    assert len(asked) == 2


@needs_locks
def test_where_there_are_no_locks_files_are_written_and_leftovers_stay(tmp_path, monkeypatch):
    leftover = atomic.temporary_name(tmp_path / "a")
    leftover.write_text("whose?")

    def refused(*_):
        raise OSError(errno.ENOLCK, "no locks")

    monkeypatch.setattr(atomic.fcntl, "flock", refused)
    atomic.write_text(tmp_path / "a", "new")
    assert names(tmp_path) == sorted([leftover.name, "a"])
    assert (tmp_path / "a").read_text() == "new"


@needs_locks
def test_a_leftover_that_cannot_be_opened_is_passed_over(tmp_path):
    first, second = (tmp_path / f".a.llm_gym-{digit * 8}.tmp" for digit in "01")
    first.symlink_to(tmp_path / "nowhere")
    second.write_text("left")
    assert atomic.clear_leftovers(tmp_path) == [second]
    assert names(tmp_path) == [first.name]


def test_windows_is_asked_to_sync_files_alone(tmp_path, monkeypatch):
    opened = []

    def record(path, flags):
        opened.append(path)
        return os.open(path, flags)

    (tmp_path / "a").write_text("a")
    for name, expected in ("nt", [tmp_path / "a"]), ("posix", [tmp_path / "a", tmp_path]):
        opened.clear()
        system = SimpleNamespace(**vars(os) | {"name": name, "open": record})
        monkeypatch.setattr(atomic, "os", system)
        if sys.platform == "win32" and name == "posix":
            continue
        atomic.sync(tmp_path / "a")
        atomic.sync(tmp_path)
        assert opened == expected
