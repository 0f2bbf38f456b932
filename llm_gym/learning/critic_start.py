"""A critic that starts at the level of the returns instead of at nothing."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch

from llm_gym.learning.advantages import monte_carlo_returns
from llm_gym.parallel import world

if TYPE_CHECKING:
    from llm_gym.learning.buffer import EpisodeBuffer
    from llm_gym.policy import TransformerActorCriticPolicy


def start_critic(buffer: EpisodeBuffer, policy: TransformerActorCriticPolicy) -> float | None:
    """Sets the bias of a value head that is still zero to the mean return of a rollout.

    The level is the constant that fits best, in squared error: the mean over the tokens of
    episodes that lie in the rollout from the first token to their own end of what was still to
    come, penalties and scaling included. The rollout's advantages are computed again with it.

    Args:
        buffer: A finished rollout.
        policy: The policy that played it.

    Returns:
        The level, in the units of the buffer's rewards; `None` if the value head is not zero any
        more, or no such episode is in the rollout.
    """
    if any(bool(p.any()) for p in policy.value_head.parameters()):
        return None
    known = [
        segment
        for segment in buffer.segments()
        if buffer.complete(segment) and not buffer.truncated[segment.stop - 1, segment.env]
    ]
    discounts = buffer.discounts()
    to_come = monte_carlo_returns(buffer.rewards, buffer.episode_starts, gamma=discounts)
    own = to_come[buffer.places(known)] if known else to_come[:0, 0]
    of_tokens = world().union(own)  # of all processes
    if not len(of_tokens):
        return None
    level = float(of_tokens.mean())
    with torch.no_grad():
        policy.value_head.bias.fill_(level / policy.value_scale)
    buffer.values = np.full_like(buffer.values, level)
    buffer.bootstraps = (level * discounts * buffer.truncated).astype(np.float32)
    buffer.fill_advantages(buffer.values[-1])
    return level
