"""Arguments of evaluations, callbacks and checkpoints that nobody can mean: refused by name."""

from __future__ import annotations

import pytest

import llm_gym
from llm_gym.runs.callbacks.checkpoints import CheckpointCallback
from llm_gym.runs.callbacks.evaluations import EvaluationCallback
from llm_gym.runs.checkpoint import keep_newest, load_checkpoint, save_checkpoint
from llm_gym.testing.tiny import tiny_tokenizer

ENV = {
    "tokenizer": tiny_tokenizer(),
    "prompts": ["w1"],
    "scorer": lambda prompts, completions, **_: [1.0] * len(completions),
    "max_new_tokens": 2,
}


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("deterministic", "yes"),
        ("deterministic", 1),
        ("deterministic", None),
        ("env_kwargs", []),
        ("env_kwargs", {1: 1}),
        ("policy_kwargs", []),
        ("policy_kwargs", "temperature"),
    ],
)
def test_an_argument_of_an_evaluation_that_is_none_is_named(tiny_dir, name, value):
    with pytest.raises((ValueError, TypeError), match=f"^{name}="):
        llm_gym.evaluate(tiny_dir("llama"), ENV, **{name: value})


@pytest.mark.parametrize("env", ["", " "])
def test_an_environment_without_a_name_is_none(env):
    with pytest.raises(ValueError, match=r"^env=' ?' is no id"):
        llm_gym.evaluate("no-such-model", env)


@pytest.fixture
def ppo(tiny_dir):
    env = llm_gym.TextGenerationVectorEnv(num_envs=2, autoreset_mode="SameStep", **ENV)
    return llm_gym.PPO(
        "TransformerPolicy", env, seed=0, policy_kwargs={"model": tiny_dir("llama")}, batch_size=8
    )


@pytest.mark.parametrize("found", [None, 5, {"mean_score": 1.0}])
def test_a_measure_that_measures_nothing_is_named(ppo, found):
    with pytest.raises(TypeError, match=r"^measure must return what llm_gym\.evaluate does"):
        ppo.learn(4, callback=EvaluationCallback(lambda _: found, every=1))


def test_logs_are_a_list(tmp_path):
    with pytest.raises(TypeError, match=r"^logs='samples.jsonl' is a single name"):
        CheckpointCallback(tmp_path, logs="samples.jsonl")


@pytest.mark.parametrize("number", [0, -1, True, 1.5])
def test_at_least_one_checkpoint_is_kept(tmp_path, number):
    with pytest.raises((ValueError, TypeError), match=r"^number="):
        keep_newest(tmp_path, number)


def test_a_checkpoint_is_read_where_one_is(ppo, tmp_path, monkeypatch):
    save_checkpoint(ppo.learn(4), tmp_path / "checkpoint")
    monkeypatch.chdir(tmp_path / "checkpoint")
    assert load_checkpoint(ppo, ".")["algorithm"] == "PPO"
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match=r"checkpoint\.json is missing"):
        load_checkpoint(ppo, "")
