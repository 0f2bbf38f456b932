"""The KL-regularised optimum and other exact quantities, by recursion over the prefix tree.

For `J(pi) = E[r] - beta KL(pi || pi_ref)` (per prompt) the optimum is
`pi*(y) = pi_ref(y) exp(r(y) / beta) / Z` with `J* = beta log Z` (Ziegler et al., 1909.08593;
Korbak et al., 2205.11275). Token by token it is the soft Bellman equation
`V*(s) = beta log sum_a pi_ref(a|s) exp(Q*(s, a) / beta)`, where `Q*(s, a)` is `V*` of what
follows, or the reward of a finished answer. Everything is float64; all functions are pure.
"""

from __future__ import annotations

from typing import NamedTuple

import torch

from llm_gym_known_optimum.tree import AnswerTree, Layers

__all__ = ["Optimum", "kl_by_prefix", "policy_values", "sequence_kl", "soft_optimum"]


class Optimum(NamedTuple):
    """The optimal policy and its values, layer by layer.

    Attributes:
        log_probs: Log probs of the optimal policy's actions, `T` tensors `(P, V^d, A)`.
        values: `V*`, `T + 1` tensors `(P, V^d)`; the last are rewards. The first is
            `beta log Z`, the optimal `J` of each prompt.
        action_values: `Q*`, `T` tensors `(P, V^d, A)`.
    """

    log_probs: Layers
    values: Layers
    action_values: Layers


def soft_optimum(
    tree: AnswerTree, reference: Layers, rewards: torch.Tensor, beta: float
) -> Optimum:
    """Solves the soft Bellman equation from the last word to the first.

    Args:
        tree: The answers.
        reference: Log-probabilities of the reference model's actions.
        rewards: float64 `(P, Y)`.
        beta: Price of a nat of divergence, > 0.
    """
    ended = tree.split(rewards)
    assert ended[-1] is not None
    values, policy, action_values = [ended[-1]], list[torch.Tensor](), list[torch.Tensor]()
    for depth in reversed(range(tree.length)):
        ahead = tree.action_values(values[0], ended[depth])  # (P, V^d, A)
        value = beta * (reference[depth] + ahead / beta).logsumexp(-1)  # (P, V^d)
        policy.insert(0, reference[depth] + (ahead - value[..., None]) / beta)
        action_values.insert(0, ahead)
        values.insert(0, value)
    return Optimum(tuple(policy), tuple(values), tuple(action_values))


def policy_values(
    tree: AnswerTree, policy: Layers, reference: Layers, rewards: torch.Tensor, beta: float
) -> tuple[Layers, Layers]:
    """Values of any policy under the same objective: what a perfect critic would say.

    `V(s) = sum_a pi(a|s) (Q(s, a) - beta log(pi(a|s) / pi_ref(a|s)))`, so that the penalty of an
    action is part of the value of the prefix it is chosen after.

    Args:
        tree: The answers.
        policy: Log-probabilities of its actions.
        reference: Those of the reference model.
        rewards: float64 `(P, Y)`.
        beta: Price of a nat of divergence.

    Returns:
        `V`, `T + 1` tensors `(P, V^d)`, and `Q` before the action's own penalty, `T`
        tensors `(P, V^d, A)`.
    """
    ended = tree.split(rewards)
    assert ended[-1] is not None
    values, action_values = [ended[-1]], list[torch.Tensor]()
    for depth in reversed(range(tree.length)):
        ahead = tree.action_values(values[0], ended[depth])
        log_ratio = _log_ratio(policy[depth], reference[depth])
        values.insert(0, (policy[depth].exp() * (ahead - beta * log_ratio)).sum(-1))
        action_values.insert(0, ahead)
    return tuple(values), tuple(action_values)


def kl_by_prefix(policy: Layers, other: Layers) -> Layers:
    """KL(policy || other) of the next action after each prefix, in nats, `T` of `(P, V^d)`."""
    return tuple(
        (ours.exp() * _log_ratio(ours, theirs)).sum(-1)
        for ours, theirs in zip(policy, other, strict=True)
    )


def sequence_kl(tree: AnswerTree, policy: Layers, other: Layers) -> torch.Tensor:
    """KL(policy || other) of whole answers, in nats, `(P,)`, differentiable.

    By the chain rule: the divergences after each prefix, weighted by how often it is reached. Each
    is the sum of non-negative terms, where the sum over answers would cancel.

    Args:
        tree: The answers.
        policy: Log-probabilities of its actions.
        other: Those of the distribution it is compared with.
    """
    reached = tree.prefix_log_probs(policy)
    return torch.stack(
        [
            (prefix.exp() * kl).sum(1)
            for prefix, kl in zip(reached, kl_by_prefix(policy, other), strict=False)
        ]
    ).sum(0)


def _log_ratio(ours: torch.Tensor, theirs: torch.Tensor) -> torch.Tensor:
    """Zero where the policy never goes (top-k or top-p cut it): nothing is weighted by it there."""
    return (ours - theirs).masked_fill(ours.isneginf(), 0.0)
