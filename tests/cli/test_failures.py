from __future__ import annotations

import os
import sqlite3
import warnings

import pytest
import torch

from llm_gym.cli import app as app_module
from llm_gym.cli import main
from llm_gym.language_models.trained_types import PrecisionWarning


class Odd(Exception):
    pass


def ended(capsys, monkeypatch, error, *options):
    def app(args, prog_name):
        raise error

    monkeypatch.setattr(app_module, "app", app)
    with pytest.raises(SystemExit) as left:
        main(list(options))
    return left.value.code, capsys.readouterr().err


def out_of_memory():
    return torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB")


@pytest.mark.parametrize(
    ("error", "code", "words"),
    [
        (ValueError("x=1 is\nwrong"), 2, "error: x=1 is wrong"),
        (MemoryError(), 2, "not enough memory"),
        (out_of_memory(), 2, "not enough memory (CUDA out of memory. Tried"),
        (RecursionError("maximum recursion depth exceeded"), 2, "nested too deeply"),
        (RuntimeError("Expected one of cpu, cuda"), 2, "error: Expected one of"),
        (sqlite3.DatabaseError("file is not a database"), 2, "file of votes cannot be read"),
        (KeyError("lengths"), 1, "a defect of llm-gym (KeyError: 'lengths'"),
        (AssertionError(), 1, "a defect of llm-gym (AssertionError"),
        (Odd("y" * 999), 1, "a defect of llm-gym (Odd: yyyy"),
    ],
)
def test_every_exception_is_one_sentence(capsys, monkeypatch, error, code, words):
    found, message = ended(capsys, monkeypatch, error)
    assert found == code
    assert message.startswith("llm-gym: error: ")
    assert message.count("\n") == 1
    assert words in message
    assert len(message) < 500


@pytest.mark.parametrize("error", [ValueError("x"), KeyError("x"), Odd("x")])
def test_debug_shows_the_traceback(capsys, monkeypatch, error):
    def app(args, prog_name):
        raise error

    monkeypatch.setattr(app_module, "app", app)
    with pytest.raises(type(error)):
        main(["train", "--debug"])


def test_a_defect_says_where_it_is(capsys, monkeypatch):
    from llm_gym.files.page import duration

    try:
        duration(None)  # type: ignore[arg-type]
    except TypeError as error:
        cause = error
    odd = Odd("x").with_traceback(cause.__traceback__)
    assert "files/page.py:" in ended(capsys, monkeypatch, odd)[1]


def test_an_assertion_of_stable_baselines3_is_told_as_its_own(capsys, monkeypatch):
    def app(args, prog_name):
        from stable_baselines3 import PPO

        PPO("MlpPolicy", "CartPole-v1", batch_size=1)

    monkeypatch.setattr(app_module, "app", app)
    with pytest.raises(SystemExit) as left:
        main([])
    assert left.value.code == 2
    assert "Stable-Baselines3 refuses a setting: " in capsys.readouterr().err


def test_an_argument_in_another_encoding_is_named(capsys):
    with pytest.raises(SystemExit) as left:
        main(["generate", "model", "--prompt", "caf\udce9"])
    assert left.value.code == 2
    error = capsys.readouterr().err
    assert "argument 4 (caf\\udce9) is not text in utf-8" in error


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("evaluate m --num-envs 0", "num_envs=0 must be a whole number of at least 1"),
        ("evaluate m --device cuda:99", "device='cuda:99': this machine has"),
        ("generate m --seed -1", "seed=-1 must be a whole number from 0"),
        ("evaluate m --max-prompts 0", "max_prompts=0 must be"),
        ("train --clip-range nan", "clip_range=nan must be"),
    ],
)
def test_options_have_the_ranges_of_their_names(capsys, line, message):
    with pytest.raises(SystemExit) as left:
        main(line.split())
    assert left.value.code == 2
    assert message in capsys.readouterr().err


def test_a_file_may_be_called_what_it_likes(capsys, tmp_path):
    path = os.fsencode(tmp_path) + b"/caf\xe9.txt"
    with open(path, "w", encoding="utf-8") as file:
        file.write("")
    with pytest.raises(SystemExit):
        main(["generate", "--prompts", os.fsdecode(path), "--model", "llm_gym/email-base"])
    assert "is not text in" not in capsys.readouterr().err


def test_the_same_warning_is_said_once_a_command(monkeypatch):
    """Stages of a command, each at a line of its own, may have the same to say."""
    told = []

    def app(args, prog_name):
        for line, (message, category) in enumerate(
            [("a", PrecisionWarning)] * 2 + [("c", PrecisionWarning), ("c", UserWarning)] * 2
        ):
            told.append(warnings.formatwarning(message, category, "file.py", line))

    monkeypatch.setattr(app_module, "app", app)
    main([])
    ours = [text for text in told if text.startswith("llm-gym: warning: ")]
    assert ours == ["llm-gym: warning: a\n", "llm-gym: warning: c\n"]
    assert [text for text in told if "UserWarning" in text] == [
        f"file.py:{line}: UserWarning: c\n" for line in (3, 5)
    ]
    told.clear()
    main([])
    assert told[0] == "llm-gym: warning: a\n"
