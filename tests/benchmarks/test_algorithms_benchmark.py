"""The algorithms benchmark: settings, jobs, store, statistics by hand, a whole run in small."""

from __future__ import annotations

import json
import math
import os
from dataclasses import replace

import numpy as np
import pytest

pytest.importorskip("rliable", reason="the statistics need rliable")

from benchmarks.algorithms import intervals, jobs, run, store
from benchmarks.algorithms.known_optimum import gradients, tuning
from benchmarks.algorithms.known_optimum import plan as known
from benchmarks.algorithms.known_optimum.settings import LEARNING_RATES, TASKS, Budget
from benchmarks.algorithms.known_optimum.summary import best_of_n_figures
from benchmarks.algorithms.known_optimum.training import (
    Watch,
    make_algorithm,
    make_problem,
    train,
    why_not,
)
from benchmarks.algorithms.settings import ENTRIES, Entry, fingerprint
from tests.products import sampled

TINY = replace(
    Budget(),
    seeds=2,
    rows=16,
    episodes=64,
    evaluations=2,
    gradient_rollouts=4,
    gradient_seeds=1,
    probe_warmup=1,
)


# ---------------------------------------------------------------------- settings and jobs


def test_every_entry_can_run_here():
    pytest.importorskip("sb3_contrib")
    assert {why_not(entry, Budget()) for entry in ENTRIES.values()} == {None}


def test_what_cannot_run_says_so_by_name():
    unfit = replace(ENTRIES["rloo_4"], group_size=3)
    assert why_not(unfit, TINY) == (
        "RLOO(4) compares 3 answers to a prompt, which does not divide 16 rows"
    )
    missing = replace(ENTRIES["trpo"], needs=("sb4_contrib",))
    assert why_not(missing, TINY) == (
        "TRPO (sb3-contrib) needs sb4_contrib, which is not installed"
    )
    unknown = replace(ENTRIES["ppo"], algorithm="llm_gym:PPPO")
    assert why_not(unknown, TINY).startswith("PPO is not there: ")


def test_fingerprints_tell_settings_apart():
    jobs_of = lambda entry, budget: known.known_jobs(  # noqa: E731
        {"ppo": entry}, {"sparse": TASKS["sparse"]}, budget
    )[0]
    plain = jobs_of(ENTRIES["ppo"], TINY)
    assert plain["key"] == "train/ppo/sparse/0"
    assert plain["settings"] == jobs_of(ENTRIES["ppo"], replace(TINY, seeds=7))["settings"]
    for entry, budget in (
        (replace(ENTRIES["ppo"], learning_rate=0.5), TINY),
        (ENTRIES["ppo"], replace(TINY, episodes=65)),
    ):
        assert jobs_of(entry, budget)["settings"] != plain["settings"]
    assert fingerprint(1) != fingerprint(2)


def test_every_algorithm_gets_the_same_tuning():
    tried = tuning.tuning_jobs(known.KnownPlan(TASKS, ENTRIES, TINY))
    counts = {name: sum(job["algorithm"] == name for job in tried) for name in ENTRIES}
    assert set(counts.values()) == {len(LEARNING_RATES) * len(TASKS) * TINY.tuning_seeds}
    assert len({job["key"] for job in tried}) == len(tried)
    reported = range(TINY.first_seed, TINY.first_seed + 1000)
    assert not {job["seed"] for job in tried} & set(reported)


# ---------------------------------------------------------------------- processes


def work_that_may_fail(job):
    if job["do"] == "raise":
        raise RuntimeError("on purpose")
    if job["do"] == "die":
        os._exit(7)
    return {"doubled": 2 * job["number"]}


def test_a_job_that_raises_or_dies_takes_nothing_with_it():
    wanted = [
        {"do": "raise", "number": 0},
        {"do": "die", "number": 1},
        {"do": "work", "number": 2},
        {"do": "work", "number": 3},
    ]
    found = {job["number"]: r for job, r in jobs.run_jobs(work_that_may_fail, wanted, 2)}
    assert (found[0]["status"], found[0]["error"]) == ("crashed", "RuntimeError: on purpose")
    assert "work_that_may_fail" in found[0]["traceback"]
    assert found[1]["status"] == "crashed"
    assert found[1]["error"] == "the process died with exit code 7"
    assert [found[2]["doubled"], found[3]["doubled"]] == [4, 6]
    assert found[2]["status"] == "done"


