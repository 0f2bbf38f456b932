"""Runs that diverge: found after the update that did it, before anything is saved."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import torch
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.utils import obs_as_tensor

from llm_gym.language_models.divergence import (
    DivergenceError,
    all_finite,
    check_figures,
    check_tensors,
)
from llm_gym.learning.divergence import check_losses, explained

if TYPE_CHECKING:
    from stable_baselines3.common.on_policy_algorithm import OnPolicyAlgorithm

__all__ = ["DivergenceCallback", "DivergenceError", "check_distribution", "check_state"]


class DivergenceCallback(BaseCallback):
    """Ends a run whose last update has left the numbers, before the next rollout is played.

    It looks at the losses that the update logged and at the weights, in one pass over them. Steps
    with a gradient that is no number are refused by the policy's optimizer itself. To come before
    `CheckpointCallback` in the list of callbacks.

    Raises:
        DivergenceError: From `learn`, saying what is not finite, when, and what to lower.
    """

    model: OnPolicyAlgorithm

    def _on_step(self) -> bool:
        return True

    def _on_rollout_start(self) -> None:
        self._check()

    def _on_training_end(self) -> None:
        self._check()

    def _check(self) -> None:
        with explained(self.model):
            check_losses(self.logger.name_to_value)
            if not all_finite(list(self.model.policy.parameters())):
                check_tensors(dict(self.model.policy.named_parameters()), "the parameter")


def check_state(values: Mapping[str, Any], tensors: Mapping[str, torch.Tensor]) -> None:
    """Refuses to save a state that is not finite.

    Args:
        values: JSON-able, see `llm_gym.runs.training_state.collect`.
        tensors: By name.

    Raises:
        DivergenceError: A number or a tensor is not finite, by name.
    """
    check_tensors(tensors, "the tensor")
    check_figures(values, "the state's")


@torch.no_grad()
def check_distribution(algorithm: OnPolicyAlgorithm) -> None:
    """Refuses a policy whose weights are numbers while what it says of the next token is none.

    A gradient step that is far too long leads there, and nobody has asked the policy since. What is
    read for that is in its cache when the next rollout begins, so it costs nothing.

    Args:
        algorithm: Between two iterations; its random state is left as it is.

    Raises:
        DivergenceError: A logit or a value is NaN or infinite.
    """
    observed = algorithm._last_obs
    if observed is None:
        return
    policy: Any = algorithm.policy
    obs = obs_as_tensor(observed, algorithm.device)
    with explained(algorithm):
        if policy.get_distribution(obs).distribution.logits.isnan().any():
            raise DivergenceError("the model's logits are NaN or infinite")
        if not policy.predict_values(obs).isfinite().all():
            raise DivergenceError("the predicted values are NaN or infinite")
