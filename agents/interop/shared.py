"""What the scripts of this folder have in common: options, the policy by itself, and a meter.

The glue of a script are its own classes and functions beside `main` and what only measures
(`Measured...`): `benchmarks/interop/run.py` counts their lines.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
import torch
from gymnasium import spaces

from llm_gym import TransformerActorCriticPolicy
from llm_gym.files.settings import argument_parser, setting


@dataclass(frozen=True)
class Config:
    """What every script can be told."""

    env: str = setting("llm_gym/PoliteEmail-v0", "id of a text environment")
    model: str = setting("llm_gym/email-sft", "language model to train")
    num_envs: int = setting(8, "answers written at the same time")
    max_new_tokens: int = setting(24, "most tokens of an answer")
    total_tokens: int = setting(1536, "tokens to generate in all")
    learning_rate: float = setting(1e-4, "step size")
    n_epochs: int = setting(1, "passes over each rollout")
    seed: int = setting(0, "of everything random")


AnyConfig = TypeVar("AnyConfig", bound=Config)


def parse_config(
    doc: str | None,
    argv: Sequence[str] | None = None,
    config_class: type[AnyConfig] = Config,  # type: ignore[assignment]
) -> AnyConfig:
    """Reads the command line; each field of the configuration is an option."""
    parser: argparse.ArgumentParser = argument_parser(doc or "", config_class)
    return config_class(**vars(parser.parse_args(argv)))


def make_policy(
    config: Config, observation_space: spaces.Space, action_space: spaces.Space
) -> TransformerActorCriticPolicy:
    """The language model with its value head, an ordinary `torch.nn.Module`.

    Outside Stable-Baselines3 two of its methods are all one needs: `policy(obs)` samples and gives
    actions, values and log-probabilities, reading one new token a step; `values_and_logits(obs)`
    gives what a loss is made of, with gradients.
    """
    return TransformerActorCriticPolicy(
        observation_space,
        action_space,
        lambda _: config.learning_rate,
        model=config.model,
        seed=config.seed,
    )


class Meter:
    """Counts CPU seconds and tokens of rollout and update, and how a rollout's steps were read.

    Args:
        policy: The policy.
        num_envs: Rows of the environment.
    """

    def __init__(self, policy: TransformerActorCriticPolicy, num_envs: int) -> None:
        self.num_envs = num_envs
        self.seconds: dict[str, float] = {"rollout": 0.0, "update": 0.0}
        self.tokens: dict[str, int] = {"rollout": 0, "update": 0}
        self.cached_steps = 0  # in which rows were fed their newest token alone
        self._phases: list[str] = []  # the running one last
        self._since = 0.0
        policy.model.base_model.register_forward_pre_hook(self._read, with_kwargs=True)

    def _read(self, module: torch.nn.Module, args: Any, kwargs: dict[str, Any]) -> None:
        if self._phases[-1:] == ["rollout"] and kwargs["input_ids"].shape[1] == 1:
            self.cached_steps += 1

    @contextmanager
    def measure(self, phase: str, tokens: int) -> Iterator[None]:
        """Adds what the block takes to "rollout" or "update"; an outer block waits meanwhile.

        Args:
            phase: Which.
            tokens: How many tokens the block generates, or learns from.
        """
        self._note_seconds()
        self._phases.append(phase)
        yield
        self._note_seconds()
        self._phases.pop()
        self.tokens[phase] += tokens

    def _note_seconds(self) -> None:
        now = time.process_time()
        if self._phases:
            self.seconds[self._phases[-1]] += now - self._since
        self._since = now

    def report(self, name: str) -> str:
        """One line: tokens a CPU second, and how many steps were decoded from the cache."""
        speed = {p: self.tokens[p] / s if s else 0.0 for p, s in self.seconds.items()}
        steps = self.tokens["rollout"] // self.num_envs
        return (
            f"{name}: rollout {speed['rollout']:.0f}, update {speed['update']:.0f} tokens a CPU "
            f"second; {min(self.cached_steps, steps)} of {steps} steps decoded from the cache"
        )


class MeasuredAlgorithm:
    """The meter around an algorithm of Stable-Baselines3's kind, before which it is a base."""

    meter: Meter

    def _setup_model(self: Any) -> None:
        super()._setup_model()  # type: ignore[misc]
        self.meter = Meter(self.policy, self.n_envs)

    def collect_rollouts(self: Any, *args: Any, **kwargs: Any) -> bool:
        """As the algorithm's."""
        with self.meter.measure("rollout", self.n_envs * self.n_steps):
            goes_on = super().collect_rollouts(*args, **kwargs)  # type: ignore[misc]
        print(f"score {np.mean([episode['r'] for episode in self.ep_info_buffer]):.2f}")
        return goes_on

    def train(self: Any) -> None:
        """As the algorithm's."""
        with self.meter.measure("update", self.n_envs * self.n_steps * self.n_epochs):
            super().train()  # type: ignore[misc]
