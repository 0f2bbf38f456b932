"""What the planted faults replace while a run is at work: one function each."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from unittest.mock import patch

import numpy as np
import torch

from llm_gym.learning.buffer import EpisodeBuffer
from llm_gym.learning.kl import ReferenceModel, kl_estimate
from llm_gym.learning.shaping import RewardShaping
from llm_gym.policy import TransformerActorCriticPolicy as Policy


@contextmanager
def patched(name: str | None, algorithm: Any) -> Iterator[None]:
    """Has a fault be there while the block runs.

    Args:
        name: Of a function below; None changes nothing.
        algorithm: Whose run it is.
    """
    if name is None:
        yield
        return
    with globals()[name](algorithm):
        yield


def dropout_in_updates(algorithm: Any) -> Any:
    usual, drop = Policy._evaluate, torch.nn.Dropout(0.1)

    def evaluate(self: Policy, obs: Any, tokens: Any) -> Any:
        handle = self.model.transformer.ln_f.register_forward_hook(lambda _m, _i, out: drop(out))
        try:
            return usual(self, obs, tokens)
        finally:
            handle.remove()

    return patch.object(Policy, "_evaluate", evaluate)


@contextmanager
def other_temperature_in_updates(algorithm: Any) -> Iterator[None]:
    usual = Policy._evaluate

    def evaluate(self: Policy, obs: Any, tokens: Any) -> Any:
        kept, self.temperature = self.temperature, 1.3
        try:
            return usual(self, obs, tokens)
        finally:
            self.temperature = kept

    with patch.object(Policy, "_evaluate", evaluate):
        yield


def sharpened_sampling(algorithm: Any) -> Any:
    usual = Policy._sample

    def sample(self: Policy, probs: torch.Tensor) -> torch.Tensor:
        sharp = probs ** (1 / 0.6)
        return usual(self, sharp / sharp.sum(-1, keepdim=True))

    return patch.object(Policy, "_sample", sample)


def reference_is_the_policy(algorithm: Any) -> Any:
    @torch.no_grad()
    def log_probs(self: ReferenceModel, batch: Any) -> torch.Tensor:
        return algorithm.policy.evaluate_actions(batch, batch.actions)[1]

    return patch.object(ReferenceModel, "log_probs", log_probs)


def swapped_log_ratio(algorithm: Any) -> Any:
    usual = RewardShaping._log_ratio
    return patch.object(RewardShaping, "_log_ratio", lambda *given: -usual(*given))


def penalty_added(algorithm: Any) -> Any:
    usual = RewardShaping._penalise

    def penalise(self: RewardShaping, buffer: Any, log_ratio: Any, coef: float) -> None:
        usual(self, buffer, log_ratio, coef)
        buffer.rewards += 2 * coef * kl_estimate(log_ratio, self.penalty.kl_estimator)

    return patch.object(RewardShaping, "_penalise", penalise)


def negated_advantages(algorithm: Any) -> Any:
    usual = EpisodeBuffer.fill_advantages

    def fill(self: EpisodeBuffer, last_values: Any) -> None:
        usual(self, last_values)
        self.advantages = -self.advantages

    return patch.object(EpisodeBuffer, "fill_advantages", fill)


def shuffled_returns(algorithm: Any) -> Any:
    usual, rng = EpisodeBuffer.fill_advantages, np.random.default_rng(0)

    def fill(self: EpisodeBuffer, last_values: Any) -> None:
        usual(self, last_values)
        flat = self.returns.reshape(-1)
        self.returns = rng.permutation(flat).reshape(self.returns.shape)

    return patch.object(EpisodeBuffer, "fill_advantages", fill)


@contextmanager
def frozen_value_head(algorithm: Any) -> Iterator[None]:
    algorithm.policy.value_head.requires_grad_(False)
    yield


@contextmanager
def negated_entropy_bonus(algorithm: Any) -> Iterator[None]:
    algorithm.ent_coef = -3.0
    yield
