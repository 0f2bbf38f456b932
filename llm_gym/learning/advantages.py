"""Advantage estimators: pure functions on arrays, in NumPy alone; and by name, of a rollout.

By time: `gae` and `monte_carlo_returns` on `T` steps of `N` environments, time first.
`episode_starts[t]` is true where step `t` is the first of an episode, as in Stable-Baselines3.

By whole answers: one number for each, against a baseline of the batch, of the answers to the same
prompt, or of the greedy answer; or the numbers of all their tokens whitened. Scores are the returns
of whole episodes: the scorer's reward, less the KL penalty where that is in the reward. Answers to
the same prompt form a group. The layout is explicit: `scores` is either `(n_groups, G)`, a row for
each prompt, or `(n,)` with `group_ids` `(n,)` that say which prompt each answers, where groups may
differ in size.

A baseline that does not depend on the answer it is subtracted from leaves the expected gradient as
it is. One that is the mean over `n` answers *including* it shrinks the gradient by `1 - 1/n`
without turning it. Dividing by a group's standard deviation turns it: groups count differently.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

from llm_gym.parallel import world

if TYPE_CHECKING:
    from llm_gym.learning.buffer import EpisodeBuffer, Segment

FloatArray = NDArray[np.floating]
GroupIds = NDArray[np.integer] | None


def gae(
    rewards: FloatArray,
    values: FloatArray,
    episode_starts: NDArray[np.generic],
    last_values: FloatArray,
    last_dones: NDArray[np.generic],
    *,
    gamma: float | FloatArray,
    gae_lambda: float | FloatArray,
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
        gamma: Discount factor; or float `(T, N)`, that of each step.
        gae_lambda: Exponential weight; 1 is the Monte-Carlo return minus the value. Or float
            `(T, N)`, that of each step, for episodes that differ in it.

    Returns:
        float `(T, N)` advantages; the returns are advantages + values.
    """
    advantages = np.zeros_like(rewards)
    carried = np.zeros_like(rewards[0])  # (N,)
    for t in reversed(range(len(rewards))):
        last = t == len(rewards) - 1
        goes_on = 1.0 - (last_dones if last else episode_starts[t + 1]).astype(rewards.dtype)
        next_values = last_values if last else values[t + 1]
        discount = gamma[t] if isinstance(gamma, np.ndarray) else gamma
        weight = gae_lambda[t] if isinstance(gae_lambda, np.ndarray) else gae_lambda
        delta = rewards[t] + discount * next_values * goes_on - values[t]
        carried = delta + discount * weight * goes_on * carried
        advantages[t] = carried
    return advantages


def length_adaptive_lambda(
    lengths: NDArray[np.integer] | FloatArray, alpha: float
) -> NDArray[np.float32]:
    """The lambda of an answer of `l` tokens: `1 - 1 / (alpha l)`, and 0 where that is negative.

    Yue et al. (2025, VAPO, arXiv 2504.05118, section 4.3, who take `alpha = 0.05`): the weights
    `lambda^k` of GAE then add up to about `alpha l`, so that a reward at the end reaches back over
    the same share of an answer, however long it is.

    Args:
        lengths: int of any shape, at least 1 each: tokens of the answers.
        alpha: Greater than 0.

    Returns:
        float32 of the shape of `lengths`, in [0, 1).
    """
    return np.maximum(1 - 1 / (alpha * np.asarray(lengths)), 0).astype(np.float32)


def monte_carlo_returns(
    rewards: FloatArray,
    episode_starts: NDArray[np.generic],
    *,
    gamma: float | FloatArray = 1.0,
) -> FloatArray:
    """Rewards to go: `G_t = sum_k gamma^k r_{t+k}` up to the episode's end.

    The gradient estimate `sum_t grad log pi(a_t|s_t) G_t` is REINFORCE (Williams, 1992); rewards
    before `t` would add noise and nothing else. Nothing is bootstrapped, so an episode that the
    last step cuts in two gets too little: leave it out.

    Args:
        rewards: float `(T, N)`.
        episode_starts: bool or 0/1 `(T, N)`, true where a step is the first of an episode.
        gamma: Discount factor; or float `(T, N)`, that of each step.

    Returns:
        float `(T, N)`.
    """
    returns = np.array(rewards)
    for t in reversed(range(len(rewards) - 1)):
        discount = gamma[t] if isinstance(gamma, np.ndarray) else gamma
        returns[t] += discount * returns[t + 1] * (1 - episode_starts[t + 1].astype(rewards.dtype))
    return returns


