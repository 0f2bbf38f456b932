"""The smallest learnable environment: eight to twelve tokens, one of which pays."""

from __future__ import annotations

from typing import Any

import gymnasium as gym

import llm_gym

MODEL = {"vocab_size": 12, "n_embd": 16, "n_layer": 1, "n_head": 2, "n_positions": 16}
PROMPTS = ["w1", "w2 w3", "w4", "w5", "w6 w7"]


def count_w1(prompts, completions, **_):
    return [float(completion.split().count("w1")) for completion in completions]


def small_env(model: str, **overrides: Any) -> gym.vector.VectorEnv:
    kwargs: dict[str, Any] = {
        "num_envs": 16,
        "tokenizer": model,
        "prompts": PROMPTS,
        "scorer": count_w1,
        "max_new_tokens": 5,
        "autoreset_mode": "SameStep",
    }
    return gym.make_vec("llm_gym/TextGeneration-v0", **(kwargs | overrides))


def make(name: str, model: str, env: Any = None, **overrides: Any) -> Any:
    """An algorithm of llm_gym by name."""
    kwargs = {"learning_rate": 1e-2, "kl_coef": 0.0, "seed": 0, "device": "cpu"} | overrides
    kwargs["policy_kwargs"] = {"model": model} | overrides.get("policy_kwargs", {})
    env = small_env(model) if env is None else env
    return getattr(llm_gym, name)("TransformerPolicy", env, **kwargs)


def rollouts(algorithm: Any, n: int = 1) -> Any:
    """Learns from n rollouts, however many tokens they have."""
    for _ in range(n):
        algorithm.learn(1, reset_num_timesteps=False)
    return algorithm
