"""The benchmark of the doctor: its split, its tables, and some of its runs."""

from __future__ import annotations

import pytest

from benchmarks.doctor.run import chosen, half_of, is_right, parse, summary, table
from benchmarks.doctor.settings import FAULTS, HEALTHY, held_out
from benchmarks.doctor.training import train
from llm_gym.runs.doctor import RULES, diagnose
from tests.products import sampled

PLANTED = ("ratio-not-one/temperature", "kl-coef-scale/too-dear")
RUNS = {run.name: run for run in (*FAULTS, *HEALTHY)}


def test_there_are_enough_of_both_and_every_finding_is_planted():
    assert len(FAULTS) >= 25
    assert len(HEALTHY) >= 50
    assert len(RUNS) == len(FAULTS) + len(HEALTHY)
    assert {run.expected[0] for run in FAULTS} == {rule.id for rule in RULES}


def test_half_of_both_is_held_out_by_name_alone():
    for runs in (FAULTS, HEALTHY):
        kept = held_out(runs)
        assert len(kept) == len(runs) // 2
        assert kept == held_out(reversed(runs))
        assert all((half_of(run) == "held-out") == (run.name in kept) for run in runs)


def test_runs_are_chosen_by_half_and_by_name():
    held = chosen(parse(["--output", "x", "--only", "held-out"]))
    assert {run.name for run in held} == held_out(FAULTS) | held_out(HEALTHY)
    (one,) = chosen(parse(["--output", "x", "--names", "dead-groups"]))
    assert one.name == "dead-groups"
    with pytest.raises(ValueError, match="there is no run nothing"):
        chosen(parse(["--output", "x", "--names", "nothing"]))


def verdict(name, expected, found, notes=(), half="held-out", rose=True):
    wrong = [each for each in found if each not in notes]
    row = {"run": name, "what": "", "half": half, "expected": expected, "rose": rose}
    return {**row, "found": found, "wrong": wrong}


def test_the_first_finding_decides():
    rows = [
        verdict("a", ["x"], ["x", "y"]),
        verdict("b", ["x"], ["y", "x"]),
        verdict("c", ["x"], []),
        verdict("d", [], []),
        verdict("e", [], ["y"]),
        verdict("f", [], ["z"], notes=["z"]),
        verdict("g", [], ["y"], rose=False),
    ]
    assert [is_right(row) for row in rows] == [True, False, False, True, False, True, False]
    assert summary(rows)[-1] == "| held-out | 3 | 1 | 1 | 4 | 2 | 3 | 1 |"
    told = table(rows)
    assert told[2:] == [
        "| `a` |  | held-out | `x` | `y` |",
        "| `b` |  | held-out | **y** | `x` |",
        "| `c` |  | held-out | **nothing** |  |",
        "| `none (e)` |  | held-out | **y** |  |",
        "| `none (g)` |  | held-out | **y** |  |",
    ]


@pytest.mark.slow
@pytest.mark.parametrize("name", sampled(PLANTED, "kl-coef-scale/too-dear"))
def test_a_planted_fault_is_named(name, tmp_path):
    run = RUNS[name]
    train(run, tmp_path / "run")
    assert diagnose(tmp_path / "run")[0].id == run.expected[0]


@pytest.mark.slow
def test_a_healthy_run_is_not_accused_and_not_done_again(tmp_path):
    run = RUNS["additive-dr_grpo-0"]
    done = train(run, tmp_path / "run")
    assert diagnose(tmp_path / "run") == []
    assert train(run, tmp_path / "run") == done
