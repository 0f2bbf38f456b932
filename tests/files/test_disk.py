"""A disk that fails is told in one sentence, whichever library meets it."""

from __future__ import annotations

import errno
import os

import pytest

from llm_gym.files.atomic import write_text
from llm_gym.files.disk import advice_of, has_failed, naming
from llm_gym.files.owned import replace_directory

FULL = "/dev/full"  # takes no byte

needs_full = pytest.mark.skipif(not os.path.exists(FULL), reason="there is no /dev/full")


@needs_full
def test_a_write_that_fails_says_of_which_file_it_is(tmp_path):
    with (
        pytest.raises(OSError, match=r"No space left on device: '.*model'"),
        naming(tmp_path / "model"),
        open(FULL, "w") as file,
    ):
        file.write("x")


@needs_full
def test_a_library_that_writes_by_itself_fails_as_the_system_does(tmp_path):
    """The writers of safetensors and of tokenizers raise classes of their own."""
    from llm_gym.testing.tiny import tiny_tokenizer

    def save():
        with replace_directory(tmp_path / "model") as directory:
            (directory / "tokenizer.json").symlink_to(FULL)
            tiny_tokenizer().save_pretrained(directory)

    with pytest.raises(OSError, match=r"No space left on device: '.*model'") as caught:
        save()
    assert caught.value.errno == errno.ENOSPC
    assert list(tmp_path.iterdir()) == []


def test_safetensors_fails_as_the_system_does(tmp_path):
    import numpy
    from safetensors.numpy import save_file

    missing = tmp_path / "missing"
    with pytest.raises(FileNotFoundError, match=r"'.*/missing'"), naming(missing):
        save_file({"a": numpy.zeros(1)}, missing / "a.safetensors")


def test_what_is_no_failure_of_the_system_stays_what_it_is(tmp_path):
    with pytest.raises(KeyError, match="name"), naming(tmp_path):
        raise KeyError("name")
    with pytest.raises(OSError, match=r"^somebody's own words$"), naming(tmp_path):
        raise OSError("somebody's own words")


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EIO, errno.EROFS, errno.EACCES])
def test_a_failing_disk_ends_a_command_with_one_sentence_and_exit_code_1(
    tmp_path, monkeypatch, capsys, code
):
    from llm_gym.cli import app, main

    def fail(**_):
        raise OSError(code, os.strerror(code), "out/model")

    monkeypatch.setattr(app, "app", fail)
    with pytest.raises(SystemExit) as ending:
        main(["envs"])
    assert ending.value.code == 1
    error = OSError(code, os.strerror(code), "out/model")
    assert has_failed(error)
    told = capsys.readouterr().err
    assert told == f"llm-gym: error: {error}; {advice_of(error)}\n"


def test_a_missing_file_is_the_command_s_fault(capsys):
    from llm_gym.cli import main

    with pytest.raises(SystemExit) as ending:
        main(["sft", "missing.jsonl"])
    assert ending.value.code == 2
    assert "missing.jsonl" in capsys.readouterr().err


def test_a_full_store_gives_its_advice_once():
    from llm_gym.feedback.preferences.database import StoreFullError

    error = StoreFullError("no room left; make room and try again")
    assert has_failed(error)
    assert advice_of(error) == ""
    assert str(error) == "no room left; make room and try again"


def test_a_text_for_a_full_disk_leaves_the_old_one(tmp_path, monkeypatch):
    path = write_text(tmp_path / "figures.json", "old")

    def full(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match=r"figures\.json"):
        write_text(path, "new")
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]
