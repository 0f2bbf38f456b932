"""Losses on sampled answers and on pairs of them: pure functions of tensors.

Shapes: `A` actions (tokens) of `B` answers, flat, answer after answer, as
`llm_gym.policy.EpisodeBatch` has them; `rows` int64 `(A,)` says which answer an action belongs to.
Losses of policy gradients are per token, `aggregate` makes one number of them, and the three ways
of doing so are three different weightings of long against short answers. Losses on pairs of
answers, of which one was preferred, are per pair.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch.nn.functional import logsigmoid

from llm_gym.files.ranges import check_choice, check_numbers
from llm_gym.learning.kl import kl_estimate

AGGREGATIONS = ("token_mean", "sequence_mean", "constant")
PAIR_LOSSES = ("sigmoid", "ipo")


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


def clipped_answer_loss(
    log_prob: torch.Tensor,
    old_log_prob: torch.Tensor,
    advantages: torch.Tensor,
    rows: torch.Tensor,
    clip_low: float,
    clip_high: float,
) -> torch.Tensor:
    """`-min(rho A, clip(rho, 1 - low, 1 + high) A)` with `rho = pi(y|x) / pi_old(y|x)`.

    One action is one answer (Ahmadian et al., 2024, arXiv 2402.14740, section 3), so `rho` is the
    product of its tokens' ratios, and beyond the clip all of them stop learning together. TRL's
    RLOO has this loss. GSPO (Zheng et al., 2025, arXiv 2507.18071, eq. 7) takes the root of as many
    tokens instead.

    Each answer's loss is spread evenly over its tokens, so that
    `aggregate` weighs answers as it does elsewhere: at `rho = 1`
    the gradient is the plain policy gradient's, whatever the aggregation.

    Args:
        log_prob: float `(A,)`, under the present weights.
        old_log_prob: float `(A,)`, of the policy that sampled.
        advantages: float `(A,)`, constants, the same for all tokens of an answer.
        rows: int64 `(A,)`, the answer of each token, numbered from 0 without gaps and in order.
        clip_low: How far the ratio may fall below 1.
        clip_high: How far it may rise above 1.

    Returns:
        float `(A,)`; the sum over an answer's tokens is its loss.
    """
    lengths = rows.bincount()  # (B,)
    firsts = lengths.cumsum(0) - lengths
    # Differences before sums: two sums over a long answer are large, and would round their ratio.
    log_ratio = answer_sums(log_prob - old_log_prob, rows)
    of_answers = clipped_surrogate_loss(
        log_ratio, torch.zeros_like(log_ratio), advantages[firsts], clip_low, clip_high
    )
    return (of_answers / lengths)[rows]


def ratio_figures(log_ratio: torch.Tensor, clip_low: float, clip_high: float) -> dict[str, float]:
    """What is logged of a minibatch's ratios.

    Args:
        log_ratio: float, `(A,)` of tokens or `(B,)` of answers, in nats.
        clip_low: How far the ratio may fall below 1.
        clip_high: How far it may rise above 1.
    """
    ratio = log_ratio.exp()
    clipped = (ratio < 1 - clip_low) | (ratio > 1 + clip_high)
    return {
        "ratio_deviation": float((ratio - 1).abs().max()),
        "approx_kl": float((ratio - 1 - log_ratio).mean()),
        "clip_fraction": float(clipped.float().mean()),
    }


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


def answer_sums(per_token: torch.Tensor, rows: torch.Tensor) -> torch.Tensor:
    """Sums over the tokens of each answer.

    Args:
        per_token: float `(A,)`.
        rows: int64 `(A,)`, numbered from 0 without gaps.

    Returns:
        float `(B,)`.
    """
    return per_token.new_zeros(len(rows.bincount())).index_add(0, rows, per_token)


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


# ------------------------------------------------------------------ pairs of answers


class PairLoss(NamedTuple):
    """Losses and implicit rewards of B pairs.

    Attributes:
        losses: float `(B,)`, with gradients.
        chosen_rewards: float `(B,)`, `beta * (log pi - log pi_ref)` of the preferred answers,
            without gradients. An answer's reward is this up to a constant of its prompt.
        rejected_rewards: The same of the others.
    """

    losses: torch.Tensor
    chosen_rewards: torch.Tensor
    rejected_rewards: torch.Tensor


def check_loss_settings(beta: float, label_smoothing: float, loss: str) -> None:
    """Raises `ValueError` for a setting of `dpo_loss` that is out of range, by name."""
    check_numbers(beta=beta, label_smoothing=label_smoothing)
    check_choice("loss", loss, PAIR_LOSSES)


def dpo_loss(
    chosen: torch.Tensor,
    rejected: torch.Tensor,
    reference_chosen: torch.Tensor,
    reference_rejected: torch.Tensor,
    *,
    beta: float = 0.1,
    label_smoothing: float | torch.Tensor = 0.0,
    loss: str = "sigmoid",
) -> PairLoss:
    """Direct preference optimisation.

    With `h = (log pi(y_w) - log pi_ref(y_w)) - (log pi(y_l) - log pi_ref(y_l))`:

    - `"sigmoid"`: `-log sigmoid(beta * h)` (Rafailov et al., 2305.18290, equation 7), the
      likelihood of the preference under Bradley and Terry's model with reward
      `beta * log(pi / pi_ref)`. With exact preferences of that kind for a reward r the optimum is
      `pi_ref * exp(r / beta) / Z`, that of reinforcement learning with the same penalty.
    - `"ipo"`: `(h - 1 / (2 * beta))^2` (Azar et al., 2310.12036, equation 17, whose tau is
      beta), which stays bounded where preferences are certain. Log-probabilities are sums over an
      answer's tokens as in the paper; TRL takes their means.

    Args:
        chosen: float `(B,)`, log-probabilities of whole preferred answers, in nats.
        rejected: float `(B,)`, of the others.
        reference_chosen: float `(B,)`, the same under the reference.
        reference_rejected: float `(B,)`.
        beta: Price of a nat of divergence from the reference, in units of reward.
        label_smoothing: Probability that the label is wrong, one or `(B,)`: the loss is its
            expectation (cDPO, Mitchell, 2023, "A note on DPO with noisy preferences"). A known
            probability of preference p goes in as `1 - p`.
        loss: `"sigmoid"` or `"ipo"`.

    Returns:
        Losses and implicit rewards.
    """
    chosen_ratio = chosen - reference_chosen
    rejected_ratio = rejected - reference_rejected
    h = chosen_ratio - rejected_ratio  # (B,)
    if loss == "sigmoid":
        right, wrong = -logsigmoid(beta * h), -logsigmoid(-beta * h)
    elif loss == "ipo":
        target = 1 / (2 * beta)
        right, wrong = (h - target) ** 2, (-h - target) ** 2
    else:
        raise ValueError(f"loss={loss!r} must be one of {', '.join(PAIR_LOSSES)}")
    losses = (1 - label_smoothing) * right + label_smoothing * wrong
    return PairLoss(losses, (beta * chosen_ratio).detach(), (beta * rejected_ratio).detach())
