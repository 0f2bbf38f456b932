"""Advantage estimators: pure functions on arrays, in NumPy alone.

By time (`llm_gym.learning.advantages.temporal`): `gae` and `monte_carlo_returns` on `T`
steps of `N` environments. By whole episodes (`llm_gym.learning.advantages.episodic`): one
number for each answer, against a baseline of the batch, of the answers to the same prompt, or of
the greedy answer.
"""

from llm_gym.learning.advantages.episodic import (
    batch_mean,
    dr_grpo,
    grpo,
    leave_one_out,
    reinforce_plus_plus,
    remax,
    rloo,
)
from llm_gym.learning.advantages.temporal import gae, monte_carlo_returns, whiten

__all__ = [
    "batch_mean",
    "dr_grpo",
    "gae",
    "grpo",
    "leave_one_out",
    "monte_carlo_returns",
    "reinforce_plus_plus",
    "remax",
    "rloo",
    "whiten",
]
