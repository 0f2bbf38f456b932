"""Each system does whole batches of a tiny workload, scored by the same scorer."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch

from benchmarks.common import ROOT
from benchmarks.driver import worker_environment
from benchmarks.systems import generate, handwritten, handwritten_ragged, ours, textbook_sb3
from benchmarks.systems.base import Batch, Clock
from benchmarks.systems.trl_thread import Gate, TrainerInThread
from benchmarks.worker import measure
from benchmarks.workload import (
    FavouredShare,
    Workload,
    build_prompt_ids,
    build_prompts,
    build_tokenizer,
)
from tests.benchmarks.test_handwritten import TINY, TINY_RAGGED

BUILDS = {
    "handwritten": lambda w: handwritten.build(w),
    "ours": lambda w: ours.build(w),
    "ours_bf16": lambda w: ours.build(w, policy={"mixed_precision": "bf16"}),
    "ours_sb3": lambda w: ours.build(w, algorithm="stable_baselines3"),
    "textbook_sb3": lambda w: textbook_sb3.build(w),
}


@pytest.mark.parametrize("name", BUILDS)
def test_a_system_trains_on_whole_batches(name):
    result = measure(BUILDS[name](TINY), "train", "cpu")
    assert result["tokens"] == TINY.episodes * TINY.new_tokens
    assert 0 <= result["reward"] <= 1
    assert 0 < result["rollout_cpu_seconds"] < result["cpu_seconds"]


def test_ours_learns_emails_whose_critic_starts_at_their_level():
    emails = replace(TINY, task="polite_email", new_tokens=80)
    system = ours.build(emails, settings={"n_steps": 44}, critic_start=True)
    result = measure(system, "train", "cpu")
    assert result["tokens"] == emails.episodes * 44
    assert 0 <= result["reward"] <= 1
    assert system.callback.level is not None


@pytest.mark.parametrize(
    "build",
    [handwritten.build, ours.build, generate.build, lambda w: generate.build(w, cache="static")],
)
def test_a_system_rolls_out_whole_batches(build):
    system = build(TINY)
    for _ in range(2):
        assert system.rollout_batch().tokens == TINY.episodes * TINY.new_tokens


@pytest.mark.parametrize("build", [handwritten_ragged.build, ours.build, generate.build])
def test_a_system_rolls_out_whole_ragged_answers(build):
    system = build(TINY_RAGGED)
    most = TINY_RAGGED.episodes * TINY_RAGGED.new_tokens
    tokens = [system.rollout_batch().tokens for _ in range(3)]
    assert len(set(tokens)) > 1
    assert all(most / 2 < number < most for number in tokens)


def test_the_hand_written_limit_learns_from_ragged_answers():
    system = handwritten_ragged.build(TINY_RAGGED)
    before = [p.detach().clone() for p in system.model.parameters()]
    result = measure(system, "train", "cpu")
    assert 0 < result["rollout_cpu_seconds"] < result["cpu_seconds"]
    moved = zip(before, system.model.parameters(), strict=True)
    assert any(not torch.equal(old, new) for old, new in moved)


def test_a_part_of_the_textbook_systems_learning_is_scaled_up_to_all_of_it():
    batch = textbook_sb3.build(TINY, minibatches=1).train_batch()
    assert batch.scale == TINY.epochs * TINY.minibatches


def test_only_the_seconds_of_learning_are_scaled():
    clock = Clock()

    def train_batch() -> Batch:
        with clock.running():
            torch.zeros(100_000).sum()
        torch.zeros(100_000).sum()
        return Batch(1, float("nan"), scale=1000.0)

    result = measure(SimpleNamespace(rollout_clock=clock, train_batch=train_batch), "train", "cpu")
    assert result["rollout_wall_seconds"] == clock.wall_seconds
    assert result["wall_seconds"] > 10 * result["rollout_wall_seconds"]
    assert result["reward"] is None


def test_text_and_tokens_are_the_same_thing():
    tokenizer = build_tokenizer(TINY)
    ids = build_prompt_ids(TINY)
    assert tokenizer(build_prompts(TINY))["input_ids"] == ids.tolist()
    assert tokenizer.batch_decode(ids) == build_prompts(TINY)
    assert tokenizer.eos_token_id == TINY.vocabulary  # not among what can be sampled


def test_the_scorer_counts_favoured_words_and_remembers_its_mean():
    scorer = FavouredShare(TINY)  # words 0 to 3 are favoured
    assert scorer(["", ""], ["w0 w3 w4 w39", "w1"], column=[1, 2]) == [0.5, 1.0]
    assert scorer.last_mean == 0.75


@pytest.mark.parametrize("name", ["minibatch_episodes", "group_size"])
def test_a_workload_that_cannot_be_split_is_refused(name):
    with pytest.raises(ValueError, match=f"{name}=3 does not divide episodes=32"):
        replace(Workload(), **{name: 3})


def test_a_trainer_is_held_between_batches():
    """Only as many steps are done as were asked for, and a failure reaches the caller."""
    gate, steps = Gate(steps=2), []

    def train() -> None:
        gate.on_train_begin()
        for step in range(1, 5):
            steps.append(step)
            gate.on_step_end(None, SimpleNamespace(global_step=step), None)
        raise ValueError("out of data")

    system = TrainerInThread(TINY, FavouredShare(TINY), Clock(), gate, train)
    system.train_batch()
    assert steps == [1, 2]
    system.train_batch()
    assert steps == [1, 2, 3, 4]
    with pytest.raises(RuntimeError, match="out of data"):
        system.train_batch()


@pytest.mark.slow
def test_a_worker_answers_in_lines_of_json_whatever_libraries_print():
    task = {"system": "handwritten", "workload": TINY.as_dict(), "options": {"seed": 1}}
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.worker", json.dumps(task)],
        input='{"do": "rollout"}\n{"do": "train"}\n',
        cwd=ROOT,
        env=worker_environment(threads=1),
        capture_output=True,
        text=True,
        check=True,
        timeout=120,
    )
    ready, rollout, train = map(json.loads, done.stdout.splitlines())
    assert ready["ready"]
    assert rollout["tokens"] == train["tokens"] == TINY.tokens_per_batch
    assert train["peak_mb"] >= ready["peak_mb"]


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@pytest.mark.parametrize("name", ["handwritten", "ours"])
def test_a_system_runs_on_cuda(name):
    result = measure(BUILDS[name](replace(TINY, device="cuda")), "train", "cuda")
    assert result["tokens"] == TINY.tokens_per_batch
