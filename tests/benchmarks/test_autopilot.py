from __future__ import annotations

import importlib
import json

import numpy as np
import pytest

pytest.importorskip("llm_gym_autopilot", reason="the plug-in envs/autopilot is not installed")

from llm_gym_autopilot.evaluation import evaluate_pilot

from benchmarks.autopilot import entries, flight, gap, pilots, run, speed
from benchmarks.common import columns


def test_interval_of_one_seed_is_that_of_its_episodes():
    found = pilots.crossed_interval(np.array([[0.0, 1.0] * 50]))
    assert found["mean"] == 0.5
    assert 0.35 < found["low"] < 0.45 < 0.55 < found["high"] < 0.65


def test_interval_counts_the_difference_between_seeds():
    """Three seeds that differ are less sure than one seed of as many episodes."""
    rng = np.random.default_rng(0)
    same = rng.normal(size=(3, 100))
    differing = same + np.array([[-5.0], [0.0], [5.0]])
    narrow, wide = pilots.crossed_interval(same), pilots.crossed_interval(differing)
    assert narrow["mean"] == pytest.approx(wide["mean"])
    assert wide["high"] - wide["low"] > 10 * (narrow["high"] - narrow["low"])


def test_interval_leaves_out_what_is_missing():
    values = np.array([[1.0, np.nan, 3.0], [1.0, np.nan, np.nan]])
    assert pilots.crossed_interval(values)["mean"] == pytest.approx(5 / 3)
    nothing = {"mean": None, "low": None, "high": None}
    assert pilots.crossed_interval(np.full((2, 3), np.nan)) == nothing


def test_learning_curve_reads_the_agents_rows():
    rows = [
        {"step": 0.0, "time/cpu_seconds": 0.0, "return/none": 60.0, "return/moderate": 61.0},
        {"step": 9.0, "time/cpu_seconds": 2.0, "return/none": 80.0, "return/moderate": 70.0},
    ]
    assert pilots.learning_curve(rows) == {
        "steps": [0.0, 9.0], "cpu_seconds": [0.0, 2.0], "none": [60.0, 80.0],
        "moderate": [61.0, 70.0],
    }  # fmt: skip


def test_ratios_are_medians_of_rounds_and_know_their_goals():
    turns = {"single": [1.0, 2.0, 30.0], "cartpole": [2.0, 2.0, 10.0]}
    found = speed.ratio_figures(turns)
    assert list(found) == ["one aeroplane / CartPole"]
    ratio = found["one aeroplane / CartPole"]
    assert ratio["median"] == 1.0
    assert (ratio["low"], ratio["high"]) == (0.5, 3.0)
    assert ratio["goal"] == 0.5


def test_every_ratio_is_of_known_contenders():
    for ratio in entries.RATIOS.values():
        assert {ratio.of, ratio.over} <= entries.CONTENDERS.keys()


@pytest.mark.parametrize("key", ["single", "vector_64_f32", "cartpole_64"])
def test_timer_counts_the_steps_of_all_rows(key, monkeypatch):
    """With a clock that says how often it was asked, the speed is known."""
    contender = entries.CONTENDERS[key]
    timer = speed.Timer(contender)
    ticks = iter(range(10))
    monkeypatch.setattr(speed.time, "process_time", lambda: 2.0 * next(ticks))
    assert timer.steps_per_second(6) == 3 * (contender.num_envs or 1)
    timer.env.close()


def test_gap_row_compares_equal_seeds():
    toy = evaluate_pilot("trim", turbulence="none", episodes=3)
    row = gap.gap_row(toy, toy)
    assert row["difference"] == {"mean": 0.0, "low": 0.0, "high": 0.0}
    assert row["toy"] == row["jsbsim"]
    assert row["toy"]["return"]["mean"] == pytest.approx(toy.mean_return)


def test_gap_says_why_it_is_skipped(monkeypatch):
    monkeypatch.setattr(gap.importlib.util, "find_spec", lambda name: None)
    said = []
    found = gap.measure_gap(episodes=1, say=said.append)
    assert found == {"skipped": gap.MISSING}
    assert "pip install" in said[0]


