"""`llm-gym train --processes N`, and what `torchrun` is told to start."""

from __future__ import annotations

import os
import re
import signal

import pytest
from torch.distributed import run as torchrun
from torch.distributed.elastic.multiprocessing import SignalException
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError, ProcessFailure

from llm_gym.cli import main, processes
from llm_gym.language_models import memory

LINE = ["train", "--env", "llm_gym/PoliteEmail-v0", "--output", "runs/x"]


def ended(argv, capsys) -> tuple[int, str]:
    with pytest.raises(SystemExit) as exit_:
        main(argv)
    return exit_.value.code, capsys.readouterr().err


@pytest.fixture
def started(monkeypatch):
    lines = []
    monkeypatch.setattr(torchrun, "main", lines.append)
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    return lines


@pytest.fixture
def of_three(monkeypatch):
    """As if this process were the second of three, without connecting it."""
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "test")
    monkeypatch.setenv("WORLD_SIZE", "3")
    monkeypatch.setenv("RANK", "1")


def test_torchrun_does_the_same_command_so_many_times(started, capsys):
    assert ended([*LINE, "--processes", "4"], capsys) == (0, "")
    [line] = started
    assert line[:5] == ["--standalone", "--nproc-per-node", "4", "--module", "llm_gym"]
    assert line[5:] == [*LINE, "--processes", "4"]


@pytest.mark.parametrize(
    ("cores", "given", "threads"), [(8, None, "2"), (3, None, "1"), (1, None, "1"), (8, "5", "5")]
)
def test_processes_share_the_cores_unless_somebody_has_said_how_many_threads(
    cores, given, threads, started, monkeypatch, capsys
):
    monkeypatch.setattr(processes.os, "sched_getaffinity", lambda _: range(cores), raising=False)
    monkeypatch.setattr(processes.sys, "platform", "linux")
    monkeypatch.delenv("OMP_NUM_THREADS")
    if given:
        monkeypatch.setenv("OMP_NUM_THREADS", given)
    ended([*LINE, "--processes", "4"], capsys)
    assert os.environ["OMP_NUM_THREADS"] == threads
    assert len(started) == 1


def test_a_wrong_setting_is_said_once_before_anything_is_started(started, capsys):
    code, error = ended([*LINE, "--processes", "3", "--clip-range", "-1"], capsys)
    assert code == 2
    assert "clip_range" in error
    code, error = ended([*LINE, "--processes", "0"], capsys)
    assert code == 2
    assert "processes=0" in error
    assert not started


def test_more_than_memory_holds_are_refused(started, capsys, monkeypatch):
    monkeypatch.setattr(memory, "free_memory", lambda: 1_000_000_000)
    line = [*LINE, "--num-envs", "40"]
    assert ended([*line, "--processes", "4"], capsys) == (0, "")
    code, error = ended([*line, "--processes", "5"], capsys)
    assert code == 2
    assert re.search(r"processes=5 take at least 1\.2 GB .* 1\.0 GB .* start at most 4$", error)
    assert len(started) == 1
    monkeypatch.setattr(memory, "free_memory", lambda: None)  # where the system does not say
    assert ended([*line, "--processes", "5"], capsys) == (0, "")


@pytest.mark.parametrize(
    ("ranks", "said"),
    [((0, 1, 2), [0]), ((2, 0), [0]), ((1,), [1]), ((2, 1), [1]), ((), [])],
)
def test_what_processes_fail_with_is_said_once(ranks, said, monkeypatch, capsys):
    """By the first, if it is among them."""

    def fail(_):
        monkeypatch.setenv("TORCHELASTIC_RUN_ID", "test")
        monkeypatch.setenv("WORLD_SIZE", "3")
        for rank in ranks:
            monkeypatch.setenv("RANK", str(rank))
            with pytest.raises(SystemExit, match="2"):
                main([*LINE, "--clip-range", f"-{rank}.5"])
        monkeypatch.delenv("TORCHELASTIC_RUN_ID")
        raise ChildFailedError("x", {0: ProcessFailure(0, 1, 2, "<NONE>")})

    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.setattr(torchrun, "main", fail)
    code, error = ended([*LINE, "--processes", "4"], capsys)
    assert code == 2
    assert re.findall(r"llm-gym: error: clip_range=-(\d)\.5", error) == [str(rank) for rank in said]
    assert len(error.splitlines()) == len(said)
    assert processes._ERRORS_IN not in os.environ


@pytest.mark.parametrize(
    ("line", "rows"),
    [
        (["--processes", "100000"], "num_envs=32 cannot be shared out among 100000 processes"),
        (["--processes", "3", "--num-envs", "4"], "it must be a multiple of 3"),
        (["--processes", "4", "--algorithm", "rloo", "--num-envs", "8"], "it must be a multiple"),
    ],
)
def test_no_more_are_started_than_can_have_rows(line, rows, started, capsys):
    code, error = ended([*LINE, *line], capsys)
    assert (code, started) == (2, [])
    assert rows in error
    assert error.count("\n") == 1


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (SignalException("", signal.SIGINT), 130),
        (ChildFailedError("x", {0: ProcessFailure(0, 1, 2, "<NONE>")}), 2),
        (ChildFailedError("x", {0: ProcessFailure(0, 1, -9, "<NONE>")}), 1),
    ],
)
def test_it_ends_as_they_do(error, code, started, monkeypatch, capsys):
    def fail(_):
        raise error

    monkeypatch.setattr(torchrun, "main", fail)
    assert ended([*LINE, "--processes", "2"], capsys) == (code, "")


def test_another_number_than_torchrun_has_started_is_refused(of_three, started, capsys):
    code, error = ended([*LINE, "--processes", "2"], capsys)
    assert (code, started) == (2, [])
    assert "processes=2, but torchrun has started 3" in error


@pytest.mark.parametrize("command", ["compare", "sft", "rlhf", "demo"])
def test_commands_for_one_process_say_so(command, of_three, capsys):
    arguments = {"sft": ["pairs.jsonl"], "compare": ["votes.db"]}.get(command, [])
    code, error = ended([command, *arguments], capsys)
    assert code == 2
    assert "torchrun has started 3 processes, and only `llm-gym train`" in error
    assert f"`llm-gym {command}`" in error
