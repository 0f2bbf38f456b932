"""The tiny model: its tokenizer, determinism, and that reinforcement learning improves it."""

from __future__ import annotations

import hashlib
from dataclasses import replace

import gymnasium as gym
import pytest
from llm_gym_reasoning import SMALL_TASKS, draw_questions, make_model
from llm_gym_reasoning.model import CONTEXT, character_tokenizer

import llm_gym

TASK = SMALL_TASKS["spell_backward"]


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    directory = tmp_path_factory.mktemp("model") / "spell"
    make_model(directory, TASK.task, seed=0)
    return directory


def mean_score(model, tokenizer):
    return llm_gym.evaluate(
        model, TASK.env_id, env_kwargs={"split": "test", "tokenizer": str(tokenizer)}, num_envs=64
    ).mean_score


def test_tokenizer_keeps_text_and_has_one_token_for_the_shared_start():
    questions = [f"Reverse now: {word}!" for word in ("ab", "cde", "fgh")]
    tokenizer = character_tokenizer(questions, context=16)
    ids = tokenizer("Reverse now: ab!")["input_ids"]
    assert tokenizer.convert_ids_to_tokens(ids) == ["Reverse now: ", "a", "b", "!"]
    for text in (*questions, "an answer\nin ASCII ~ 12.5"):
        assert tokenizer.decode(tokenizer(text)["input_ids"]) == text
    assert tokenizer("é")["input_ids"] == [tokenizer.unk_token_id]


def test_words_that_most_questions_share_are_one_token():
    questions = [f"{number} apples and {number} pears" for number in (1, 22, 5)]
    tokenizer = character_tokenizer(questions, context=16)
    ids = tokenizer("7 apples and 8 apple")["input_ids"]
    assert tokenizer.convert_ids_to_tokens(ids) == (
        ["7", " apples", " and", " ", "8", " ", "a", "p", "p", "l", "e"]
    )


@pytest.mark.parametrize("small", SMALL_TASKS.values(), ids=lambda small: small.task)
def test_questions_and_answers_fit_the_model_and_the_budget(small):
    rows = draw_questions(
        small.task, small.settings, size=small.size, test_size=small.test_size
    ).rows
    tokenizer = character_tokenizer([row["prompt"] for row in rows["train"]], context=CONTEXT)
    for row in rows["train"] + rows["test"]:
        prompt = tokenizer(row["prompt"])["input_ids"]
        answer = tokenizer(row["entry"]["answer"])["input_ids"]
        assert tokenizer.unk_token_id not in prompt + answer
        assert len(answer) + 1 <= small.max_new_tokens
        assert 2 + len(prompt) + small.max_new_tokens <= CONTEXT


def test_the_same_arguments_make_the_same_model(tmp_path, monkeypatch):
    monkeypatch.setitem(SMALL_TASKS, TASK.task, replace(TASK, size=256, test_size=32))
    digests = []
    for name in ("one", "two"):
        make_model(tmp_path / name, TASK.task, seed=3, epochs=1)
        weights = (tmp_path / name / "model.safetensors").read_bytes()
        digests.append(hashlib.sha256(weights).hexdigest())
    assert digests[0] == digests[1]


def test_unknown_small_task_is_named(tmp_path):
    with pytest.raises(ValueError, match="did you mean 'chain_sum'"):
        make_model(tmp_path, "chain_sums")


@pytest.mark.slow
def test_ppo_raises_the_score_on_held_out_questions(model):
    before = mean_score(model, model)
    env = gym.make_vec(TASK.env_id, num_envs=128, autoreset_mode="SameStep", tokenizer=str(model))
    agent = llm_gym.PPO(
        "TransformerPolicy",
        env,
        learning_rate=5e-4,
        kl_coef=0.0,
        seed=0,
        policy_kwargs={"model": str(model)},
    )
    agent.learn(12_000)
    assert mean_score(agent, model) > before + 0.05
