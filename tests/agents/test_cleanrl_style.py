"""The loop in one file learns what Stable-Baselines3's PPO learns, weight by weight."""

from __future__ import annotations

import importlib
from pathlib import Path

import gymnasium as gym
import pytest
import stable_baselines3 as sb3
import torch
from stable_baselines3.common.buffers import DictRolloutBuffer

from llm_gym import EpisodeBuffer, GymVecEnv, TransformerActorCriticPolicy
from llm_gym.testing.tiny import tiny_tokenizer
from tests.products import covering

FOLDER = Path(__file__).parents[2] / "agents" / "interop"
ENV = "llm_gym/TextGeneration-v0"
NUM_ENVS, MAX_NEW_TOKENS, SEED, RATE = 6, 5, 3, 1e-3
TOKENS = NUM_ENVS * MAX_NEW_TOKENS  # of a rollout
# LLaMA's rotations and norms compute in float32, whatever its weights are.
EXACT = [
    ("gpt2", "float32", 1e-6),
    ("llama", "float32", 1e-6),
    ("gpt2", "float64", 1e-12),
    ("llama", "float64", 1e-6),
]


def count_w20(prompts, completions, **_):
    return [0.1 + completion.split().count("w20") for completion in completions]


TASK = {
    "tokenizer": tiny_tokenizer(),
    "prompts": ["w1", "w5 w6 w7", "w9 w9"],
    "scorer": count_w20,
    "eos_token_id": (1, 4, 5, 6, 7),  # answers of one to five tokens, some cut by a rollout's end
}


@pytest.fixture
def script(monkeypatch):
    monkeypatch.syspath_prepend(str(FOLDER))
    return importlib.import_module("cleanrl_style")


def of_the_script(script, monkeypatch, model, dtype, rollouts, n_epochs, num_minibatches):
    """The policy that the script has trained."""
    made = []
    plain_make_vec = gym.make_vec

    def make_policy(config, observation_space, action_space):
        rate = lambda _: config.learning_rate  # noqa: E731
        made.append(
            TransformerActorCriticPolicy(
                observation_space, action_space, rate, model=model, dtype=dtype, seed=config.seed
            )
        )
        return made[0]

    monkeypatch.setattr(script, "make_policy", make_policy)
    monkeypatch.setattr(gym, "make_vec", lambda env, **kw: plain_make_vec(env, **TASK, **kw))
    arguments = {
        "env": ENV, "num-envs": NUM_ENVS, "max-new-tokens": MAX_NEW_TOKENS, "seed": SEED,
        "total-tokens": rollouts * TOKENS, "learning-rate": RATE, "n-epochs": n_epochs,
        "num-minibatches": num_minibatches,
    }  # fmt: skip
    assert script.main([f"--{name}={value}" for name, value in arguments.items()]) == 0
    monkeypatch.undo()
    return made[0]


def of_stable_baselines3(model, dtype, rollouts, n_epochs, num_minibatches, buffer):
    """The policy that stock PPO has trained."""
    env = gym.make_vec(
        ENV, num_envs=NUM_ENVS, autoreset_mode="SameStep", max_new_tokens=MAX_NEW_TOKENS, **TASK
    )
    algorithm = sb3.PPO(
        TransformerActorCriticPolicy,
        GymVecEnv(env),
        learning_rate=RATE,
        n_steps=MAX_NEW_TOKENS,
        batch_size=TOKENS // num_minibatches,
        n_epochs=n_epochs,
        gamma=1.0,
        gae_lambda=0.95,
        max_grad_norm=1.0,
        rollout_buffer_class=buffer,
        rollout_buffer_kwargs={"seed": SEED} if buffer is EpisodeBuffer else {},
        policy_kwargs={
            "model": model, "dtype": dtype, "seed": SEED,
            "optimizer_class": torch.optim.Adam, "optimizer_kwargs": {"eps": 1e-5},
        },
        seed=SEED,
        device="cpu",
    )  # fmt: skip
    return algorithm.learn(rollouts * TOKENS).policy


UPDATES = [
    (1, 1, 1, DictRolloutBuffer),  # stock in every part: the first update
    (1, 1, 2, EpisodeBuffer),
    (2, 3, 2, EpisodeBuffer),  # ratios that are clipped, and the next rollout
]


@pytest.mark.parametrize(("exact", "updates"), covering(EXACT, UPDATES))
def test_its_updates_are_those_of_stock_ppo(script, monkeypatch, tiny_dir, exact, updates):
    architecture, dtype, apart = exact
    *settings, buffer = updates
    model = tiny_dir(architecture)
    ours = of_the_script(script, monkeypatch, model, dtype, *settings)
    stock = of_stable_baselines3(model, dtype, *settings, buffer)
    start = TransformerActorCriticPolicy(
        stock.observation_space, stock.action_space, lambda _: RATE, model=model, dtype=dtype
    ).state_dict()
    moved = 0.0
    for name, weight in stock.state_dict().items():
        found = ours.state_dict()[name]
        torch.testing.assert_close(found, weight, atol=apart, rtol=0)
        moved = max(moved, float((weight - start[name]).abs().max()))
    assert moved > 0.5 * RATE  # it is no update that they agree upon by doing nothing
