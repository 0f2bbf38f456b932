"""Directories that are ours: whole or absent, and nobody else's is ever replaced or removed."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

from llm_gym.files import atomic, owned

HELD = """
import os, sys, time
from pathlib import Path
from llm_gym.files import atomic
with atomic.temporary_beside(Path(sys.argv[1]), directory=sys.argv[2] == "directory") as path:
    print(path, flush=True)
    time.sleep(60)
"""


def write(target, *, kind="model", **files):
    with owned.replace_directory(target, kind) as temporary:
        for name, text in files.items():
            (temporary / name).parent.mkdir(exist_ok=True)
            (temporary / name).write_text(text)


def names(directory):
    return sorted(path.name for path in directory.iterdir())


@pytest.fixture(params=["exchange", "two renames"])
def replacing(request, monkeypatch):
    """Both ways in which a new directory comes to its place."""
    if request.param == "two renames":
        monkeypatch.setattr(owned, "_exchange", lambda first, second: False)
    elif sys.platform != "linux":
        pytest.skip("only Linux exchanges directories")


@pytest.mark.usefixtures("replacing")
def test_a_directory_is_replaced_as_a_whole_and_leaves_nothing_beside_it(tmp_path):
    target = tmp_path / "model"
    write(target, old="1", weights="1")
    with owned.replace_directory(target) as temporary:
        (temporary / "weights").write_text("2")
        assert (target / "weights").read_text() == "1"
    assert names(target) == ["llm_gym.json", "weights"]
    assert (target / "weights").read_text() == "2"
    assert names(tmp_path) == ["model"]
    assert owned.damage(target, "model") is None


def test_linux_exchanges_directories(tmp_path):
    if sys.platform != "linux":
        pytest.skip("only Linux exchanges directories")
    for name in ("a", "b"):
        write(tmp_path / name, content=name)
    assert owned._exchange(tmp_path / "a", tmp_path / "b")
    assert (tmp_path / "a" / "content").read_text() == "b"
    with pytest.raises(FileNotFoundError):
        owned._exchange(tmp_path / "a", tmp_path / "c")


@pytest.mark.parametrize("error", [KeyboardInterrupt, OSError])
def test_failure_keeps_the_old_directory(error, tmp_path):
    write(tmp_path / "model", weights="old")

    def failing():
        with owned.replace_directory(tmp_path / "model") as temporary:
            (temporary / "weights").write_text("half")
            raise error

    with pytest.raises(error):
        failing()
    assert (tmp_path / "model" / "weights").read_text() == "old"
    assert names(tmp_path) == ["model"]


# ------------------------------------------------------------------ what is not ours


def a_note(target):
    (target / "notes.txt").write_text("dear")
    return r"notes\.txt in it was not written by llm_gym"


def a_clone(target):
    (target / ".git" / "refs").mkdir(parents=True)
    (target / ".git" / "HEAD").write_text("ref: main")
    return r"\.git/HEAD in it was not written by llm_gym"


def a_change(target):
    (target / "config.json").write_text("[]")
    return r"config\.json in it has been changed since"


def a_link(target):
    (target / "weights").unlink()
    (target / "weights").symlink_to(target / "config.json")
    return "weights in it has been changed since"


def a_linked_directory(target):
    (target / "data").symlink_to(target.parent)
    return "data in it was not written by llm_gym"


def no_marker(target):
    (target / owned.MARKER).unlink()
    return r"was not written by llm_gym \(it has no llm_gym\.json\)"


def another_kind(target):
    marker = json.loads((target / owned.MARKER).read_text())
    (target / owned.MARKER).write_text(json.dumps({**marker, "kind": "run"}))
    return "it holds a run, not a model"


def a_broken_marker(target):
    (target / owned.MARKER).write_text("{")
    return r"llm_gym\.json is corrupt"


@pytest.mark.parametrize(
    "change",
    [
        a_note,
        a_clone,
        a_change,
        a_link,
        a_linked_directory,
        no_marker,
        another_kind,
        a_broken_marker,
    ],
)
def test_what_somebody_else_put_there_stays(change, tmp_path):
    target = tmp_path / "model"
    write(target, **{"config.json": "{}", "weights": "1"})
    reason = change(target)
    before = {path: path.read_bytes() for path in target.rglob("*") if path.is_file()}
    for attempt in (owned.check_replaceable, lambda path: write(path, weights="2")):
        with pytest.raises(ValueError, match=reason):
            attempt(target)
    assert {path: path.read_bytes() for path in target.rglob("*") if path.is_file()} == before
    assert names(tmp_path) == ["model"]


def test_a_note_that_comes_while_we_write_stays_too(tmp_path):
    target = tmp_path / "model"
    write(target, weights="1")

    def writing():
        with owned.replace_directory(target) as temporary:
            (temporary / "weights").write_text("2")
            (target / "notes.txt").write_text("dear")

    with pytest.raises(ValueError, match="was not written by llm_gym"):
        writing()
    assert (target / "notes.txt").read_text() == "dear"


def test_a_file_is_no_directory(tmp_path):
    (tmp_path / "model").write_text("dear")
    with pytest.raises(ValueError, match="it is a file"):
        write(tmp_path / "model", weights="1")


def test_a_file_that_comes_later_belongs_to_the_directory(tmp_path):
    target = tmp_path / "model"
    write(target, weights="1")
    for text in ("first", "second"):
        owned.add_text(target, "config.yaml", text)
        assert owned.damage(target, "model") is None
    write(target, weights="2")
    assert names(target) == ["llm_gym.json", "weights"]
    owned.add_text(tmp_path / "elsewhere", "config.yaml", "first")
    assert names(tmp_path / "elsewhere") == ["config.yaml"]


def test_only_what_is_ours_is_removed(tmp_path):
    write(tmp_path / "step", kind="checkpoint", weights="1")
    (tmp_path / "step" / "notes.txt").write_text("dear")
    with pytest.warns(UserWarning, match=r"stays, because notes\.txt") as told:
        owned.remove_directory(tmp_path / "step", "checkpoint")
    assert told[0].filename == __file__  # it is the caller's to mend
    (tmp_path / "step" / "notes.txt").unlink()
    owned.remove_directory(tmp_path / "step", "checkpoint")
    assert names(tmp_path) == []


# ------------------------------------------------------------------ symbolic links


def test_links_are_followed_and_stay(tmp_path):
    disk = tmp_path / "disk"
    disk.mkdir()
    for name, target in (("there", disk / "a"), ("not yet", disk / "b")):
        (tmp_path / name).symlink_to(target)
        for text in ("1", "2"):
            write(tmp_path / name, weights=text)
        assert (tmp_path / name).is_symlink()
        assert (target / "weights").read_text() == "2"
    link = tmp_path / "link.json"
    link.symlink_to(disk / "figures.json")
    atomic.write_json(link, 1)
    assert link.is_symlink()
    assert (disk / "figures.json").read_text() == "1\n"
    assert names(disk) == ["a", "b", "figures.json"]


# ------------------------------------------------------------------ what a kill leaves


def test_a_crash_between_two_renames_is_undone(tmp_path):
    write(tmp_path / "model", weights="old")
    (tmp_path / "model").rename(tmp_path / ".model.llm_gym-previous")
    owned.recover_directory(tmp_path / "model")
    assert (tmp_path / "model" / "weights").read_text() == "old"
    write(tmp_path / ".model.llm_gym-previous", weights="older")
    owned.recover_directory(tmp_path / "model")
    assert names(tmp_path) == ["model"]
    assert (tmp_path / "model" / "weights").read_text() == "old"


@pytest.mark.skipif(atomic.fcntl is None, reason="needs locks of files")
@pytest.mark.parametrize("what", ["file", "directory"])
def test_leftovers_of_the_dead_are_removed_and_those_of_the_living_stay(what, tmp_path):
    target = tmp_path / "model[1]"
    writer = subprocess.Popen(
        [sys.executable, "-c", HELD, str(target), what], stdout=subprocess.PIPE, text=True
    )
    try:
        assert writer.stdout is not None
        leftover = writer.stdout.readline().strip()
        assert atomic.clear_leftovers(tmp_path) == []
        assert os.path.exists(leftover)
    finally:
        writer.kill()
        writer.wait()
        writer.stdout.close()
    (tmp_path / ".other.tmp").write_text("somebody's")
    write(target, weights="1")
    assert names(tmp_path) == [".other.tmp", "model[1]"]


@pytest.mark.parametrize(
    ("entries", "reason"),
    [
        ({"../outside": {"bytes": 1, "sha256": ""}}, "its list of files is damaged"),
        ({"/etc/passwd": {"bytes": 1, "sha256": ""}}, "its list of files is damaged"),
        ({"weights": "x"}, "its list of files is damaged"),
        ({"gone": {"bytes": 1, "sha256": ""}}, "gone is missing"),
        ({"weights": {"bytes": 1, "sha256": "0"}}, "weights is corrupt"),
    ],
)
def test_a_list_of_files_that_lies_is_refused(entries, reason, tmp_path):
    target = tmp_path / "checkpoint"
    write(target, kind="checkpoint", weights="1")
    marker = json.loads((target / owned.MARKER).read_text())
    marker["files"] |= entries
    (target / owned.MARKER).write_text(json.dumps(marker))
    assert reason in owned.damage(target, "checkpoint")


def test_a_directory_without_its_marker_is_no_whole_one(tmp_path):
    target = tmp_path / "model"
    write(target, weights="1")
    (target / owned.MARKER).unlink()
    assert owned.damage(target, "model") == (
        f"{target / owned.MARKER} is missing, so {target} is no whole model"
    )