# ---------------------------------------------------------------------- the store

VERSION = {"torch": "1"}


def line(key, settings="s", status="done"):
    return {"key": key, "settings": settings, "status": status}


def test_done_jobs_are_not_done_again_and_crashed_ones_are(tmp_path):
    path = tmp_path / "runs.jsonl"
    first = store.RunStore(path, VERSION)
    first.add(line("a"))
    first.add(line("b", status="crashed"))
    again = store.RunStore(path, VERSION)
    assert [job["key"] for job in again.to_do([line("a"), line("b"), line("c")])] == ["b", "c"]
    again.add(line("b"))
    assert [run["status"] for run in again.of([line("b"), line("c")])] == ["done"]


def test_a_line_cut_off_by_an_interruption_is_dropped(tmp_path):
    path = tmp_path / "runs.jsonl"
    kept = store.RunStore(path, VERSION)
    kept.add(line("a"))
    whole = path.read_text()
    path.write_text(whole + '{"key": "b", "sett')
    assert [run["key"] for run in store.RunStore(path, VERSION).runs] == ["a"]
    assert path.read_text() == whole


def test_runs_of_another_version_or_other_settings_are_refused(tmp_path):
    path = tmp_path / "runs.jsonl"
    kept = store.RunStore(path, VERSION)
    kept.add(line("a"))
    with pytest.raises(store.OtherRunsError, match=r"\{'torch': '1'\}, now \{'torch': '2'\}"):
        store.RunStore(path, {"torch": "2"})
    with pytest.raises(store.OtherRunsError, match="holds a with other settings"):
        kept.to_do([line("a", settings="t")])


def test_figures_that_are_not_finite_never_reach_the_file(tmp_path):
    kept = store.RunStore(tmp_path / "runs.jsonl", VERSION)
    with pytest.raises(ValueError, match="not JSON compliant"):
        kept.add({**line("a"), "end": math.nan})
    assert kept.runs == []


# ---------------------------------------------------------------------- statistics and verdicts


def test_only_seeds_that_did_all_tasks_count():
    runs = [
        {"seed": seed, "task": task, "end": {"gain": seed + 10 * (task == "b")}}
        for seed, task in ((0, "a"), (0, "b"), (1, "a"), (2, "a"), (2, "b"))
    ]
    assert intervals.score_matrix(runs, ["a", "b"], "gain").tolist() == [[0, 10], [2, 12]]
    assert intervals.score_matrix([], ["a", "b"], "gain").shape == (0, 2)


def test_the_interquartile_mean_leaves_out_both_quarters():
    scores = np.array([[0.0, 1.0], [2.0, 3.0], [4.0, 5.0], [6.0, 700.0]])
    found = intervals.interquartile_means({"x": scores}, resamples=200)["x"]
    assert found["iqm"] == pytest.approx((2 + 3 + 4 + 5) / 4)
    assert found["low"] <= found["iqm"] <= found["high"]


def test_intervals_are_the_same_every_time_and_disturb_nobody():
    scores = {"x": np.random.default_rng(0).random((5, 4))}
    before = np.random.get_state()[1].tolist()  # noqa: NPY002
    assert intervals.interquartile_means(scores) == intervals.interquartile_means(scores)
    assert np.random.get_state()[1].tolist() == before  # noqa: NPY002


def test_the_probability_of_improvement_counts_pairs():
    scores = {"x": np.array([[1.0], [3.0]]), "y": np.array([[0.0], [2.0]])}
    found = intervals.improvement(scores, [("x", "y")], resamples=50)["x > y"]
    assert found["probability"] == pytest.approx(3 / 4)
    assert intervals.improvement(scores, []) == {}


def test_profiles_fall_from_all_to_none():
    found = intervals.profiles({"x": np.array([[0.25, 0.75]])})["x"]
    assert intervals.DISTANCES[6] == pytest.approx(0.5, abs=0.01)
    assert [found[0], found[6], found[-1]] == [1.0, 0.5, 0.0]