# ------------------------------------------------------------------ whole answers


def batch_mean(returns: FloatArray, scores: FloatArray | None = None) -> FloatArray:
    """REINFORCE with the batch's mean as the baseline: `A_i = R_i - mean(R)`.

    Its expected gradient is `1 - 1/n` times the true one, with `n` the number of answers.

    Args:
        returns: float of any shape, at least one: scores, or rewards to go of their tokens.
        scores: float `(n,)`, what the baseline is the mean of; `None` if that is `returns`.
    """
    return returns - (returns if scores is None else scores).mean()


def leave_one_out(scores: FloatArray, group_ids: GroupIds = None) -> FloatArray:
    """The mean score of the other answers to the same prompt, of the shape of `scores`.

    Raises:
        ValueError: If the shapes do not fit, or a group has fewer than two answers.
    """
    values, groups, sizes = _grouped(scores, group_ids, minimum=2)
    sums = np.bincount(groups, values)
    return ((sums[groups] - values) / (sizes[groups] - 1)).reshape(scores.shape)


def rloo(scores: FloatArray, group_ids: GroupIds = None) -> FloatArray:
    """REINFORCE leave-one-out: `A_i = R_i - mean_{j != i} R_j` over the prompt's answers.

    Kool et al. (2019, https://openreview.net/forum?id=r1lgTGL5DE) and Ahmadian et al. (2024, arXiv
    2402.14740, section 2.2). Equal to `G / (G - 1) * (R_i - mean_j R_j)`. Unbiased.

    Args:
        scores: float `(n_groups, G)`, or `(n,)` with `group_ids`.
        group_ids: int `(n,)`, or `None`.

    Returns:
        float of the shape of `scores`; sums to zero in every group.

    Raises:
        ValueError: If the shapes do not fit, or a group has fewer than two answers.
    """
    return scores - leave_one_out(scores, group_ids)


def dr_grpo(scores: FloatArray, group_ids: GroupIds = None) -> FloatArray:
    """GRPO "done right": `A_i = R_i - mean_j R_j` over the prompt's answers.

    Liu et al. (2025, arXiv 2503.20783, section 3.2), who leave out GRPO's standard deviation and,
    in the loss, its division by each answer's length (use the aggregation `"constant"`). Its
    expected gradient is `1 - 1/G` times the true one.

    Args:
        scores: float `(n_groups, G)`, or `(n,)` with `group_ids`.
        group_ids: int `(n,)`, or `None`.

    Returns:
        float of the shape of `scores`.

    Raises:
        ValueError: If the shapes do not fit, or a group has fewer than two answers.
    """
    values, groups, sizes = _grouped(scores, group_ids, minimum=2)
    means = np.bincount(groups, values) / sizes
    return (values - means[groups]).reshape(scores.shape)


def grpo(scores: FloatArray, group_ids: GroupIds = None, *, eps: float = 1e-4) -> FloatArray:
    """Group-relative advantages: `A_i = (R_i - mean_j R_j) / (std_j R_j + eps)`.

    Shao et al. (2024, arXiv 2402.03300, section 4.1.2). The paper does not say which standard
    deviation; this is the one with `G - 1`, as in the implementations in use. Prompts whose
    answers score almost alike count as much as those whose answers differ, so the expected gradient
    is not the true one (arXiv 2503.20783).

    Args:
        scores: float `(n_groups, G)`, or `(n,)` with `group_ids`.
        group_ids: int `(n,)`, or `None`.
        eps: Keeps groups without any difference at zero.

    Returns:
        float of the shape of `scores`.

    Raises:
        ValueError: If the shapes do not fit, or a group has fewer than two answers.
    """
    _, groups, sizes = _grouped(scores, group_ids, minimum=2)
    deviations = dr_grpo(scores, group_ids).reshape(-1)
    std = np.sqrt(np.bincount(groups, deviations**2) / (sizes - 1))
    return (deviations / (std[groups] + eps)).reshape(scores.shape)


