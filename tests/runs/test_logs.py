"""What a resumed run leaves in its logs is what an uninterrupted one leaves."""

from __future__ import annotations

import io
import json
import warnings

import pytest
from rich.console import Console
from stable_baselines3.common.callbacks import BaseCallback

import llm_gym
from llm_gym.runs.checkpoint import load_checkpoint, resume_point
from llm_gym.runs.logs import LogWarning, cut_rows
from llm_gym.runs.trace import trace_files
from llm_gym.stages.training_run import run
from tests.products import covering, sampled
from tests.runs.test_checkpoint import stock
from tests.tiny_runs import ROLLOUT, tiny_env, tiny_ppo

ROLLOUTS = 5


def imitation(model):
    return llm_gym.SFTOnBest(
        "TransformerPolicy",
        tiny_env(model, group_size=2),
        n_steps=10,
        seed=3,
        device="cpu",
        policy_kwargs={"model": model},
    )


MAKERS = {"ppo": tiny_ppo, "sb3-ppo": stock("PPO"), "sb3-a2c": stock("A2C"), "sft": imitation}


class Killed(BaseException):
    """As SIGKILL: nothing of the run comes after it."""


class Kill(BaseCallback):
    """Kills at the n-th call of a hook."""

    def __init__(self, hook, number):
        super().__init__()
        self.left = number
        setattr(self, hook, self._count)

    def _count(self):
        self.left -= 1
        if self.left == 0:
            raise Killed
        return True

    def _on_step(self):
        return True


def train(make, model, output, rollouts=ROLLOUTS, kill=()):
    """Begins a run, or goes on with it from its newest checkpoint; whether it got to its end."""
    algorithm = make(model)
    checkpoint = resume_point(output / "checkpoints")
    if checkpoint is not None:
        load_checkpoint(algorithm, checkpoint)
    try:
        run(
            algorithm,
            int(rollouts * ROLLOUT),
            output,
            checkpoint_every=2,
            keep_last=2,
            trace_every=1,
            console=Console(file=io.StringIO()),
            callbacks=[Kill(*kill)] if kill else [],
        )
    except Killed:
        return False
    return True


def logs(output):
    """All logs, without what is measured with a clock."""
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    metrics = [
        {key: value for key, value in json.loads(line).items() if not key.startswith("time/")}
        for line in (output / "metrics.jsonl").read_text().splitlines()
    ]
    events = accumulator.EventAccumulator(
        str(output / "tensorboard"), accumulator.STORE_EVERYTHING_SIZE_GUIDANCE
    )
    events.Reload()
    curves = {
        # TensorBoard reads files in the order of their names, which count the writers of a second:
        # the tenth comes before the ninth.
        tag: sorted(((e.step, str(e.value)) for e in events.Scalars(tag)), key=lambda e: e[0])
        for tag in events.Tags()["scalars"]
        if not tag.startswith("time/")
    }
    texts = {
        tag: sorted((event.step, event.tensor_proto.string_val[0]) for event in events.Tensors(tag))
        for tag in events.Tags()["tensors"]
    }
    looks = {path.name: path.read_bytes() for path in trace_files(output)}
    return metrics, (output / "samples.jsonl").read_text(), curves, texts, looks


@pytest.fixture(scope="module")
def uninterrupted(tiny_dir, tmp_path_factory):
    found = {}

    def get(name):
        if name not in found:
            output = tmp_path_factory.mktemp(name)
            assert train(MAKERS[name], tiny_dir(), output)
            found[name] = logs(output)
        return found[name]

    return get


KILLS = [
    ("_on_rollout_start", 2),
    ("_on_step", 38),
    ("_on_rollout_end", 5),
    ("_on_training_end", 1),
]


@pytest.mark.parametrize(("name", "kill"), covering(MAKERS, KILLS))
def test_a_killed_run_that_is_resumed_leaves_what_an_uninterrupted_one_does(
    name, kill, uninterrupted, tiny_dir, tmp_path
):
    assert not train(MAKERS[name], tiny_dir(), tmp_path, kill=kill)
    (tmp_path / "metrics.jsonl").open("a").write('{"step": 1')  # in the middle of a write
    assert train(MAKERS[name], tiny_dir(), tmp_path)
    assert logs(tmp_path) == uninterrupted(name)


@pytest.mark.parametrize("name", sampled(["ppo", "sft"], "sft"))
def test_so_does_one_that_was_killed_after_its_last_row(name, uninterrupted, tiny_dir, tmp_path):
    assert train(MAKERS[name], tiny_dir(), tmp_path)
    assert train(MAKERS[name], tiny_dir(), tmp_path)
    assert logs(tmp_path) == uninterrupted(name)


def test_so_does_one_that_had_passed_its_end(tiny_dir, tmp_path):
    def state():
        [checkpoint] = (tmp_path / "checkpoints").glob(f"step-*{ROLLOUT}")
        values = json.loads((checkpoint / "checkpoint.json").read_text())
        return {**values, "episode_infos": [(e["r"], e["l"]) for e in values["episode_infos"]]}

    assert train(tiny_ppo, tiny_dir(), tmp_path, rollouts=0.8)
    whole = state()
    assert whole["total_timesteps"] == int(0.8 * ROLLOUT)
    assert train(tiny_ppo, tiny_dir(), tmp_path, rollouts=0.8)
    assert state() == whole


def test_so_does_one_that_is_trained_further(uninterrupted, tiny_dir, tmp_path):
    assert train(tiny_ppo, tiny_dir(), tmp_path, rollouts=3)
    assert train(tiny_ppo, tiny_dir(), tmp_path)
    assert logs(tmp_path) == uninterrupted("ppo")


def test_a_run_killed_at_its_turning_point_writes_the_row_of_its_rollout(
    uninterrupted, tiny_dir, tmp_path, monkeypatch
):
    def kill(self, *_):
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(llm_gym.SFTOnBest, "dump_logs", kill)
        assert not train(imitation, tiny_dir(), tmp_path, rollouts=1)
    assert train(imitation, tiny_dir(), tmp_path, rollouts=1)
    rows, whole = logs(tmp_path)[0], tmp_path / "whole"
    assert train(imitation, tiny_dir(), whole, rollouts=1)
    assert rows == logs(whole)[0]
    assert len(rows) == 2


def test_lost_rows_are_said(tiny_dir, tmp_path):
    assert train(tiny_ppo, tiny_dir(), tmp_path, rollouts=2)
    (tmp_path / "samples.jsonl").write_text("")
    with pytest.warns(LogWarning, match=r"samples\.jsonl has lost what was written before"):
        assert train(tiny_ppo, tiny_dir(), tmp_path, rollouts=3)


def test_rows_after_a_damaged_line_are_dropped_and_that_is_said_once(tmp_path):
    path = tmp_path / "metrics.jsonl"
    path.write_text('{"step": 1}\n{"st{"step": 3}\n{"step": 4}\n')
    with pytest.warns(LogWarning, match=r"line 2 of .* is damaged: it and the 1 after"):
        assert cut_rows(path, 9) == [{"step": 1}]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert cut_rows(path, 9) == [{"step": 1}]
    assert path.read_text() == '{"step": 1}\n'
