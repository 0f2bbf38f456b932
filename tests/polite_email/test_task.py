"""The built-in task: prompts, scorer and model that fit together."""

from __future__ import annotations

import gymnasium as gym
import numpy as np
import pytest

import llm_gym  # noqa: F401 - registers the environments
from llm_gym.polite_email.judge import PolitenessScorer
from llm_gym.polite_email.task import NUM_PROMPTS, environment_kwargs
from llm_gym.testing.tiny import tiny_tokenizer


def test_there_are_hundreds_of_prompts_in_disjoint_splits():
    train, test = (environment_kwargs(split)["prompts"] for split in ("train", "test"))
    assert (len(set(train)), len(set(test))) == (512, 128)
    assert NUM_PROMPTS == {"train": 512, "test": 128}
    assert not set(train) & set(test)


def test_both_splits_have_one_observation_space():
    """A policy trained on one can be evaluated on the other."""
    train, test = (gym.make("llm_gym/PoliteEmail-v0", split=split) for split in ("train", "test"))
    assert train.observation_space == test.observation_space
    assert train.action_space == test.action_space


def test_the_embedded_model_fits_the_task():
    """Prompt and answer are shorter than the model's context."""
    kwargs = environment_kwargs()
    assert kwargs["max_prompt_tokens"] + kwargs["max_new_tokens"] <= 192
    assert len(kwargs["tokenizer"]) == 1024


def test_an_episode_is_scored_by_the_judge_of_politeness():
    env = gym.make("llm_gym/PoliteEmail-v0", max_new_tokens=60)
    _, info = env.reset(
        seed=0, options={"prompt": "Write an email to your boss asking for a bonus."}
    )
    text = "Dear boss,\nCould you please give me a bonus this year? Thank you.\nKind regards,\nAnna"
    tokenizer = environment_kwargs()["tokenizer"]
    for token in [*tokenizer(text)["input_ids"], tokenizer.eos_token_id]:
        _, reward, terminated, _, last = env.step(token)
    assert terminated
    assert last["completion"] == text
    assert reward == pytest.approx(PolitenessScorer()([info["prompt"]], [text])[0])
    assert last["score_parts"]["greeting"] == 9


def test_the_vector_form_has_the_same_task():
    envs = gym.make_vec("llm_gym/PoliteEmail-v0", num_envs=3, split="test")
    observation, info = envs.reset(seed=0)
    assert observation["input_ids"].shape[0] == 3
    assert set(info["prompt"]) <= set(environment_kwargs("test")["prompts"])
    assert not np.array_equal(observation["input_ids"][0], observation["input_ids"][1])


def test_arguments_can_be_overridden():
    tokenizer = tiny_tokenizer(20)
    kwargs = environment_kwargs(tokenizer=tokenizer, prompt_template="{prompt}", max_new_tokens=5)
    assert kwargs["tokenizer"] is tokenizer
    assert kwargs["max_new_tokens"] == 5
    longest = max(len(tokenizer(prompt)["input_ids"]) for prompt in kwargs["prompts"])
    assert kwargs["max_prompt_tokens"] >= longest
    own = environment_kwargs(prompts=["w1"], scorer=len)
    assert (own["prompts"], own["scorer"]) == (["w1"], len)
    assert "max_prompt_tokens" not in own


def test_an_unknown_split_is_named():
    with pytest.raises(ValueError, match='split must be "train" or "test", got \'dev\''):
        environment_kwargs("dev")