def test_best_of_one_is_the_reference():
    problem = make_problem(TASKS["additive"], 0)
    reference = problem.evaluate(problem.reference)
    found = best_of_n_figures(problem, 1)
    assert found[0] == pytest.approx(reference.j_over_jstar)
    assert found[1] == pytest.approx(reference.kl_to_optimum)


# ---------------------------------------------------------------------- runs


@pytest.mark.parametrize("name", ["ppo", "rloo_2", "raft", "dpo", "nlpo"])
def test_a_run_notes_exact_figures_of_every_kind_of_algorithm(name):
    job = {"entry": ENTRIES[name], "task": TASKS["length"], "budget": TINY, "seed": 0}
    found = train(job)
    problem = make_problem(TASKS["length"], 0)
    assert found["optimum"] == problem.optimal_objective
    start, end = found["points"][0], found["points"][-1]
    assert end == found["end"]
    assert start["episodes"] == 0
    assert end["episodes"] >= TINY.episodes
    if name != "nlpo":  # which starts with a mask
        assert start["kl_to_reference"] == pytest.approx(0, abs=1e-9)
    for point in found["points"]:
        missing = found["optimum"] - point["objective"]
        assert missing == pytest.approx(problem.beta * point["kl_to_optimum"], abs=1e-9)


@pytest.mark.slow
def test_stock_algorithms_pay_for_leaving_the_reference():
    pytest.importorskip("sb3_contrib")
    job = {"task": TASKS["additive"], "budget": replace(TINY, rows=128, episodes=6400), "seed": 0}
    entry = ENTRIES["maskable_ppo"]
    paying = train({**job, "entry": entry})["end"]
    free = train({**job, "entry": replace(entry, penalise=False)})["end"]
    assert paying["kl_to_reference"] < free["kl_to_reference"]
    assert paying["objective"] > free["objective"]


@pytest.mark.slow
@pytest.mark.parametrize("name", sampled(["rloo", "maskable_ppo"], "rloo"))
def test_the_price_of_a_nat_falls_to_beta(name):
    """A run whose penalty starts at 5 beta stays nearer the reference in its first half."""
    if ENTRIES[name].needs:
        pytest.importorskip("sb3_contrib")
    problem, far = make_problem(TASKS["additive"], 0), {}
    for start in (1.0, 5.0):
        entry = replace(ENTRIES[name], kl_start=start)
        model = make_algorithm(entry, problem, 128, 0)
        watch = Watch(problem, 6400, 4)
        model.learn(6400 * problem.tree.length, callback=watch, log_interval=None)
        watch.note()
        far[start] = [point["kl_to_reference"] for point in watch.points]
    assert far[5.0][2] < 0.8 * far[1.0][2]
    assert far[5.0][-1] > 0.8 * far[1.0][-1]


def test_the_estimators_gradient_is_the_exact_one_for_rloo_and_not_for_grpo():
    """By sampling: RLOO is without bias in direction, GRPO is not."""
    problem = make_problem(TASKS["length"], 0)
    place = gradients.half_way(problem)
    figures = {}
    for name in ("rloo_4", "grpo"):
        samples, exact = gradients.sampled_gradients(
            ENTRIES[name], problem, place, rows=256, rollouts=30
        )
        figures[name] = gradients.estimator_figures(samples, exact)
    rloo, grpo = figures["rloo_4"], figures["grpo"]
    # aggregation by a constant: the answers' sums are divided by their greatest length
    assert rloo.scale == pytest.approx(1 / problem.tree.length, rel=0.1)
    assert abs(rloo.direction_bias) < 4 * rloo.direction_bias_error + 0.005
    assert grpo.direction_bias > 0.05 + 3 * grpo.direction_bias_error