def remax(returns: FloatArray, greedy_scores: FloatArray, group_ids: GroupIds = None) -> FloatArray:
    """ReMax: `A_i = R_i - R(greedy answer to the same prompt)`; unbiased.

    Li et al. (2023, arXiv 2310.10505, algorithm 1).

    Args:
        returns: float `(n_groups, G)`, or `(n,)` with `group_ids`: scores, or rewards to go of
            their tokens.
        greedy_scores: float `(n_groups,)`, those of the most probable tokens' answers.
        group_ids: int `(n,)`, places in `greedy_scores`, or `None`.

    Returns:
        float of the shape of `returns`.

    Raises:
        ValueError: If the shapes do not fit.
    """
    if group_ids is not None:
        if group_ids.shape != returns.shape:
            raise ValueError(
                f"group_ids of shape {group_ids.shape} need returns of the same shape (n,), "
                f"got {returns.shape}"
            )
        return returns - greedy_scores[group_ids]
    if returns.ndim != 2 or greedy_scores.shape != returns.shape[:1]:
        raise ValueError(
            f"returns of shape {returns.shape} need greedy_scores of shape {returns.shape[:1]}, "
            f"one a row (prompt), got {greedy_scores.shape}"
        )
    return returns - greedy_scores[:, None]


def reinforce_plus_plus(
    rewards_to_go: FloatArray, *, of_batch: FloatArray | None = None, eps: float = 1e-8
) -> FloatArray:
    """REINFORCE++: rewards to go of all tokens of the batch, whitened together.

    Hu (2025, arXiv 2501.03262, equations 7 and 8): `A_t = r(x, y) - beta sum_{i >= t} KL(i)`, so
    the KL penalty belongs into each token's reward, then `(A - mean) / std` over the whole batch,
    not over a prompt's answers.

    Args:
        rewards_to_go: float `(A,)`, of every token; leave padding out before.
        of_batch: float, of every token of the whole batch, of which these are a part; `None` if
            these are the batch.
        eps: Added to the variance.

    Returns:
        float `(A,)`; those of the batch have mean zero and unit (biased) variance.
    """
    batch = rewards_to_go if of_batch is None else of_batch
    return (rewards_to_go - batch.mean()) / np.sqrt(batch.var() + eps)


def _grouped(
    scores: FloatArray, group_ids: GroupIds, *, minimum: int
) -> tuple[FloatArray, NDArray[np.intp], NDArray[np.intp]]:
    """Flat scores, the number of each one's group, and the sizes of the groups."""
    if group_ids is None:
        if scores.ndim != 2:
            raise ValueError(
                f"scores of shape {scores.shape} must be (n_groups, G); pass group_ids for others"
            )
        group_ids = np.arange(len(scores)).repeat(scores.shape[1])
    elif scores.ndim != 1 or group_ids.shape != scores.shape:
        raise ValueError(
            f"group_ids of shape {group_ids.shape} need scores of the same shape (n,), "
            f"got {scores.shape}"
        )
    _, groups, sizes = np.unique(group_ids, return_inverse=True, return_counts=True)
    if len(sizes) and sizes.min() < minimum:
        raise ValueError(
            f"a group has {sizes.min()} answer(s), but its baseline needs at least {minimum}; "
            "sample more answers to each prompt (group_size)"
        )
    return scores.reshape(-1), groups.reshape(-1), sizes


# ------------------------------------------------------------------ by name, of a rollout


