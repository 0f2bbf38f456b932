"""Worlds that fail, on the command line: one clear line, and nothing of a run is lost."""

from __future__ import annotations

import pytest
from safetensors.torch import load_file

from llm_gym.runs.checkpoint import numbered_checkpoints

FILE = """
import itertools
import pathlib
import time

from tests.turns.worlds import Words

BROKEN = pathlib.Path(__file__).with_name("broken")


class Failing(Words):
    told = itertools.count(1)

    def step(self, text):
        if BROKEN.exists() and next(self.told) >= 20:
            {failure}
        return super().step(text)


class Mute(Words):
    def step(self, text):
        return None, 0.0, False, False, {{}}


class Unmade(Words):
    def __init__(self):
        raise KeyError("no such card")


class Slow(Words):
    def __init__(self):
        time.sleep(1000)


class Late(Words):
    def reset(self, *, seed):
        time.sleep(1000)
"""


@pytest.fixture
def place(tmp_path):
    """Writes worlds to a file, and says where each is."""

    def write(name, failure="pass"):
        (tmp_path / "worlds.py").write_text(FILE.format(failure=failure))
        return f"{tmp_path / 'worlds.py'}:{name}"

    return write


def of_world(world):
    return ["--world", world, "--max-turn-tokens", 3, "--max-turns", 3, "--context-length", 24]


def error_of(err):
    (line,) = [line for line in err.splitlines() if line.startswith("llm-gym: error: ")]
    assert "Traceback" not in err
    return line


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("Mute", "the world's step() returned None for its text"),
        ("Unmade", "the world could not be made: KeyError: 'no such card'"),
        ("Slow", "took longer than world_time_limit=0.2 s to be made"),
        ("Late", "took longer than world_time_limit=0.2 s to begin"),
    ],
)
@pytest.mark.parametrize("command", ["train", "evaluate"])
def test_a_world_that_fails_is_one_line(run, place, tiny_dir, tmp_path, command, name, said):
    world = [*of_world(place(name)), "--world-time-limit", 0.2, "--num-envs", 2]
    if command == "train":
        world += ["--model", tiny_dir(), "--output", tmp_path / "run", "--eval-conversations", 0]
    else:
        world = [tiny_dir(), *world, "--max-prompts", 2]
    code, _, err = run(command, *world)
    assert code == 2
    assert said in error_of(err)


def test_an_argument_that_a_world_does_not_know_is_said_as_that(run, place, tiny_dir, tmp_path):
    world = [*of_world(place("Late")), "--world-kwargs", "lives=3", "--output", tmp_path / "run"]
    code, _, err = run("train", "--model", tiny_dir(), *world)
    assert code == 2
    assert "error: the world could not be made: " in error_of(err)
    assert "'lives'" in err


@pytest.mark.parametrize(
    ("algorithm", "failure", "said"),
    [
        ("ppo", "raise KeyError('no such card')", "raised KeyError: 'no such card'; mend it"),
        pytest.param(
            *("rloo", "return 'w1', float('nan'), False, False, {}", "pays the reward nan"),
            marks=pytest.mark.slow,
        ),
    ],
)
def test_a_run_whose_world_fails_goes_on_where_the_last_update_left_it(
    run, place, tiny_dir, tmp_path, algorithm, failure, said
):
    """To the same weights, though no checkpoint was due yet."""
    common = [
        "--model", tiny_dir(), *of_world(place("Failing", failure)), "--num-envs", 2,
        "--algorithm", algorithm, "--on-max-length", "terminate", "--eval-conversations", 0,
        "--total-tokens", 96, "--checkpoint-every", 100,
    ]  # fmt: skip
    common += ["--n-steps", 8] if algorithm == "ppo" else ["--group-size", 2]
    whole, broken = tmp_path / "whole", tmp_path / "broken_run"
    assert run("train", *common, "--output", whole)[0] == 0

    (tmp_path / "broken").touch()
    code, _, err = run("train", *common, "--output", broken)
    assert code == 2
    assert said in error_of(err)
    (kept,) = numbered_checkpoints(broken / "checkpoints")
    assert f"goes on, with --resume, from {kept}" in " ".join(err.split())
    assert (broken / "settings.json").exists()

    (tmp_path / "broken").unlink()
    assert run("train", "--resume", broken)[0] == 0
    weights, expected = (
        load_file(path / "model" / "model.safetensors") for path in (broken, whole)
    )
    assert all(weights[name].equal(value) for name, value in expected.items())
    rows = [(path / "samples.jsonl").read_text() for path in (broken, whole)]
    assert rows[0] == rows[1]
