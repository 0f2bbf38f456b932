"""Importance ratios `pi / pi_old`: of each token, or one of a whole answer.

Shapes are those of `llm_gym.learning.losses`: `A` tokens of `B` answers, flat, answer
after answer; `rows` int64 `(A,)` says which answer a token belongs to.
"""

from __future__ import annotations

import torch

from llm_gym.learning.losses import clipped_surrogate_loss


def answer_sums(per_token: torch.Tensor, rows: torch.Tensor) -> torch.Tensor:
    """Sums over the tokens of each answer.

    Args:
        per_token: float `(A,)`.
        rows: int64 `(A,)`, numbered from 0 without gaps.

    Returns:
        float `(B,)`.
    """
    return per_token.new_zeros(len(rows.bincount())).index_add(0, rows, per_token)


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
    `llm_gym.learning.losses.aggregate` weighs answers as it does elsewhere: at `rho = 1`
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