def test_flight_notes_start_and_every_step():
    flown = flight.fly("pid")
    assert len(flown["time_s"]) == len(flown["altitude_m"]) == 301
    assert flown["altitude_m"][0] == flight.START["altitude"]
    assert abs(flown["altitude_m"][-1] - flight.START["target_altitude"]) < 20
    assert 0 < flown["return"][0] <= 300


def test_columns_are_aligned():
    assert columns([["", "a"], ["name", "10"]]) == "       a\nname  10"


# ---------------------------------------------------------------------- end to end


TINY = run.Settings(quick=True, episodes=3, gap_episodes=1, rounds=2, turn_seconds=0.001)


@pytest.fixture
def tiny(monkeypatch):
    """Two trainings of a few steps, one pilot to compare, two environments to time."""
    options = {"num_envs": 4, "hidden": 8, "eval_every": 32, "eval_episodes": 2}
    ppo = {**options, "n_steps": 8, "batch_size": 16, "n_epochs": 1}
    trainings = {"ppo": entries.Training("PPO", "ppo_autopilot", ppo, 1, 64, 2)}
    monkeypatch.setattr(run, "QUICK", TINY)
    monkeypatch.setattr(pilots, "TRAININGS", trainings)
    contenders = {key: entries.CONTENDERS[key] for key in ("single", "cartpole", "vector_64_f64")}
    monkeypatch.setattr(speed, "CONTENDERS", contenders)
    monkeypatch.setattr(flight, "PILOTS", {"pid": "PID"})
    monkeypatch.setattr(gap.importlib.util, "find_spec", lambda name: None)


@pytest.mark.slow
def test_whole_benchmark_and_going_on(tiny, tmp_path, capsys):
    output = tmp_path / "out"
    run.main(["--quick", "--only", "speed", "--output", str(output)])
    assert {file.name for file in output.iterdir()} == {
        "results.json", "part-speed.json", "speed.png",
    }  # fmt: skip
    measured = (output / "part-speed.json").read_bytes()
    run.main(["--quick", "--output", str(output)])
    assert (output / "part-speed.json").read_bytes() == measured
    results = json.loads((output / "results.json").read_text())
    assert {"machine", "versions", "commit", "settings", "agents", "gap", "speed"} <= results.keys()
    assert results["gap"]["skipped"]
    ppo = results["agents"]["pilots"]["ppo"]
    assert "only 64 steps" in ppo["note"]
    assert len(ppo["seeds"]) == len(results["agents"]["curves"]["ppo"]) == 2
    assert 0 < ppo["levels"]["severe"]["return"]["mean"] < 300
    for picture in ("learning.png", "agents.png", "flight.png"):
        assert (output / picture).stat().st_size > 10_000
    shown = capsys.readouterr()
    assert "turbulence: severe" in shown.out
    assert "gap: skipped" in shown.out
    assert "speed: kept from" in shown.err


def test_trained_agents_are_found_again(tiny, tmp_path):
    said = []
    training = pilots.TRAININGS["ppo"]
    folder = pilots.trained("ppo", training, 0, tmp_path, True, said.append)
    model = (folder / "model.zip").read_bytes()
    pilots.trained("ppo", training, 0, tmp_path, True, said.append)
    assert (folder / "model.zip").read_bytes() == model
    assert ["training" in line for line in said] == [True, False]
    changed = training._replace(quick_steps=96)
    pilots.trained("ppo", changed, 0, tmp_path, True, said.append)
    assert "training" in said[-1]


def test_a_training_that_was_stopped_does_not_count(tiny, tmp_path, monkeypatch):
    script = importlib.import_module("agents.ppo_autopilot")

    def interrupt(watch):
        raise KeyboardInterrupt

    monkeypatch.setattr(script.TrainingWatch, "_on_step", interrupt)
    training = pilots.TRAININGS["ppo"]
    with pytest.raises(KeyboardInterrupt):
        pilots.trained("ppo", training, 0, tmp_path, True, print)
    assert not (tmp_path / "agents" / "ppo-0" / "config.json").exists()
