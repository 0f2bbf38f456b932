"""The algorithms benchmark on the autopilot: refusals by name, runs in small, statistics."""

from __future__ import annotations

import inspect
import json
import math
from dataclasses import replace

import numpy as np
import pytest

pytest.importorskip("rliable", reason="the statistics need rliable")
pytest.importorskip("llm_gym_autopilot", reason="the plug-in envs/autopilot is not installed")
pytest.importorskip("sb3_contrib")

import gymnasium as gym
from llm_gym_autopilot.evaluation import evaluate_pilot
from llm_gym_autopilot.pilots.network import network_of

from agents import ppo_autopilot, sac_autopilot
from benchmarks.algorithms import run
from benchmarks.algorithms.building import named, why_absent
from benchmarks.algorithms.flight import plan as flight_plan
from benchmarks.algorithms.flight import summary, training
from benchmarks.algorithms.flight.settings import AUTOPILOT, FLIGHT_ENTRIES, FlightBudget
from benchmarks.algorithms.known_optimum.plan import known_entries
from benchmarks.algorithms.report import page
from benchmarks.algorithms.settings import ENTRIES
from benchmarks.algorithms.text.plan import text_entries
from benchmarks.algorithms.text.settings import TEXT_ENTRIES
from benchmarks.autopilot.entries import LEVELS

TINY = FlightBudget(seeds=2, steps=64, evaluations=2, flights=2)
CHANGES = {
    "policy_kwargs": {"net_arch": [8]},
    "n_steps": 8,
    "batch_size": 16,
    "gradient_steps": 1,
    "learning_starts": 16,
}


def small(entry):
    changed = {name: CHANGES.get(name, value) for name, value in entry.arguments.items()}
    return replace(entry, rows=4, arguments=changed)


SMALL = {name: small(entry) for name, entry in FLIGHT_ENTRIES.items()}


def parse(*arguments):
    return run.parse([*arguments, "--output", "x"])


def plan(*arguments):
    return flight_plan.plan_flights(parse(*arguments))


# ---------------------------------------------------------------------- who flies and who cannot


def test_the_autopilot_refuses_by_name_before_anything_starts(tmp_path, capsys):
    with pytest.raises(SystemExit, match="nothing is left to run"):
        run.main(
            ["--only", "autopilot", "--algorithms", "ppo", "rloo_4", f"--output={tmp_path / 'out'}"]
        )
    said = capsys.readouterr().out
    assert (
        "PPO cannot run on llm_gym/Autopilot-v0: actions there are continuous, not tokens; there "
        "is no language model to carry a critic\n" in said
    )
    assert (
        "RLOO(4) cannot run on llm_gym/Autopilot-v0: actions there are continuous, not tokens; "
        "there are no groups of answers to one prompt\n" in said
    )
    assert "fly stock algorithms (sb3_ppo, sb3_a2c, sb3_trpo, sb3_sac, sb3_td3)" in said
    assert "benchmarks/autopilot" in said
    assert not (tmp_path / "out" / "runs.jsonl").exists()


def test_the_autopilots_actions_are_continuous_indeed():
    assert isinstance(gym.make(AUTOPILOT).action_space, gym.spaces.Box)


def test_stock_algorithms_are_refused_elsewhere_by_name():
    said = plan("--algorithms", "sb3_sac", "ppo", "--only", "reasoning")
    assert said.entries == {}
    assert said.cannot_run == [
        "stock SAC runs on llm_gym/Autopilot-v0 alone, not on reasoning: its network reads "
        "instruments, not tokens"
    ]
    alone = plan("--algorithms", "sb3_sac", "--only", "autopilot")
    assert (list(alone.entries), alone.cannot_run) == (["sb3_sac"], [])
    assert plan("--only", "reasoning").cannot_run == []  # nobody asked for them


def test_everybody_is_refused_or_flies_where_no_algorithms_are_named():
    everybody = plan()
    assert list(everybody.entries) == list(FLIGHT_ENTRIES)
    said = "\n".join(everybody.cannot_run)
    assert all(entry.label in said for entry in TEXT_ENTRIES.values())
    assert len(everybody.cannot_run) == 3 + 1  # a line a reason, and who flies
    assert everybody.budget == FlightBudget()
    few = plan("--quick", "--seeds", "3", "--steps", "70")
    assert few.budget == replace(FlightBudget().quick(), seeds=3, steps=70)


def test_a_missing_package_is_named():
    entry = replace(FLIGHT_ENTRIES["sb3_trpo"], needs=("sb4_contrib",))
    assert why_absent(entry.label, entry.algorithm, entry.needs) == (
        "stock TRPO needs sb4_contrib, which is not installed"
    )


def test_names_of_stock_algorithms_are_no_others():
    assert not set(FLIGHT_ENTRIES) & set(ENTRIES)
    chosen = parse("--algorithms", "sb3_ppo", "rloo_4")
    assert list(known_entries(chosen)) == list(text_entries(chosen)) == ["rloo_4"]
    assert list(flight_plan.flight_entries(chosen)) == ["sb3_ppo"]


