"""The settings for rl-zoo3 are read, are plain data, and train as rl-zoo3 would let them."""

from __future__ import annotations

import ast
import json
from pathlib import Path

import gymnasium as gym
import pytest
import stable_baselines3
import yaml
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.vec_env import VecNormalize

import llm_gym

FOLDER = Path(__file__).parents[2] / "agents" / "hyperparams"
PLUGINS = {"AreYouSure": "llm_gym_sycophancy", "Autopilot": "llm_gym_autopilot"}
SETTINGS = [
    pytest.param(file.stem, name, settings, id=f"{file.stem}-{name}")
    for file in FOLDER.glob("*.yml")
    for name, settings in yaml.safe_load(file.read_text(encoding="utf-8")).items()
]


def test_there_are_settings_for_text_and_for_flight():
    names = {param.values[1] for param in SETTINGS}
    assert {"llm_gym/PoliteEmail-v0", "llm_gym/TextGeneration-v0"} <= names
    assert {"llm_gym/Autopilot-v0", "llm_gym/AutopilotDiscrete-v0"} <= names


@pytest.mark.parametrize(("algorithm", "name", "settings"), SETTINGS)
def test_settings_train_the_stock_algorithm(algorithm, name, settings):
    """What rl-zoo3 does with them: its own keys, schedules, and the rest as they are."""
    for word, module in PLUGINS.items():
        if word in name:
            pytest.importorskip(module)
    assert json.loads(json.dumps(settings)) == settings
    settings = dict(settings)
    assert settings.pop("n_timesteps") >= settings["n_envs"] * settings["n_steps"]
    env_kwargs = settings.pop("env_kwargs", {})
    gym.make(name, **env_kwargs).unwrapped.spec.to_json()
    env = make_vec_env(name, n_envs=min(settings.pop("n_envs"), 4), env_kwargs=env_kwargs, seed=0)
    normalize = settings.pop("normalize", False)
    if normalize:
        env = VecNormalize(env, gamma=settings["gamma"], **ast.literal_eval(normalize))
    if isinstance(settings["learning_rate"], str):
        shape, start = settings["learning_rate"].split("_")
        assert shape == "lin"
        settings["learning_rate"] = lambda left: left * float(start)
    tokens = env.num_envs * 4
    settings |= {"n_steps": 4, "batch_size": tokens, "n_epochs": 1}
    agent = getattr(stable_baselines3, algorithm.upper())(env=env, device="cpu", **settings)
    agent.learn(tokens)
    assert agent.num_timesteps == tokens
    if settings["policy"] == "TransformerPolicy":
        assert type(agent.policy) is llm_gym.TransformerActorCriticPolicy
        assert type(agent.rollout_buffer) is llm_gym.EpisodeBuffer
