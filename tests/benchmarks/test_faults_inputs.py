"""Bad command lines and bad calls: a sample of the benchmark's, each in a copy of this process."""

from __future__ import annotations

import sys
import time

import pytest

from benchmarks.faults import api_calls, command_lines
from benchmarks.faults.forks import Ending, forked


@pytest.fixture(scope="module")
def lines(tmp_path_factory):
    import llm_gym.stages.train  # noqa: F401 -- before the copies are made

    world = command_lines.World(tmp_path_factory.mktemp("lines"))
    return world, list(command_lines.lines(world))


@pytest.fixture(scope="module")
def calls(tmp_path_factory):
    world = api_calls.World(tmp_path_factory.mktemp("calls"))
    return world, list(api_calls.calls(world))


def test_there_are_so_many_different_ones(lines, calls):
    assert len({line.what for line in lines[1]}) > 500
    assert len({call.what for call in calls[1]}) > 450


@pytest.mark.parametrize("first", [7, 21, 35, 49])
def test_a_bad_command_line_ends_in_one_sentence_that_names_what_is_wrong(lines, first):
    world, all_lines = lines
    found = {line.what: command_lines.tried(line, world) for line in all_lines[first::56]}
    assert not {what: problem for what, problem in found.items() if problem}


def test_a_bad_call_raises_an_error_that_names_argument_and_value(calls, tmp_path):
    found = {call.what: api_calls.tried(call, tmp_path) for call in calls[1][3::23]}
    assert not {what: problem for what, problem in found.items() if problem}


@pytest.mark.parametrize(
    ("ending", "problem"),
    [
        (Ending(None, "", ""), "hangs"),
        (Ending(0, "", ""), "accepted"),
        (Ending(1, "", "Traceback (most recent call last)\nKeyError: 'x'\n"), "traceback"),
        (Ending(1, "", "llm-gym: error: this is a defect of llm-gym (KeyError)\n"), "defect"),
        (Ending(-9, "", ""), "exit code -9"),
        (Ending(2, "", "llm-gym: error: it went wrong\n"), "names none"),
        (Ending(2, "", "llm-gym: error: seed=1\nllm-gym: error: seed=2\n"), "2 sentences"),
        (Ending(2, "", "llm-gym: error: seed=-1 must be at least 0\n"), ""),
    ],
)
def test_the_benchmark_sees_a_line_that_does_not_end_as_it_should(ending, problem):
    found = command_lines.problem(command_lines.Line("x", ["train"], ("seed",)), ending)
    assert found.startswith(problem)
    assert bool(found) == bool(problem)


@pytest.mark.parametrize(
    ("function", "problem"),
    [
        (lambda seed: None, "accepted"),
        (lambda seed: {}["seed"], "another error: KeyError"),
        (lambda seed: int("x"), "no name: ValueError"),
        (lambda seed: sys.exit(3), "ends the process: 3"),
    ],
)
def test_the_benchmark_sees_a_call_that_does_not_end_as_it_should(function, problem, tmp_path):
    call = api_calls.Call("call", function, {"seed": -1}, "seed")
    assert api_calls.tried(call, tmp_path).startswith(problem)


def test_a_call_that_never_ends_is_ended(tmp_path):
    assert forked(lambda: time.sleep(60), tmp_path, limit=0.3).code is None
