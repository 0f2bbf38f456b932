"""Losses of policy-gradient algorithms: pure functions of tensors.

Shapes: `A` actions (tokens) of `B` answers, flat, as `llm_gym.policy.EpisodeBatch` has
them; `rows` int64 `(A,)` says which answer an action belongs to. Losses are per token,
`aggregate` makes one number of them, and the three ways of doing so are three different
weightings of long against short answers.
"""

from __future__ import annotations

import torch

from llm_gym.learning.kl import kl_estimate

AGGREGATIONS = ("token_mean", "sequence_mean", "constant")


def policy_gradient_loss(log_prob: torch.Tensor, advantages: torch.Tensor) -> torch.Tensor:
    """`-A_t log pi(a_t|s_t)`, whose gradient is REINFORCE's (Williams, 1992).

    Args:
        log_prob: float `(A,)`, under the present weights.
        advantages: float `(A,)`, constants.

    Returns:
        float `(A,)`.
    """
    return -advantages * log_prob


def clipped_surrogate_loss(
    log_prob: torch.Tensor,
    old_log_prob: torch.Tensor,
    advantages: torch.Tensor,
    clip_low: float,
    clip_high: float,
) -> torch.Tensor:
    """`-min(rho A, clip(rho, 1 - low, 1 + high) A)` with `rho = pi / pi_old`.

    Schulman et al. (2017, arXiv 1707.06347, eq. 7) with `low = high`; a higher `high` leaves
    improbable tokens more room to grow (DAPO's clip-higher, arXiv 2503.14476, eq. 10).

    Args:
        log_prob: float `(A,)`, under the present weights.
        old_log_prob: float `(A,)`, of the policy that sampled.
        advantages: float `(A,)`, constants.
        clip_low: How far the ratio may fall below 1.
        clip_high: How far it may rise above 1.

    Returns:
        float `(A,)`.
    """
    ratio = (log_prob - old_log_prob).exp()
    clipped = ratio.clamp(1 - clip_low, 1 + clip_high)
    return -torch.minimum(ratio * advantages, clipped * advantages)


def kl_loss(
    log_prob: torch.Tensor, reference_log_prob: torch.Tensor, estimator: str = "k2"
) -> torch.Tensor:
    """A KL penalty as a loss, differentiated through the log-probability itself.

    A good estimate of the divergence need not have a good gradient. With
    `x = log pi - log pi_ref` of sampled tokens, the gradients are

    - k1: `grad log pi`, zero in expectation: no penalty at all, only noise;
    - k2: `x grad log pi`, in expectation the gradient of `KL(pi || pi_ref)`;
    - k3: `(1 - exp(-x)) grad log pi`, in expectation that of `KL(pi_ref || pi)`, the other
      divergence, which agrees to first order near the reference.

    (arXiv 2506.09477, 2512.21852.) "In expectation" is over the tokens of one state. Over whole
    answers, a token also leads to later states; that part of the gradient only k1 in the *reward*
    has, or k2 of whole answers: pass sums over each answer for that.

    Args:
        log_prob: float `(A,)` or `(B,)`, under the present weights.
        reference_log_prob: float of the same shape, constants.
        estimator: `"k1"`, `"k2"` or `"k3"`.

    Returns:
        float of the same shape.

    Raises:
        ValueError: If the estimator is unknown.
    """
    return kl_estimate(log_prob - reference_log_prob, estimator)


def exact_kl(logits: torch.Tensor, reference_logits: torch.Tensor) -> torch.Tensor:
    """`KL(pi || pi_ref)` of every state, summed over the whole vocabulary.

    Args:
        logits: float `(A, V)`; `-inf` marks tokens that cannot be chosen.
        reference_logits: float `(A, V)`, `-inf` at no other tokens.

    Returns:
        float `(A,)`, in nats.
    """
    log_probs, reference = logits.log_softmax(-1), reference_logits.log_softmax(-1)
    chosen = log_probs > -torch.inf
    difference = torch.where(chosen, log_probs - reference, 0.0)
    return (log_probs.exp() * difference).sum(-1)


def aggregate(
    per_token: torch.Tensor,
    rows: torch.Tensor,
    how: str = "token_mean",
    *,
    constant: float = 1.0,
) -> torch.Tensor:
    """One number of the losses of all tokens.

    - `"token_mean"`: the mean over tokens; a long answer weighs more (PPO; DAPO, arXiv
      2503.14476, section 3.3).
    - `"sequence_mean"`: the mean over answers of the mean over their tokens; a token of a long
      answer weighs less (GRPO, arXiv 2402.03300, eq. 3).
    - `"constant"`: the sum over tokens divided by `B * constant`; proportional to the gradient
      of the expected return (Dr. GRPO, arXiv 2503.20783; RLOO with `constant=1`).

    Args:
        per_token: float `(A,)`.
        rows: int64 `(A,)`, the answer of each token, numbered from 0 without gaps.
        how: See above.
        constant: Constant of `"constant"`; the longest answer's length, for a scale like the
            others'.

    Returns:
        float scalar.

    Raises:
        ValueError: If `how` is unknown.
    """
    if how == "token_mean":
        return per_token.mean()
    lengths = rows.bincount()  # (B,)
    if how == "sequence_mean":
        return (per_token / lengths[rows]).sum() / len(lengths)
    if how == "constant":
        return per_token.sum() / (len(lengths) * constant)
    raise ValueError(f"aggregation={how!r} must be one of {AGGREGATIONS}")