# ---------------------------------------------------------------------- settings


def test_every_argument_is_one_that_the_class_takes_and_steps_are_whole_rollouts():
    budget = FlightBudget()
    for entry in FLIGHT_ENTRIES.values():
        taken = inspect.signature(named(entry.algorithm)).parameters
        assert set(entry.arguments) <= set(taken)
        rollout = entry.rows * entry.arguments.get("n_steps", 1)
        for steps in (budget.steps, budget.quick().steps):
            assert steps % rollout == 0  # so that everybody flies equally many
        assert budget.steps // (budget.evaluations - 1) % rollout == 0
        assert entry.arguments.get("buffer_size", budget.steps) >= budget.steps


@pytest.mark.parametrize(
    ("name", "agent", "differing"),
    [("sb3_ppo", ppo_autopilot, set()), ("sb3_sac", sac_autopilot, {"gradient_steps"})],
)
def test_settings_are_those_of_the_agents(name, agent, differing):
    config, entry = agent.Config(), FLIGHT_ENTRIES[name]
    known = {key: value for key, value in entry.arguments.items() if hasattr(config, key)}
    found = {key for key, value in known.items() if value != getattr(config, key)}
    assert found - {"buffer_size"} == differing
    assert entry.learning_rate == config.learning_rate
    assert entry.arguments["policy_kwargs"]["net_arch"] == [config.hidden] * 2
    assert entry.arguments["gamma"] == config.gamma


def test_settings_tell_runs_apart_and_seeds_do_not():
    chosen = flight_plan.FlightPlan({"sb3_ppo": SMALL["sb3_ppo"]}, TINY)
    first, second = flight_plan.flight_jobs(chosen)
    assert (first["key"], second["key"]) == ("flight/sb3_ppo/0", "flight/sb3_ppo/1")
    assert first["settings"] == second["settings"]
    more = flight_plan.flight_jobs(replace(chosen, budget=replace(TINY, seeds=7)))
    assert more[0]["settings"] == first["settings"]
    for other in (
        replace(chosen, budget=replace(TINY, steps=65)),
        replace(chosen, entries={"sb3_ppo": replace(SMALL["sb3_ppo"], learning_rate=1.0)}),
    ):
        assert flight_plan.flight_jobs(other)[0]["settings"] != first["settings"]


# ---------------------------------------------------------------------- runs


@pytest.mark.parametrize("name", list(FLIGHT_ENTRIES))
def test_a_run_notes_held_out_flights_before_and_after(name):
    before = json.dumps(SMALL[name].arguments)
    found = training.train_to_fly({"entry": SMALL[name], "budget": TINY, "seed": 0})
    assert json.dumps(SMALL[name].arguments) == before  # the libraries write into what they get
    start, end = found["start"], found["end"]
    assert (start, end) == (found["points"][0], found["points"][-1])
    assert (start["steps"], end["steps"]) == (0, 64)
    assert start["cpu_seconds"] <= end["cpu_seconds"]
    for point in (start, end):
        assert 0 < point["return"] < 300
        assert point["return"] == pytest.approx(
            sum(point[f"return/{level}"] for level in LEVELS) / 4
        )
        assert 0 <= point["success"] <= 1
    assert any(end[name] != start[name] for name in start if name.startswith("return"))


@pytest.mark.parametrize("name", ["sb3_ppo", "sb3_sac"])
def test_returns_are_those_of_the_network_flown_by_numpy_alone(name):
    model = training.make_flyer(SMALL[name], seed=3)
    same = {"turbulence": "moderate", "episodes": 3}
    theirs, ours = (evaluate_pilot(one, **same) for one in (network_of(model), model))
    assert ours.mean_return == pytest.approx(theirs.mean_return, abs=1e-2)
    assert ours.seed >= 1_000_000  # held out


def test_td3_explores_by_noise_of_its_own_in_every_action():
    model = training.make_flyer(SMALL["sb3_td3"], seed=0)
    assert model.action_noise._sigma.tolist() == [0.1, 0.1]
    assert training.make_flyer(SMALL["sb3_sac"], seed=0).action_noise is None


def test_figures_that_are_not_finite_are_no_point():
    row = {f"{m}/{level}": 1.0 for m in training.MEASURES for level in LEVELS}
    row |= {"step": 8, "time/cpu_seconds": 2.0}
    assert training.point_of(row)["return"] == 1.0
    del row["success/light"]  # the log leaves out what is not finite
    row["return/none"] = math.inf
    with pytest.raises(ValueError, match=r"after 8 steps: \['return/none', 'success/light'\]"):
        training.point_of(row)


# ---------------------------------------------------------------------- results


