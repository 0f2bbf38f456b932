"""Estimators that follow a rollout step by step.

Shapes: `T` steps of `N` environments, time first. `episode_starts[t]` is true where step
`t` is the first of an episode, as in Stable-Baselines3.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.floating]


def gae(
    rewards: FloatArray,
    values: FloatArray,
    episode_starts: NDArray[np.generic],
    last_values: FloatArray,
    last_dones: NDArray[np.generic],
    *,
    gamma: float,
    gae_lambda: float,
) -> FloatArray:
    """Generalised advantage estimation (Schulman et al., 2016, arXiv 1506.02438, eq. 16).

    `A_t = sum_k (gamma lambda)^k delta_{t+k}` with
    `delta_t = r_t + gamma V(s_{t+1}) - V(s_t)`, the sum and the bootstrap ending where the
    episode does. A truncated episode's bootstrap must be in its last reward already, which is
    where Stable-Baselines3's rollout puts it.

    Args:
        rewards: float `(T, N)`.
        values: float `(T, N)`, the critic's at the time of acting.
        episode_starts: bool or 0/1 `(T, N)`.
        last_values: float `(N,)`, values of the observations after the last step.
        last_dones: bool or 0/1 `(N,)`, whether the last step ended an episode.
        gamma: Discount factor.
        gae_lambda: Exponential weight; 1 is the Monte-Carlo return minus the value.

    Returns:
        float `(T, N)` advantages; the returns are advantages + values.
    """
    advantages = np.zeros_like(rewards)
    carried = np.zeros_like(rewards[0])  # (N,)
    for t in reversed(range(len(rewards))):
        last = t == len(rewards) - 1
        goes_on = 1.0 - (last_dones if last else episode_starts[t + 1]).astype(rewards.dtype)
        next_values = last_values if last else values[t + 1]
        delta = rewards[t] + gamma * next_values * goes_on - values[t]
        carried = delta + gamma * gae_lambda * goes_on * carried
        advantages[t] = carried
    return advantages


def monte_carlo_returns(
    rewards: FloatArray,
    episode_starts: NDArray[np.generic],
    *,
    gamma: float = 1.0,
) -> FloatArray:
    """Rewards to go: `G_t = sum_k gamma^k r_{t+k}` up to the episode's end.

    The gradient estimate `sum_t grad log pi(a_t|s_t) G_t` is REINFORCE (Williams, 1992); rewards
    before `t` would add noise and nothing else. Nothing is bootstrapped, so an episode that the
    last step cuts in two gets too little: leave it out.

    Args:
        rewards: float `(T, N)`.
        episode_starts: bool or 0/1 `(T, N)`, true where a step is the first of an episode.
        gamma: Discount factor.

    Returns:
        float `(T, N)`.
    """
    returns = np.array(rewards)
    for t in reversed(range(len(rewards) - 1)):
        returns[t] += gamma * returns[t + 1] * (1 - episode_starts[t + 1].astype(rewards.dtype))
    return returns


def whiten(values: FloatArray, *, shift_mean: bool = True) -> FloatArray:
    """Scales to unit variance, and to zero mean unless `shift_mean` is false.

    The variance is the biased one, as in the code behind Ziegler et al. (2019) and
    https://huggingface.co/blog/the_n_implementation_details_of_rlhf_with_ppo (policy, detail 9).

    Args:
        values: float of any shape; all entries count, so leave padding out before.
        shift_mean: Whether the mean is removed (advantages) or kept (rewards).
    """
    mean = values.mean()
    whitened = (values - mean) / np.sqrt(values.var() + 1e-8)
    return whitened if shift_mean else whitened + mean
