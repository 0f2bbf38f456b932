"""Estimators that give each whole answer one number, or whiten the numbers of all its tokens.

Scores are the returns of whole episodes: the scorer's reward, less the KL penalty where that is in
the reward. Answers to the same prompt form a group. The layout is explicit: `scores` is either
`(n_groups, G)`, a row for each prompt, or `(n,)` with `group_ids` `(n,)` that say which
prompt each answers, where groups may differ in size.

A baseline that does not depend on the answer it is subtracted from leaves the expected gradient as
it is. One that is the mean over `n` answers *including* it shrinks the gradient by `1 - 1/n`
without turning it. Dividing by a group's standard deviation turns it: groups count differently.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.floating]
GroupIds = NDArray[np.integer] | None


def batch_mean(scores: FloatArray) -> FloatArray:
    """REINFORCE with the batch's mean as the baseline: `A_i = R_i - mean(R)`.

    Its expected gradient is `1 - 1/n` times the true one, with `n` the number of answers.

    Args:
        scores: float of any shape, at least one.
    """
    return scores - scores.mean()


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


def remax(scores: FloatArray, greedy_scores: FloatArray) -> FloatArray:
    """ReMax: `A_i = R_i - R(greedy answer to the same prompt)`; unbiased.

    Li et al. (2023, arXiv 2310.10505, algorithm 1).

    Args:
        scores: float `(n_groups, G)`.
        greedy_scores: float `(n_groups,)`, those of the most probable tokens' answers.

    Returns:
        float `(n_groups, G)`.

    Raises:
        ValueError: If there is not one greedy score a row.
    """
    if scores.ndim != 2 or greedy_scores.shape != scores.shape[:1]:
        raise ValueError(
            f"scores of shape {scores.shape} need greedy_scores of shape {scores.shape[:1]}, one a "
            f"row (prompt), got {greedy_scores.shape}"
        )
    return scores - greedy_scores[:, None]


def reinforce_plus_plus(rewards_to_go: FloatArray, *, eps: float = 1e-8) -> FloatArray:
    """REINFORCE++: rewards to go of all tokens of the batch, whitened together.

    Hu (2025, arXiv 2501.03262, equations 7 and 8): `A_t = r(x, y) - beta sum_{i >= t} KL(i)`, so
    the KL penalty belongs into each token's reward, then `(A - mean) / std` over the whole batch,
    not over a prompt's answers.

    Args:
        rewards_to_go: float `(A,)`, of every token; leave padding out before.
        eps: Added to the variance.

    Returns:
        float `(A,)`, of mean zero and unit (biased) variance.
    """
    mean = rewards_to_go.mean()
    return (rewards_to_go - mean) / np.sqrt(rewards_to_go.var() + eps)


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