def line(algorithm, seed, returns, success=0.5, status="done"):
    end = {f"return/{level}": value for level, value in zip(LEVELS, returns, strict=True)}
    end |= {f"{m}/{level}": success for m in ("success", "stick") for level in LEVELS}
    means = {"return": float(np.mean(returns)), "success": success, "stick": success}
    return {
        "kind": "flight",
        "status": status,
        "algorithm": algorithm,
        "seed": seed,
        "start": {"return": 60.0},
        "end": {**end, **means, "steps": 64, "cpu_seconds": 4.0},
    }


def test_returns_and_statistics_by_hand(monkeypatch):
    monkeypatch.setattr(summary, "PILOTS", ("trim",))
    runs = [line("sb3_ppo", seed, [100.0 + seed] * 4, seed / 2) for seed in (2, 0, 1)]
    runs += [line("sb3_sac", 0, [200.0, 180.0, 170.0, 90.0])]
    runs += [line("sb3_sac", 1, [0.0] * 4, status="crashed"), {**runs[0], "kind": "text"}]
    chosen = {name: FLIGHT_ENTRIES[name] for name in ("sb3_ppo", "sb3_sac", "sb3_td3")}
    results = summary.summarise_flights(runs, flight_plan.FlightPlan(chosen, TINY))
    found = results["flights"]
    assert set(found["learnt"]) == {"sb3_ppo", "sb3_sac"}
    ppo, sac = found["learnt"]["sb3_ppo"], found["learnt"]["sb3_sac"]
    assert (ppo["seeds"], ppo["before"], ppo["return"]["mean"]) == (3, 60.0, 101.0)
    assert (ppo["return"]["low"], ppo["return"]["high"]) == (100.0, 102.0)
    assert ppo["success"]["mean"] == 0.5
    assert 0 <= ppo["success"]["low"] < 0.5 < ppo["success"]["high"] <= 1
    assert sac["return"]["low"] is None
    assert (sac["seeds"], sac["return"]["mean"], sac["return/severe"]) == (1, 160.0, 90.0)
    # Twelve returns, four each of 100, 101 and 102: without both quarters three of the outer ones.
    mean = found["interquartile_mean"]
    assert mean["sb3_ppo"]["iqm"] == pytest.approx(101.0)
    assert mean["sb3_sac"]["iqm"] == pytest.approx((180 + 170) / 2)
    # SAC is better than all of PPO's runs at three levels, worse at the fourth.
    assert found["improvement_over_ppo"]["sb3_sac > sb3_ppo"]["probability"] == pytest.approx(3 / 4)
    trim = evaluate_pilot("trim", turbulence="severe", episodes=TINY.flights)
    assert found["pilots"]["trim"]["return/severe"] == pytest.approx(trim.mean_return)
    table = page({**results, "cannot_run": [], "crashed": []})
    assert "| stock PPO | 101.0 [100.0, 102.0] | 101.0 [" in table
    assert "| 101 / 101 / 101 / 101 | 50 [4, 96] | 50 / 50 / 50 / 50 | 0.50 |  | 64 |" in table
    assert "| stock SAC | 160.0 | 175.0 | 200 / 180 / 170 / 90 | 50 |" in table
    assert "| hands off | " in table


@pytest.mark.slow
def test_a_whole_benchmark_of_flights_and_again(tmp_path, monkeypatch, capsys):
    bad = replace(SMALL["sb3_a2c"], label="bad", arguments={"n_steps": "many"})
    monkeypatch.setattr(flight_plan, "FLIGHT_ENTRIES", {**SMALL, "sb3_a2c": bad})
    monkeypatch.setattr(FlightBudget, "quick", lambda self: replace(TINY, seeds=1))
    arguments = ["--quick", "--only", "autopilot", "--output", str(tmp_path), "--algorithms"]
    run.main([*arguments, "sb3_ppo", "sb3_a2c", "raft"])
    results = json.loads((tmp_path / "results.json").read_text())
    assert list(results["flights"]["learnt"]) == ["sb3_ppo"]
    assert set(results["flights"]["pilots"]) == {"pid", "trim"}
    assert [one["key"] for one in results["crashed"]] == ["flight/sb3_a2c/0"]
    assert results["cannot_run"][0].startswith("RAFT(4) cannot run on llm_gym/Autopilot-v0: ")
    assert {"results.md", "flights.png"} <= {path.name for path in tmp_path.iterdir()}
    lines = (tmp_path / "runs.jsonl").read_text().splitlines()
    one = next(each for each in map(json.loads, lines) if each["algorithm"] == "sb3_ppo")
    assert {"commit", "version", "seed", "settings", "points", "status"} <= set(one)
    assert (one["key"], one["task"]) == ("flight/sb3_ppo/0", "autopilot")

    capsys.readouterr()
    run.main([*arguments, "sb3_ppo"])  # nothing is left to do
    assert "1 of 1 runs are there already" in capsys.readouterr().out
    assert (tmp_path / "runs.jsonl").read_text().splitlines() == lines
    with pytest.raises(SystemExit, match="with other settings"):
        run.main([*arguments, "sb3_ppo", "--steps", "32"])