class Rollout(NamedTuple):
    """What an estimator sees of a rollout of `n` whole episodes with `A` tokens.

    Attributes:
        to_go: float `(A,)`, rewards to go of each token, episode after episode.
        scores: float `(n,)`, returns of the episodes.
        lengths: int `(n,)`, their tokens.
        groups: int `(n,)`, which prompt of the rollout each answers.
        greedy: float `(n_groups,)`, scores of greedy answers, if there are any.
        average: Mean return of the rollouts before, exponentially weighted.
        all_to_go: float, `to_go` of all processes.
        all_scores: float, `scores` of all processes.
    """

    to_go: FloatArray
    scores: FloatArray
    lengths: NDArray[np.int64]
    groups: NDArray[np.int64]
    greedy: FloatArray | None
    average: float
    all_to_go: FloatArray
    all_scores: FloatArray

    @classmethod
    def of(
        cls,
        buffer: EpisodeBuffer,
        starts: list[int],
        *,
        group_size: int,
        gamma: float | FloatArray,
        one_action: bool,
        greedy: FloatArray | None,
        average: float,
    ) -> Rollout:
        """Reads a finished rollout, in the order of `buffer.segments()`.

        Args:
            buffer: Buffer of whole episodes, penalties already in its rewards.
            starts: First step of each round.
            group_size: Rows `k*G .. k*G + G - 1` answer the same prompt.
            gamma: Discount; or float `(T, N)`, that of each step.
            one_action: Whether an answer is one action, so that all of its tokens have its return
                to go.
            greedy: See above, as `(rounds, prompts of a round)`.
            average: See above.
        """
        segments = buffer.segments()
        played = slice(0, buffer.pos)
        to_go = np.zeros_like(buffer.rewards)
        to_go[played] = monte_carlo_returns(
            buffer.rewards[played],
            buffer.episode_starts[played],
            gamma=gamma[played] if isinstance(gamma, np.ndarray) else gamma,
        )
        scores = np.array([to_go[s.start, s.env] for s in segments], dtype=np.float64)
        lengths = np.array([s.stop - s.start for s in segments])
        rounds = np.searchsorted(starts, [s.start for s in segments])
        blocks = np.array([s.env // group_size for s in segments], dtype=np.int64)
        of_tokens = scores.repeat(lengths) if one_action else to_go[buffer.places(segments)]
        return cls(
            to_go=of_tokens,
            scores=scores,
            lengths=lengths,
            groups=rounds * (buffer.n_envs // group_size) + blocks,
            greedy=None if greedy is None else greedy.reshape(-1),
            average=average,
            all_to_go=world().union(of_tokens),
            all_scores=world().union(scores),
        )


Estimator = Callable[[Rollout], FloatArray]


def _of_answers(estimate: Callable[[FloatArray, GroupIds], FloatArray]) -> Estimator:
    """Each answer's advantage, for all of its tokens."""
    return lambda rollout: estimate(rollout.scores, rollout.groups).repeat(rollout.lengths)


def _remax(rollout: Rollout) -> FloatArray:
    assert rollout.greedy is not None
    return remax(rollout.to_go, rollout.greedy, rollout.groups.repeat(rollout.lengths))


#: Advantages of whole episodes by name: float `(A,)` of a `Rollout`. "gae" is the other.
ESTIMATORS: dict[str, Estimator] = {
    "reinforce": lambda rollout: rollout.to_go,
    "batch_mean": lambda rollout: batch_mean(rollout.to_go, rollout.all_scores),
    "moving_average": lambda rollout: rollout.to_go - rollout.average,
    "rloo": _of_answers(rloo),
    "grpo": _of_answers(grpo),
    "dr_grpo": _of_answers(dr_grpo),
    "reinforce_plus_plus": lambda rollout: reinforce_plus_plus(
        rollout.to_go, of_batch=rollout.all_to_go
    ),
    "remax": _remax,
}
NEED_GROUPS = frozenset({"rloo", "grpo", "dr_grpo", "remax"})
#: Advantages that are the tokens' own by definition: no answer has one of them.
OF_TOKENS = frozenset({"gae", "reinforce_plus_plus"})


def assert_same_prompts(segments: list[Segment], groups: NDArray[np.int64]) -> None:
    """Our own invariant: what is compared answers the same prompt."""
    first: dict[int, Segment] = {}
    for segment, group in zip(segments, groups.tolist(), strict=True):
        prompt = first.setdefault(group, segment).prefix
        assert np.array_equal(prompt, segment.prefix), f"group {group} has different prompts"
