"""Rollouts from which the critic learns alone, before the actor listens to it.

A critic that has learnt nothing calls good what is not. Yuan et al. (2025, VC-PPO, arXiv
2503.01491, section 4.1) and VAPO (arXiv 2504.05118) first fit it to answers of the model as it is.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from stable_baselines3.common.utils import explained_variance
from torch.nn import functional as F

from llm_gym.language_models.divergence import check_step, clip_gradients
from llm_gym.language_models.packing import micro_batches
from llm_gym.learning.buffer import EpisodeBuffer, Segment
from llm_gym.parallel import world
from llm_gym.policy import TransformerActorCriticPolicy


def train_critic(
    policy: TransformerActorCriticPolicy,
    buffer: EpisodeBuffer,
    *,
    batch_size: int | None,
    n_epochs: int,
    vf_coef: float,
    max_grad_norm: float,
) -> dict[str, float]:
    """Fits a policy's critic to the returns of a rollout; its distribution stays to the bit.

    A critic on the actor's transformer learns with its value head alone; one of its own learns with
    all of its weights. The loss is that of an update, without the actor's part.

    Args:
        policy: It played the rollout.
        buffer: The rollout, its returns computed.
        batch_size: Tokens per gradient step; None is all of them.
        n_epochs: Passes over the rollout.
        vf_coef: Weight of the value loss: what the gradient is when it is clipped.
        max_grad_norm: Clipping of the gradient's norm.

    Returns:
        Figures: `value_loss`, the mean over the gradient steps, and `explained_variance`, of the
        values before them.

    Raises:
        DivergenceError: The loss or its gradient is not finite.
    """
    policy.set_training_mode(True)
    found: list[float] = []
    with _only_the_critic(policy) as parameters:
        for _ in range(n_epochs):
            batches = buffer.minibatches(batch_size)
            tokens = [sum(each.stop - each.start for each in members) for members in batches]
            for members, n_tokens in zip(batches, world().sums(*tokens), strict=True):
                policy.optimizer.zero_grad(set_to_none=True)
                loss = 0.0
                for part in micro_batches(members, policy.micro_batch_size):
                    share = _squared_error(policy, buffer, part) / n_tokens
                    (vf_coef * share).backward()
                    loss += share.item()
                (loss,) = world().reduce_gradients(parameters, figures=[loss])
                norm = clip_gradients(policy.optimizer, parameters, max_grad_norm)
                check_step(loss, norm)
                policy.optimizer.step()
                found.append(loss)
    places = buffer.places(buffer.segments())
    explained = explained_variance(buffer.values[places], buffer.returns[places])
    return {"value_loss": float(np.mean(found)), "explained_variance": float(explained)}


def _squared_error(
    policy: TransformerActorCriticPolicy, buffer: EpisodeBuffer, members: list[Segment]
) -> torch.Tensor:
    """Of all tokens of some segments, summed."""
    values = policy.predict_values(buffer.episode_batch(members)).flatten()  # (A,)
    returns = buffer.to_torch(buffer.returns[buffer.places(members)])
    return F.mse_loss(values, returns, reduction="sum")


@contextmanager
def _only_the_critic(policy: TransformerActorCriticPolicy) -> Iterator[list[Any]]:
    """Has nothing but the critic's own parameters, which it yields, take gradients."""
    modules = [policy.value_head, *([] if policy.critic is None else [policy.critic])]
    own = {id(p) for module in modules for p in module.parameters()}
    actors = [p for p in policy.parameters() if p.requires_grad and id(p) not in own]
    for parameter in actors:
        parameter.requires_grad_(False)
    try:
        yield [p for p in policy.parameters() if p.requires_grad]
    finally:
        for parameter in actors:
            parameter.requires_grad_(True)
