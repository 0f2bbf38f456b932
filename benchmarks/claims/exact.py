"""Mean and variance of gradient estimators, by sums over all answers.

For estimators that add up one vector an answer: a baseline that is known, any weight of tokens. All
vectors are gradients in the prompt's own logits, `(P, Y, D)`.
"""

from __future__ import annotations

from collections.abc import Callable
from math import comb
from typing import NamedTuple

import numpy as np
import torch

from benchmarks.claims.losses import Floats, Groups, Tokens
from benchmarks.claims.world import World, moved


class Moments(NamedTuple):
    """An estimator of one answer to each prompt, against the exact gradient `g`.

    Attributes:
        cosine: Between its expectation and g, over all prompts.
        bias: `|expectation / scale - g|^2 / |g|^2`: bias that no learning rate can undo.
        noise: Trace of its covariance over the squared length of its expectation along g.
        scale: `<expectation, g> / |g|^2`.
    """

    cosine: float
    bias: float
    noise: float
    scale: float


def moments(vectors: torch.Tensor, probabilities: torch.Tensor, exact: torch.Tensor) -> Moments:
    """Compares an estimator with a gradient.

    Args:
        vectors: What each answer adds, `(P, Y, D)`.
        probabilities: How often each answer is drawn, `(P, Y)`.
        exact: The gradient of a sum over prompts, `(P, D)`.
    """
    mean = torch.einsum("py,pyd->pd", probabilities, vectors)
    square = (probabilities * (vectors**2).sum(-1)).sum()
    length = float((exact**2).sum())
    scale = float((mean * exact).sum()) / length
    whole = float((mean**2).sum())
    return Moments(
        cosine=scale * (length / whole) ** 0.5,
        bias=whole / (scale**2 * length) - 1,
        noise=(float(square) - whole) / (scale**2 * length),
        scale=scale,
    )


def answer_gradients(
    world: World,
    logits: torch.Tensor,
    sampler: torch.Tensor,
    surrogate: Callable[[Tokens], torch.Tensor],
    advantages: torch.Tensor,
) -> torch.Tensor:
    """Minus the gradient of each answer's loss, `(P, Y, D)`.

    Args:
        world: The answers.
        logits: The present policy.
        sampler: The policy that sampled.
        surrogate: A loss of tokens, see `benchmarks.claims.losses.Loss`.
        advantages: Those of answers, `(P, Y)`.
    """
    there = world.mask.expand(world.n_prompts, -1, -1)  # (P, Y, L)
    lengths = world.lengths.repeat(world.n_prompts)  # (P * Y,)
    log_prob = world.token_log_probs(logits.detach())[there].requires_grad_()
    tokens = Tokens(
        log_prob,
        world.token_log_probs(sampler.detach())[there],
        advantages.flatten().repeat_interleave(lengths),
        torch.arange(len(lengths)).repeat_interleave(lengths),
        lengths.repeat_interleave(lengths),
    )
    slopes = torch.autograd.grad(surrogate(tokens).sum(), log_prob)[0]
    weights = torch.zeros(there.shape, dtype=slopes.dtype).masked_scatter(there, -slopes)
    return torch.einsum("pyl,pyld->pyd", weights, world.token_scores(logits))


def outcome_advantages(world: World, logits: torch.Tensor) -> torch.Tensor:
    """Rewards less what is expected of the prompt, `(P, Y)`: what a perfect baseline says."""
    return world.rewards - world.pass_rates(logits.detach())[:, None]


def after_a_step(world: World, nats: float, seed: int) -> torch.Tensor:
    """A policy that moved on after the reference model had sampled: logits `(P, N, A)`.

    By a step of REINFORCE on 16 other answers to each prompt, as long as is asked for.

    Args:
        world: The answers.
        nats: KL(old || new) of an answer, mean over prompts.
        seed: Seed of the other answers.
    """
    generator = torch.Generator().manual_seed(seed)
    others = torch.multinomial(
        world.probabilities(world.reference), 16, replacement=True, generator=generator
    )  # (P, 16)
    scores = world.token_scores(world.reference).sum(2)  # (P, Y, D)
    worth = world.rewards.gather(1, others)
    chosen = scores.gather(1, others[..., None].expand(-1, -1, scores.shape[-1]))
    step = ((worth - worth.mean(1, keepdim=True))[..., None] * chosen).sum(1)
    return moved(world, world.reference, step.view_as(world.reference), nats)


def of_surrogate(
    world: World,
    logits: torch.Tensor,
    sampler: torch.Tensor,
    surrogate: Callable[[Tokens], torch.Tensor],
) -> Moments:
    """`moments` of a loss of tokens with a perfect baseline, against the expected reward."""
    vectors = answer_gradients(world, logits, sampler, surrogate, outcome_advantages(world, logits))
    exact = world.gradient(logits).flatten(1) * world.n_prompts
    return moments(vectors, world.probabilities(sampler).detach(), exact)


def expected_advantages(
    estimate: Callable[[Floats, Groups], Floats], group_size: int, rate: float
) -> tuple[Floats, Floats, Floats]:
    """Every outcome of a group whose scores are 0 or 1, by how many are 1.

    Args:
        estimate: Advantages of a group, see `benchmarks.claims.losses.Loss`.
        group_size: G.
        rate: Probability of a 1.

    Returns:
        Probabilities of 0 to G ones, and the advantage of a one and of a zero then, `(G + 1,)`
        each; 0 where there is none.
    """
    ones = np.arange(group_size + 1)
    probabilities = np.array([comb(group_size, int(k)) for k in ones]) * rate**ones
    probabilities *= (1 - rate) ** (group_size - ones)
    of_one, of_zero = np.zeros(group_size + 1), np.zeros(group_size + 1)
    for k in ones:
        scores = (np.arange(group_size) < k).astype(float)
        found = estimate(scores, np.zeros(group_size, dtype=np.int64))
        of_one[k], of_zero[k] = (found[0] if k else 0.0), (found[-1] if k < group_size else 0.0)
    return probabilities, of_one, of_zero


def prompt_weight(
    estimate: Callable[[Floats, Groups], Floats], group_size: int, rate: float
) -> float:
    """By what factor a prompt's expected gradient is that of its expected reward.

    With scores of 0 or 1 an answer's advantage depends on nothing else of it, so a group's expected
    gradient, `E[sum_i A_i grad log pi(y_i)] / G`, is a multiple of the gradient of the rate.
    """
    probabilities, of_one, of_zero = expected_advantages(estimate, group_size, rate)
    ones = np.arange(group_size + 1)
    # grad log pi of a 1 is on average the rate's gradient over the rate; of a 0, minus that over
    # the rest.
    each = ones * of_one / rate - (group_size - ones) * of_zero / (1 - rate)
    return float(probabilities @ each) / group_size
