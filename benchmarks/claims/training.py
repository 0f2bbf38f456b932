"""A tabular policy learns with a loss, and is watched exactly: a run takes a second."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from benchmarks.claims.losses import Loss, draw, loss_of
from benchmarks.claims.world import World, paying_world

TUNING_SEED = 1000
"""Problems that rates are chosen on are none of those that are reported."""

RATES, PRICES = (0.03, 0.1, 0.3), (0.25, 0.5, 1.0, 2.0)
"""Learning rates and prices of a nat that are tried for every loss alike.

An advantage that is divided by a deviation weighs against a penalty differently.
"""

PASS_RATES = (0.005, 0.02, 0.1, 0.4)
"""How often an answer pays before training, for each prompt that is trained on."""


@dataclass(frozen=True)
class Recipe:
    """How a policy learns.

    Args:
        steps: Rollouts, each with one group for every prompt.
        rate: Learning rate of Adam, which falls to zero.
        epochs: Steps of the optimizer on each rollout.
        price: How many times the problem's price a nat of divergence from the reference costs.
            The penalty is exact, so that noise and bias are those of the loss.
        pass_rates: How often an answer pays before training, one a prompt.
        evaluations: Times the policy is evaluated, the last at the end.
    """

    steps: int = 200
    rate: float = 0.1
    epochs: int = 1
    price: float = 1.0
    pass_rates: tuple[float, ...] = PASS_RATES
    evaluations: int = 1


def training_world(seed: int, pass_rates: Sequence[float] = PASS_RATES) -> World:
    """What is learnt: 121 answers of up to four words to each prompt, ragged."""
    return paying_world(seed, pass_rates, words=3, length=4)


def learn(world: World, loss: Loss, recipe: Recipe, seed: int) -> list[dict[str, Any]]:
    """Trains from the reference.

    Args:
        world: What is learnt.
        loss: The loss.
        recipe: How.
        seed: Seed of what is sampled.

    Returns:
        Evaluations: `step`, `reward` (expected, a mean over prompts), `rates` (of each prompt),
        `entropy` (nats a token) and `kl` (nats an answer, from the reference).
    """
    generator = torch.Generator().manual_seed(seed)
    logits = world.reference.clone().requires_grad_()
    optimizer = torch.optim.Adam([logits], lr=recipe.rate)
    every, noted = max(1, recipe.steps // recipe.evaluations), list[dict[str, Any]]()
    for step in range(recipe.steps):
        with torch.no_grad():
            old = world.token_log_probs(logits)
        sample = draw(world, logits, loss.group_size, generator)
        prompts, answers, _ = sample
        scores = world.rewards[prompts, answers].numpy()
        for group in optimizer.param_groups:
            group["lr"] = recipe.rate * (1 - step / recipe.steps)
        for _ in range(recipe.epochs):
            optimizer.zero_grad()
            value = loss_of(loss, world, logits, old, sample, scores)
            penalty = recipe.price * world.problem.beta * world.kl(logits, world.reference).mean()
            (value + penalty).backward()  # type: ignore[no-untyped-call]
            optimizer.step()
        if (recipe.steps - 1 - step) % every == 0:
            noted.append({"step": step + 1, **evaluate(world, logits)})
    return noted


@torch.no_grad()
def evaluate(world: World, logits: torch.Tensor) -> dict[str, Any]:
    """What `learn` notes of a policy."""
    rates = world.pass_rates(logits)
    kl, best = float(world.kl(logits, world.reference).mean()), world.problem.optimal_objective
    return {
        "j_over_jstar": (float(rates.mean()) - world.problem.beta * kl) / best,
        "reward": float(rates.mean()),
        "rates": rates.tolist(),
        "entropy": float(world.entropy(logits)),
        "kl": kl,
    }


def pass_at(rates: Sequence[float], k: int) -> float:
    """Probability that one of k answers pays, a mean over prompts."""
    return float(np.mean(1 - (1 - np.asarray(rates)) ** k))
