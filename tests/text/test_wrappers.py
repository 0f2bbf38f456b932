"""Gymnasium's wrappers, single and vector, do what they promise on the text environments."""

from __future__ import annotations

import gymnasium as gym
import numpy as np
import pytest
from gymnasium import wrappers
from gymnasium.wrappers import vector as vector_wrappers

from tests.text.helpers import EOS, arguments, word

ID = "llm_gym/TextGeneration-v0"
MODES = ["NextStep", "SameStep", "Disabled"]


def vector(mode="NextStep", **overrides):
    return gym.make_vec(ID, 2, autoreset_mode=mode, **arguments(**overrides))


def test_record_episode_statistics():
    env = wrappers.RecordEpisodeStatistics(gym.make(ID, **arguments()))
    env.reset(seed=0)
    env.step(word(1))
    *_, info = env.step(EOS)
    assert (info["episode"]["r"], info["episode"]["l"]) == (1.5, 2)


def test_time_limit_truncates_without_a_score():
    env = gym.make(ID, max_episode_steps=2, **arguments())
    env.reset(seed=0)
    env.step(word(1))
    _, reward, terminated, truncated, info = env.step(word(1))
    assert (reward, terminated, truncated, info) == (0.0, False, True, {})
    env.reset()
    assert env.step(EOS)[2]


def test_transform_reward():
    env = wrappers.TransformReward(gym.make(ID, **arguments()), lambda reward: 10 * reward)
    env.reset(seed=0)
    assert env.step(EOS)[1] == 5.0


def test_flatten_observation():
    env = wrappers.FlattenObservation(gym.make(ID, **arguments()))
    observation, _ = env.reset(seed=0)
    assert observation.shape == (27,)
    assert env.observation_space.contains(observation)


@pytest.mark.parametrize("mode", MODES)
def test_vector_record_episode_statistics(mode):
    env = vector_wrappers.RecordEpisodeStatistics(vector(mode))
    env.reset(seed=0)
    env.step(np.array([word(1), word(1)]))
    *_, infos = env.step(np.array([EOS, word(1)]))
    assert infos["_episode"].tolist() == [True, False]
    assert (infos["episode"]["r"][0], infos["episode"]["l"][0]) == (1.5, 2)
    if mode == "Disabled":
        env.reset(options={"reset_mask": np.array([True, False])})
        *_, infos = env.step(np.array([EOS, EOS]))
        assert infos["episode"]["l"].tolist() == [1, 3]


def test_vector_transform_reward():
    env = vector_wrappers.TransformReward(vector(), lambda reward: 10 * reward)
    env.reset(seed=0)
    assert env.step(np.array([EOS, word(1)]))[1].tolist() == [5.0, 0.0]


# Gymnasium's vector observation wrappers do not take SAME_STEP.
@pytest.mark.parametrize("mode", ["NextStep", "Disabled"])
def test_vector_flatten_observation(mode):
    env = vector_wrappers.FlattenObservation(vector(mode))
    observation, _ = env.reset(seed=0)
    assert observation.shape == (2, 27)
    assert env.observation_space.contains(observation)
    observation, *_ = env.step(np.array([EOS, word(1)]))
    assert env.observation_space.contains(observation)


@pytest.mark.parametrize("mode", MODES)
def test_vector_dict_info_to_list(mode):
    env = vector_wrappers.DictInfoToList(vector(mode))
    _, infos = env.reset(options={"prompt": ["w1", "w2"]})
    assert infos[1]["prompt"] == "w2"
    *_, infos = env.step(np.array([EOS, word(1)]))
    final = infos[0]["final_info"] if mode == "SameStep" else infos[0]
    assert (final["completion"], final["score_parts"]["words"]) == ("", 0.0)
    assert infos[1] == {}


@pytest.mark.parametrize("mode", ["sync", "async"])
def test_gymnasiums_own_vectorisation(mode):
    options = arguments(scorer=len_scorer)
    env = gym.make_vec(ID, 2, vectorization_mode=mode, **options)
    try:
        env.reset(seed=0)
        _, rewards, terminated, _, _ = env.step(np.array([word(1), EOS]))
        assert (rewards.tolist(), terminated.tolist()) == ([0.0, 1.0], [False, True])
    finally:
        env.close()


def len_scorer(prompts, completions):
    return [1.0 + len(completion) for completion in completions]
