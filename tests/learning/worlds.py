"""A world small enough to list: one prompt, a tiny model, a word that pays; and groups of it."""

from __future__ import annotations

from typing import Any

import gymnasium as gym

import llm_gym  # noqa: F401 - registers the environments

PROMPTS = ["w1", "w5 w6 w7", "w9 w9"]


def count_w20(prompts, completions, **_):
    return [float(completion.split().count("w20")) for completion in completions]


def grouped_env(model: str, group_size: int = 4, num_envs: int = 8, **overrides: Any):
    kwargs: dict[str, Any] = {
        "tokenizer": model,
        "prompts": PROMPTS,
        "scorer": count_w20,
        "max_new_tokens": 6,
        "eos_token_id": (1, 4, 5, 6, 7),
        "autoreset_mode": "SameStep",
        "group_size": group_size,
        "num_envs": num_envs,
    }
    return gym.make_vec("llm_gym/TextGeneration-v0", **(kwargs | overrides))


def settings(model: str, **overrides: Any) -> dict[str, Any]:
    kwargs = {"learning_rate": 3e-3, "batch_size": 48, "seed": 3, "device": "cpu"}
    return {"policy_kwargs": {"model": model}} | kwargs | overrides