@pytest.mark.slow
def test_a_whole_benchmark_in_small_and_again(tmp_path, capsys, monkeypatch):
    broken = Entry("broken", "llm_gym:PPO", {"n_epochs": "many"})
    unable = replace(ENTRIES["rloo_4"], label="unable", group_size=3)
    chosen = {
        name: ENTRIES[name] for name in ("ppo", "rloo_4", "rloo_2", "raft", "grpo", "dr_grpo")
    }
    entries = {**chosen, "broken": broken, "unable": unable}
    monkeypatch.setattr(run, "ENTRIES", entries)  # the names that the command line takes
    monkeypatch.setattr(known, "ENTRIES", entries)
    monkeypatch.setattr(Budget, "quick", lambda self: TINY)
    arguments = ["--quick", "--tasks", "additive", "unique", "--output", str(tmp_path)]
    run.main([*arguments, "--algorithms", *chosen, "broken", "unable"])
    results = json.loads((tmp_path / "results.json").read_text())
    assert set(results["j_over_jstar"]) == set(chosen)
    for one in results["j_over_jstar"].values():
        assert set(one) == {"all", "low", "high", "additive", "unique"}
        assert all(0 < value <= 1 for value in one.values())
    assert results["cannot_run"] == [
        "unable compares 3 answers to a prompt, which does not divide 16 rows"
    ]
    crashed = {one["key"]: one["error"] for one in results["crashed"]}
    assert set(crashed) == {f"train/broken/{t}/{s}" for t in ("additive", "unique") for s in (0, 1)}
    assert set(results["gradients"]) == set(chosen)
    assert results["best_of_n"]["1"]["additive"][0] < results["best_of_n"]["4"]["additive"][0]
    names = {"results.md", "samples.png", "seconds.png", "j_over_jstar.png", "profiles.png"}
    assert names <= {path.name for path in tmp_path.iterdir()}
    lines = (tmp_path / "runs.jsonl").read_text().splitlines()
    one = json.loads(lines[0])
    assert {"commit", "version", "seed", "settings", "points", "status"} <= set(one)
    capsys.readouterr()

    run.main([*arguments, "--algorithms", *chosen])  # nothing is left to do
    assert (tmp_path / "runs.jsonl").read_text().splitlines() == lines
    with pytest.raises(SystemExit, match="with other settings"):
        run.main([*arguments, "--algorithms", *chosen, "--episodes", "48"])


def test_a_run_of_an_algorithm_without_a_curve_ends_with_results(tmp_path, monkeypatch):
    monkeypatch.setattr(Budget, "quick", lambda self: replace(TINY, gradient_rollouts=0, seeds=1))
    arguments = ["--quick", "--tasks", "additive", "--algorithms", "rloo_4"]
    run.main([*arguments, "--output", str(tmp_path)])
    assert "RLOO(4)" in (tmp_path / "results.md").read_text()
    assert {path.name for path in tmp_path.glob("*.png")} == {"j_over_jstar.png"}


@pytest.mark.slow
def test_tuning_chooses_the_best_rate_and_runs_use_it(tmp_path, monkeypatch):
    monkeypatch.setattr(Budget, "quick", lambda self: replace(TINY, tuning_seeds=1))
    monkeypatch.setattr(tuning, "LEARNING_RATES", (1e-4, 0.1))
    monkeypatch.setattr(known, "ENTRIES", {"rloo_4": ENTRIES["rloo_4"]})
    run.main(
        ["--quick", "--tune", "--tasks", "additive", "--episodes", "320", f"--output={tmp_path}"]
    )
    found = json.loads((tmp_path / "tuning.json").read_text())
    assert found["chosen"] == {"rloo_4": 0.1}
    assert set(found["mean_gain"]["rloo_4"]) == {"0.0001", "0.1"}
    entry = replace(ENTRIES["rloo_4"], learning_rate=9.0)
    plan = known.KnownPlan(entries={"rloo_4": entry})
    assert tuning.tuned(plan, tmp_path / "tuning.json").entries["rloo_4"].learning_rate == 0.1
    assert tuning.tuned(plan, tmp_path / "no.json") is plan


def test_bad_arguments_are_named(capsys):
    for arguments, message in (
        (["--seeds", "0"], "--seeds: 0 must be at least 1"),
        (["--algorithms", "pppo"], "invalid choice: 'pppo'"),
        (["--workers", "0"], "--workers: 0 must be at least 1"),
    ):
        with pytest.raises(SystemExit):
            run.parse([*arguments, "--output", "x"])
        assert message in capsys.readouterr().err
