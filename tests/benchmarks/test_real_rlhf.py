"""RLHF on real ratings: its tasks, its judges, its verdicts, and the whole in small."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace

import numpy as np
import pytest
import torch

from benchmarks.real_rlhf import judges, prompts, run, summary, training
from benchmarks.real_rlhf.settings import Settings
from benchmarks.run_log import RunLog
from llm_gym.testing.tiny import save_tiny_model
from tests.feedback.reward_model.worlds import texts_and_ratings

TINY = replace(
    Settings(),
    kl_coefs=(0.001, 5.0),
    train_prompts=8,
    held_out_prompts=12,
    max_new_tokens=4,
    temperature=1.0,
    tokens=512,
    look_every=2,
    learning_rate=1e-2,
    shown=2,
)


@pytest.fixture(scope="module")
def paths(tmp_path_factory):
    """A model of 29 words, and ratings by how often a text says `w1`."""
    folder = tmp_path_factory.mktemp("real")
    model = save_tiny_model(folder / "model", "llama", max_position_embeddings=128)
    texts, ratings = texts_and_ratings(200)
    rows = [
        {"text": text, "ratings": own, "score": float(np.mean(own))}
        for text, own in zip(texts, ratings, strict=True)
    ]
    data = folder / "rated.jsonl"
    data.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return run.Paths(model, model, data, folder / "out")


@pytest.fixture
def small(monkeypatch):
    """Makes `--quick` small."""
    pytest.importorskip("peft")
    pytest.importorskip("matplotlib")
    monkeypatch.setattr(Settings, "quick", lambda self: TINY)
    monkeypatch.setattr(torch, "set_num_threads", lambda number: None)


def results_of(paths, output):
    options = {"smollm2": paths.smollm2, "minilm": paths.minilm, "data": paths.data}
    arguments = [text for name, path in options.items() for text in (f"--{name}", str(path))]
    run.main([*arguments, "--output", str(output), "--quick"])
    return json.loads((output / "results.json").read_text(encoding="utf-8"))


# ------------------------------------------------------------------ tasks and judges


def test_held_out_tasks_share_no_request_and_no_subject_with_those_trained_on():
    train, held_out = prompts.tasks(192, held_out=False), prompts.tasks(64, held_out=True)
    assert len({task.prompt for task in train + held_out}) == 256
    assert not {task.subject for task in train} & {task.subject for task in held_out}
    assert not set(prompts.TRAIN_REQUESTS) & set(prompts.HELD_OUT_REQUESTS)
    assert len({task.subject for task in held_out[:8]}) == 8
    for task in train + held_out:
        assert prompts.names_subject(task, task.prompt)
    assert not prompts.names_subject(held_out[0], "Please have a look at it.")
    with pytest.raises(ValueError, match="number=65: there are 64"):
        prompts.tasks(65, held_out=True)


def test_judges_know_one_half_and_are_standardised_on_the_other(paths, tmp_path):
    rated = run.read(paths.data)
    log = RunLog(tmp_path / "judges.jsonl", ("judge",), {})
    made = judges.fit_judges(rated, str(paths.minilm), 0, log, tmp_path / "models")
    halves = judges.halves_of(rated.texts, 0)
    assert np.bincount(halves).tolist() == [100, 100]
    for name, (half, _) in judges.JUDGES.items():
        unseen = [rated.texts[place] for place in np.flatnonzero(halves != half)]
        rewards = np.array(made[name]([""] * 100, unseen))
        assert (rewards.mean(), rewards.std()) == pytest.approx((0, 1), abs=1e-4)
        assert log.done[name,]["spearman"]["value"] > 0.6
    assert made["words"].scorer.model.reads_nothing
    again = judges.fit_judges(rated, str(paths.minilm), 0, log, tmp_path / "models")
    assert again["gold"]([""], ["w1 w1"]) == made["gold"]([""], ["w1 w1"])


# ------------------------------------------------------------------ the whole


@pytest.mark.slow
def test_the_reward_is_learnt_and_an_interrupted_run_goes_on_as_if_nothing_were(
    small, paths, tmp_path, monkeypatch, capsys
):
    whole = results_of(paths, tmp_path / "whole")
    assert set(whole["trainings"]) == {"0.001", "5"}
    free, dear = whole["trainings"]["0.001"], whole["trainings"]["5"]
    assert free["gains"]["proxy"]["low"] > 0
    assert free["gains"]["gold"]["low"] > 0
    assert free["kl"] > dear["kl"]
    updates = len(free["updates"])
    assert free["updates"][-1]["step"] >= TINY.tokens > free["updates"][-2]["step"]
    assert [look["updates"] for look in free["looks"]] == [*range(0, updates, 2), updates]
    assert free["looks"][0] == dear["looks"][0]
    assert len(free["answers"]) == TINY.shown
    assert (tmp_path / "whole" / "real_rlhf.png").read_bytes().startswith(b"\x89PNG")
    shown = capsys.readouterr().out
    assert "KL x 5" in shown
    assert whole["prompts_shown"][0] in shown

    judged = f"judges-{TINY.seed}"
    shutil.copytree(tmp_path / "whole" / judged, tmp_path / "parts" / judged)
    shutil.copy(tmp_path / "whole" / "judges.jsonl", tmp_path / "parts")
    measured = training.HeldOut.__call__

    def interrupted(self, algorithm):
        if algorithm.num_timesteps > 300:
            raise KeyboardInterrupt
        return measured(self, algorithm)

    with monkeypatch.context() as context:
        context.setattr(training.HeldOut, "__call__", interrupted)
        with pytest.raises(KeyboardInterrupt):
            results_of(paths, tmp_path / "parts")
    again = results_of(paths, tmp_path / "parts")

    def without_clock(training):
        return {name: value for name, value in training.items() if name != "cpu_seconds"}

    for name in whole["trainings"]:
        ours, theirs = (without_clock(found["trainings"][name]) for found in (again, whole))
        assert ours == theirs


def test_the_verdict_from_the_looks_is_that_of_the_alarm():
    """Gold rises, then falls by far more than its noise while the proxy rises."""
    from llm_gym.feedback.diagnostics import OveroptimisationAlarm

    noise = np.random.default_rng(0).normal(size=(4, 32))
    looks = [
        {"step": step, "scores": {"gold": (gold + row).tolist(), "proxy": [step + 1.0] * 32}}
        for step, (gold, row) in enumerate(zip((0, 9, 8.99, 2), 0.1 * noise, strict=True))
    ]
    found = summary.alarm_of(looks, planned=3)
    assert (found["rang_at"], found["best_at"]) == (3, 1)
    assert [look["fall"] > 0 for look in found["looks"]] == [False, True, True]
    assert summary.alarm_of(looks[:2], planned=3)["rang_at"] is None

    alarm = OveroptimisationAlarm(measure=lambda model: None, planned_looks=3)
    for look in looks:
        alarm.init_callback(_Algorithm(look["step"]))
        alarm._planned = 3
        scores = (np.array(look["scores"][name]) for name in ("gold", "proxy"))
        alarm._take(*scores)
    assert [rung.step for rung in alarm.alarms] == [found["rang_at"]]


class _Algorithm:
    """As much of an algorithm as an alarm looks at."""

    def __init__(self, num_timesteps):
        from stable_baselines3.common.logger import Logger

        self.num_timesteps, self.logger = num_timesteps, Logger(None, [])

    def get_env(self):
        return None


def test_a_seed_that_makes_no_sense_and_data_that_are_not_there_are_refused(paths, tmp_path):
    needed = ["--smollm2", "x", "--minilm", "y", "--output", str(tmp_path)]
    with pytest.raises(SystemExit):
        run.parse([*needed, "--data", "z", "--seed", "-1"])
    with pytest.raises(SystemExit, match="there is no file"):
        run.main([*needed, "--data", str(tmp_path / "none.jsonl")])
