"""Tiny training runs for tests: a two-layer random model that is paid for writing one word."""

from __future__ import annotations

from typing import Any

import gymnasium as gym

import llm_gym  # registers the environments

PROMPTS = ["w1 w2", "w3", "w4 w5 w6", "w7", "w8 w9"]
ROLLOUT = 4 * 10  # tokens of one rollout of `tiny_ppo`


def count_w1(prompts: list[str], completions: list[str]) -> list[float]:
    return [float(completion.split().count("w1")) for completion in completions]


def tiny_env(model: str, **overrides: Any) -> gym.vector.VectorEnv:
    kwargs: dict[str, Any] = {
        "num_envs": 4,
        "tokenizer": model,
        "prompts": PROMPTS,
        "scorer": count_w1,
        "max_new_tokens": 8,
        "autoreset_mode": "SameStep",
    }
    return gym.make_vec("llm_gym/TextGeneration-v0", **{**kwargs, **overrides})


def tiny_ppo(model: str, **overrides: Any) -> llm_gym.PPO:
    """PPO whose rollouts end in the middle of episodes, and contain whole ones too."""
    kwargs: dict[str, Any] = {
        "n_steps": 10,
        "batch_size": 12,
        "n_epochs": 2,
        "learning_rate": 1e-3,
        "kl_coef": 0.1,
        "kl_target": 1.0,
        "kl_horizon": 50,
        "seed": 3,
        "device": "cpu",
        "policy_kwargs": {"model": model},
    }
    return llm_gym.PPO("TransformerPolicy", tiny_env(model), **{**kwargs, **overrides})
