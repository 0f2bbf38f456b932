"""The algorithms benchmark on text: refusals by name, runs in small, statistics, resuming."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

pytest.importorskip("rliable", reason="the statistics need rliable")

from benchmarks.algorithms import run
from benchmarks.algorithms.known_optimum.plan import plan_known
from benchmarks.algorithms.report import page
from benchmarks.algorithms.settings import ENTRIES
from benchmarks.algorithms.store import OtherRunsError
from benchmarks.algorithms.text import models, pictures, settings, training, tuning
from benchmarks.algorithms.text import plan as text_plan
from benchmarks.algorithms.text.settings import TEXT_ENTRIES, TEXT_TASKS, TextBudget, TextTask
from benchmarks.algorithms.text.summary import critics, summarise_text
from llm_gym.files import atomic
from llm_gym.testing.tiny import save_tiny_model
from tests.products import sampled

HERE = "tests.benchmarks.test_algorithms_text"
TINY_TASK = TextTask(
    "llm_gym/TextGeneration-v0",
    maker=f"{HERE}:make_tiny",
    scorer=f"{HERE}:share_of_w3",
    environment=(("max_prompt_tokens", 4), ("max_new_tokens", 4)),
    tokens=128,
    rows=16,
)
TINY_BUDGET = TextBudget(seeds=1, evaluations=2, measured_prompts=4)


def make_tiny(folder, data, steps):
    save_tiny_model(folder / "model")
    prompts = {
        "training": [f"w{i} w{i + 1}" for i in range(8)],
        "measuring": [f"w{i} w{i + 2}" for i in range(6)],
    }
    atomic.write_json(folder / "prompts.json", prompts)
    return {"seen": str(data)}


def fail_to_make(folder, data, steps):
    raise RuntimeError("no model today")


def share_of_w3(folder):
    assert (folder / "prompts.json").exists()
    return lambda prompts, completions: [text.split().count("w3") / 4 for text in completions]


def always_half(folder):
    return lambda prompts, completions: [0.5] * len(prompts)


def parse(*arguments):
    return run.parse([*arguments, "--output", "x"])


# ---------------------------------------------------------------------- what cannot run


def test_every_algorithm_has_settings_for_text_and_groups_that_fit():
    assert set(ENTRIES) - set(TEXT_ENTRIES) == {"ppo_constant_beta", "rloo_constant_beta"}
    assert {len(rates) for rates in settings.TEXT_LEARNING_RATES.values()} == {3}
    assert set(settings.TEXT_LEARNING_RATES) == set(TEXT_TASKS)
    assert not [name for name in TEXT_ENTRIES if pictures.family_of(name)[0] == "others"]
    for entry in TEXT_ENTRIES.values():
        assert 1e-5 < entry.learning_rate <= 1e-3
        for name, task in TEXT_TASKS.items():
            assert training.why_not_on_text(entry, name, task) is None


def test_real_text_without_a_file_and_tasks_without_their_package_are_left_out(monkeypatch):
    missing = replace(TINY_TASK, needs=("llm_gym_reasonning",))
    plan = text_plan.select(
        {"real-text": TEXT_TASKS["real-text"], "reasoning": missing}, TEXT_ENTRIES, None
    )
    assert plan.tasks == {}
    assert plan.cannot_run == [
        "real-text is left out: it needs a text, --data FILE",
        "reasoning is left out: llm_gym_reasonning is not installed (envs/reasoning)",
    ]


def test_groups_that_do_not_fit_and_packages_that_are_missing_are_named():
    entries = {
        "odd": replace(TEXT_ENTRIES["rloo_4"], group_size=3),
        "absent": replace(TEXT_ENTRIES["trpo"], needs=("sb4_contrib",)),
        "good": TEXT_ENTRIES["ppo"],
    }
    plan = text_plan.select({"tiny": TINY_TASK}, entries, None)
    assert list(plan.entries["tiny"]) == ["good"]
    assert plan.cannot_run == [
        "RLOO(4) compares 3 answers to a prompt, which does not divide the 16 rows of tiny",
        "TRPO (sb3-contrib) needs sb4_contrib, which is not installed",
    ]


# ---------------------------------------------------------------------- the command line


def test_only_chooses_the_kind_of_tasks():
    assert parse("--quick").kinds == list(run.KINDS)
    assert parse("--only", "known-optimum").kinds == ["known-optimum"]
    assert parse("--tasks", "additive").kinds == ["known-optimum"]
    polite = parse("--only", "polite-email", "--quick")
    assert polite.kinds == ["polite-email"]
    assert plan_known(polite).tasks == {}
    assert list(text_plan.text_entries(polite)) == list(settings.QUICK_ALGORITHMS)
    assert text_plan.text_entries(parse("--only", "polite-email")) == TEXT_ENTRIES
    assert list(text_plan.text_entries(parse("--algorithms", "raft", "--quick"))) == ["raft"]
    assert parse("--only", "polite-email", "reasoning").kinds == ["polite-email", "reasoning"]
    assert parse("--tune").kinds == ["known-optimum"]
    assert parse("--tune", "--only", "polite-email").kinds == ["polite-email"]


def test_bad_options_are_named(capsys):
    for arguments, message in (
        (["--only", "reasoning", "--tasks", "additive"], "--tasks is for known-optimum alone"),
        (["--only", "autopilot", "--tune"], "--tune is for known-optimum and tasks of text"),
        (["--data", "nowhere.txt"], "--data: nowhere.txt: there is no such file"),
        (["--tokens", "0"], "--tokens: 0 must be at least 1"),
    ):
        with pytest.raises(SystemExit):
            parse(*arguments)
        assert message in capsys.readouterr().err


# ---------------------------------------------------------------------- models and scores


def test_politeness_goes_from_0_to_1():
    from llm_gym.polite_email.judge import PolitenessScorer

    prompt, email = "Write an email to your boss asking for a day off.", "Could you help, please?"
    [ours], [whole] = (
        scorer([prompt], [email]) for scorer in (models.politeness_share(None), PolitenessScorer())
    )
    assert whole > 0
    assert ours == pytest.approx(whole / 100)


def test_prompts_of_real_text_come_from_its_held_out_part(tmp_path, monkeypatch):
    from benchmarks.real_text import run as real_text

    text = " ".join(f"word{i}" for i in range(2000))
    data = tmp_path / "text.txt"
    data.write_text(text)
    seen = {}
    monkeypatch.setattr(
        real_text,
        "pretrain_on",
        lambda settings, documents, held_out, model: seen.update(documents=documents) or {},
    )
    models.make_real_text_model(tmp_path, data, 1)
    prompts = json.loads((tmp_path / "prompts.json").read_text())
    assert prompts["scorer"] == "warmth"
    assert not set(prompts["training"]) & set(prompts["measuring"])
    learnt = " ".join(seen["documents"])
    for prompt in prompts["training"] + prompts["measuring"]:
        assert prompt in text
        assert prompt not in learnt
    scorer = models.real_text_scorer(tmp_path)
    assert scorer([""], ["love and joy"]) == [pytest.approx(0.4)]


# ---------------------------------------------------------------------- runs


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tiny")
    make_tiny(folder, None, None)
    return folder


def tiny_job(entry, folder, kind="text", **changes):
    job = {"kind": kind, "entry": entry, "task": TINY_TASK, "budget": TINY_BUDGET}
    return {**job, "seed": 0, "folder": folder, **changes}


NAMES = ("ppo", "rloo_4", "remax", "nlpo", "raft", "dpo", "trpo")


@pytest.mark.parametrize("name", sampled(NAMES, "ppo", "rloo_4", "nlpo", "raft", "dpo"))
def test_a_run_notes_held_out_scores_before_and_after(name, folder):
    entry = TEXT_ENTRIES[name]
    if entry.needs:
        pytest.importorskip("sb3_contrib")
    found = training.train_on_text(tiny_job(entry, folder))
    start, end = found["points"][0], found["points"][-1]
    assert (start, end) == (found["start"], found["end"])
    assert start["tokens"] == 0
    assert end["tokens"] >= TINY_TASK.tokens
    assert start["kl_to_reference"] == pytest.approx(0, abs=1e-5)
    assert end["kl_to_reference"] > 1e-6  # it learnt something
    assert 0 <= end["score"] <= 1
    assert end["objective"] == pytest.approx(end["score"] - 0.01 * end["kl_to_reference"])
    assert 1 <= end["length"] <= 4


def test_critics_start_at_the_level_of_the_returns(folder, monkeypatch):
    seen = []

    class Kept(training.CriticStart):
        def _on_rollout_end(self):
            super()._on_rollout_end()
            seen.append(self.level)

    monkeypatch.setattr(training, "CriticStart", Kept)
    always = replace(TINY_TASK, scorer=f"{HERE}:always_half")
    for name, expected in (("a2c", 0.5), ("rloo_4", None), ("ppo_zero_start", None)):
        arguments = {**TEXT_ENTRIES[name].arguments, "kl_coef": 0.0, "reward_scaling": False}
        entry = replace(TEXT_ENTRIES[name], arguments=arguments)
        training.train_on_text(tiny_job(entry, folder, task=always))
        if name == "ppo_zero_start":
            assert seen == []
        else:
            assert seen[0] == (None if expected is None else pytest.approx(expected))
        seen.clear()


def line(algorithm, task, seed, before, after):
    common = {"kl_to_reference": 2.0, "length": 3.0, "share_ended": 1.0, "tokens": 10}
    return {
        "kind": "text",
        "status": "done",
        "algorithm": algorithm,
        "task": task,
        "seed": seed,
        "start": {"score": before},
        "end": {"score": after, "objective": after - 0.02, "cpu_seconds": 4.0, **common},
    }


def test_held_out_scores_and_statistics_by_hand():
    chosen = {name: TEXT_ENTRIES[name] for name in ("ppo", "raft")}
    plan = text_plan.TextPlan(
        tasks={"a": TINY_TASK, "b": TINY_TASK}, entries={"a": chosen, "b": {"ppo": chosen["ppo"]}}
    )
    runs = [line("ppo", task, seed, 0.25, 0.5 + 0.25 * seed) for task in "ab" for seed in (0, 1)]
    runs += [line("raft", "a", 0, 0.25, 1.0), {**line("raft", "a", 1, 0, 0), "status": "crashed"}]
    found = summarise_text(runs, plan)
    one = found["held_out"]["a"]["ppo"]
    assert (one["seeds"], one["before"], one["after"]["mean"]) == (2, 0.25, 0.625)
    assert one["gain"]["mean"] == 0.375
    assert (one["after"]["low"], one["after"]["values"]) == (None, [0.5, 0.75])
    assert one["objective"]["mean"] == pytest.approx(0.605)
    assert one["learning_rate"] == 1e-4
    assert found["held_out"]["a"]["raft"]["seeds"] == 1
    assert set(found["held_out"]["b"]) == {"ppo"}
    # RAFT did not run on every task, so it is in no figure over tasks.
    assert set(found["text"]["interquartile_mean"]) == {"ppo"}
    assert found["text"]["interquartile_mean"]["ppo"]["iqm"] == pytest.approx(0.625)
    table = page({**found, "cannot_run": ["x is left out"], "crashed": []})
    assert (
        "| PPO | 0.250 | 0.625 (seeds: 0.500, 0.750) | 0.605 (seeds: 0.480, 0.730) | 2.00 |"
        in table
    )
    assert "| RAFT(4) | 0.250 | 1.000 | 0.980 | 2.00 |" in table
    assert "Learning rates: chosen by hand, not tuned." in table
    assert "Not run: x is left out." in table


def test_critics_are_compared_seed_by_seed():
    runs = [line("ppo", "a", seed, 0.25, after) for seed, after in ((0, 0.5), (1, 0.25), (2, 0))]
    runs += [line("ppo_separate", "a", seed, 0.25, after) for seed, after in ((0, 0.75), (1, 1.0))]
    [found] = critics(runs)
    assert (found["better"], found["worse"], found["seeds"]) == ("ppo_separate", "ppo", 2)
    assert (found["mean"], found["low"], found["values"]) == (0.5, None, [0.25, 0.75])
    assert critics(runs[:3]) == []


# ---------------------------------------------------------------------- tuning


TUNED = "polite-email"  # has rates to try


def tuning_plan(budget=TINY_BUDGET, **entries):
    return text_plan.TextPlan({TUNED: TINY_TASK}, {TUNED: entries}, budget=budget)


def test_every_algorithm_has_the_same_tuning_budget():
    plan = tuning_plan(TextBudget(tuning_seeds=2), **TEXT_ENTRIES)
    tried = {}
    for job in tuning.text_tuning_jobs(plan):
        assert job["entry"].learning_rate == job["learning_rate"]
        assert job["task"].tokens == 64  # half of a run's
        figures = (job["learning_rate"], job["seed"])
        tried.setdefault(job["algorithm"], []).append(figures)
    assert set(tried) == set(TEXT_ENTRIES)
    grid = {(rate, seed) for rate in (1e-4, 3e-4, 1e-3) for seed in (1000, 1001)}
    for figures in tried.values():
        assert len(figures) == len(set(figures))
        assert set(figures) == grid
    assert not {job["seed"] for job in text_plan.text_jobs(plan)} & {1000, 1001}


def test_tuning_answers_prompts_of_training(folder, monkeypatch):
    asked = []
    evaluate = training.evaluate

    def listening(*args, env_kwargs, **kwargs):
        asked.append(set(env_kwargs["prompts"]))
        return evaluate(*args, env_kwargs=env_kwargs, **kwargs)

    monkeypatch.setattr(training, "evaluate", listening)
    prompts = json.loads((folder / "prompts.json").read_text())
    for kind, expected in (("text", "measuring"), ("text-tune", "training")):
        asked.clear()
        training.train_on_text(tiny_job(TEXT_ENTRIES["rloo_4"], folder, kind))
        assert asked
        assert all(one == set(prompts[expected]) for one in asked)


def tried(algorithm, rate, objective, status="done"):
    end = {"objective": objective}
    run = {"task": TUNED, "algorithm": algorithm, "learning_rate": rate, "status": status}
    return {**run, "end": end} if status == "done" else run


def test_rates_are_chosen_by_the_mean_objective_and_kept_for_other_algorithms(tmp_path):
    plan = tuning_plan(ppo=TEXT_ENTRIES["ppo"], raft=TEXT_ENTRIES["raft"])
    runs = [tried("ppo", 1e-4, 0.5), tried("ppo", 1e-4, 0.9), tried("ppo", 3e-4, 0.6)]
    runs += [tried("ppo", 3e-4, 0.7), tried("ppo", 1e-3, 0, "crashed")]
    found = tuning.choose_rates(runs, plan)
    assert found[TUNED]["chosen"] == {"ppo": 1e-4}
    assert found[TUNED]["mean_objective"]["ppo"] == pytest.approx({"0.0001": 0.7, "0.0003": 0.65})

    later = tuning.choose_rates([tried("raft", 1e-3, 0.1)], plan)
    both = tuning.merged(found, later)
    assert both[TUNED]["chosen"] == {"ppo": 1e-4, "raft": 1e-3}
    longer = tuning_plan(replace(TINY_BUDGET, tuning_seeds=2), raft=TEXT_ENTRIES["raft"])
    other = tuning.merged(both, tuning.choose_rates([tried("raft", 3e-4, 0)], longer))
    assert other[TUNED]["chosen"] == {"raft": 3e-4}  # what was tuned otherwise is not comparable

    path = tmp_path / "tuning.json"
    assert tuning.tuned_text(plan, path) is not plan
    assert tuning.tuned_text(plan, path).tuning == {}
    path.write_text(json.dumps({"chosen": {"ppo": 7.0}, "text": both}))
    told = tuning.tuned_text(plan, path)
    assert told.entries[TUNED]["raft"].learning_rate == 1e-3
    assert told.tuning[TUNED] == both[TUNED]
    assert plan.entries[TUNED]["raft"].learning_rate == 3e-4


@pytest.mark.slow
def test_tuning_from_the_command_line_is_used_and_said(tmp_path, monkeypatch):
    monkeypatch.setitem(text_plan.TEXT_TASKS, "reasoning", TINY_TASK)
    monkeypatch.setattr(text_plan, "TextBudget", lambda: TINY_BUDGET)
    monkeypatch.setitem(tuning.TEXT_LEARNING_RATES, "reasoning", (1e-4, 5e-3))
    (tmp_path / "tuning.json").write_text(json.dumps({"chosen": {"ppo": 0.1}, "mean_gain": {}}))
    command = ["--only", "reasoning", "--algorithms", "rloo_4", "--output", str(tmp_path)]
    run.main(["--tune", *command])
    tunings = json.loads((tmp_path / "tuning.json").read_text())
    assert tunings["chosen"] == {"ppo": 0.1}  # that of the known optimum stays
    ours = tunings["text"]["reasoning"]
    assert set(ours["mean_objective"]["rloo_4"]) == {"0.0001", "0.005"}
    run.main(command)
    results = json.loads((tmp_path / "results.json").read_text())
    found = results["held_out"]["reasoning"]["rloo_4"]
    assert found["learning_rate"] == ours["chosen"]["rloo_4"]
    assert results["text"]["tuning"]["reasoning"] == ours
    said = "the best of 0.0001, 0.005 for each algorithm, by the objective on prompts of training "
    assert said + "after 64 tokens, seed 1000." in (tmp_path / "results.md").read_text()


def test_a_whole_benchmark_on_text_and_again(tmp_path, monkeypatch, capsys):
    broken = replace(TINY_TASK, maker=f"{HERE}:fail_to_make")
    bad = replace(TEXT_ENTRIES["raft"], arguments={"kl_coef": -1.0}, label="bad")
    monkeypatch.setitem(text_plan.TEXT_TASKS, "reasoning", TINY_TASK)
    monkeypatch.setitem(text_plan.TEXT_ENTRIES, "raft", bad)
    monkeypatch.setattr(TextBudget, "quick", lambda self: TINY_BUDGET)
    monkeypatch.setattr(text_plan, "quick_task", lambda name: TEXT_TASKS[name])
    arguments = ["--quick", "--only", "reasoning", "--algorithms", "rloo_4", "raft"]
    run.main([*arguments, "--output", str(tmp_path)])
    results = json.loads((tmp_path / "results.json").read_text())
    assert list(results["held_out"]) == ["reasoning"]
    assert list(results["held_out"]["reasoning"]) == ["rloo_4"]
    assert [one["key"] for one in results["crashed"]] == ["text/raft/reasoning/0"]
    assert "kl_coef=-1.0" in results["crashed"][0]["error"]
    assert {"results.md", "held_out.png"} <= {path.name for path in tmp_path.iterdir()}
    lines = (tmp_path / "runs.jsonl").read_text().splitlines()
    one = next(each for each in map(json.loads, lines) if each["algorithm"] == "rloo_4")
    assert {"commit", "version", "seed", "settings", "points", "status"} <= set(one)

    again = ["--quick", "--only", "reasoning", "--algorithms", "rloo_4"]
    capsys.readouterr()
    run.main([*again, "--output", str(tmp_path)])  # nothing is left to do
    assert "1 of 1 runs are there already" in capsys.readouterr().out
    assert (tmp_path / "runs.jsonl").read_text().splitlines() == lines
    (tmp_path / "results.json").unlink()
    run.main([*again, "--report", "--seeds", "3", "--output", str(tmp_path)])  # of what there is
    assert "1 of 3 runs are there already" in capsys.readouterr().out
    assert json.loads((tmp_path / "results.json").read_text())["held_out"]["reasoning"]
    assert (tmp_path / "runs.jsonl").read_text().splitlines() == lines
    with pytest.raises(SystemExit, match="with other settings"):
        run.main([*again, "--tokens", "256", "--output", str(tmp_path)])
    changed = replace(TINY_TASK, maker_steps=3)
    other = text_plan.TextPlan({"t": changed}, folders={"t": tmp_path / "models" / "reasoning"})
    with pytest.raises(OtherRunsError, match="model that was made with other settings"):
        text_plan.make_models(other, 1)

    plan = text_plan.TextPlan({"t": broken}, {"t": {}}, {"t": tmp_path / "models" / "t"})
    left = text_plan.make_models(plan, 1)  # a model that cannot be made takes its task with it
    assert (left.tasks, left.crashed) == (
        {},
        [{"key": "model/t", "error": "RuntimeError: no model today"}],
    )
