"""What every loss is judged by, whoever wrote it: the direction of its gradient.

Where answers are drawn from the policy itself, the expected gradient should be a multiple of that
of what the loss claims to maximise. Beside that verdict stand three figures without one: the same
after the policy has moved on, the noise, and what a policy learns with it.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
from llm_gym_known_optimum import estimator_figures

from benchmarks.claims.claim import Claim, Figure, figure_of
from benchmarks.claims.court import Court, cosine, gradient_samples
from benchmarks.claims.exact import after_a_step
from benchmarks.claims.losses import Loss
from benchmarks.claims.training import PRICES, RATES, TUNING_SEED, Recipe, learn, training_world
from benchmarks.claims.world import paying_world
from benchmarks.common import mean_with_interval

STRAIGHT = 0.99
"""Cosine from which on an estimator is said to have the direction of a gradient."""

STALE = 0.05
"""Nats of an answer between the policy that sampled and the one that learns."""

SEEDS = 12
"""Problems that are learnt, each with its own samples."""


def standing_claim(loss: Loss) -> Claim:
    """The claim that every loss makes."""
    return Claim(
        name=f"direction: {loss.name}",
        says=f"{loss.name} follows the gradient of the expected reward"
        + (", of its logarithm" if loss.objective == "log_reward" else ""),
        source=loss.source,
        test="cosine between its expected gradient and the exact one, on fresh samples",
        measure=lambda court: direction(court, loss),
        at_least=STRAIGHT,
    )


def direction(court: Court, loss: Loss, nats: float = 0.0) -> Figure:
    """Cosine between the expected gradient and the exact one, a mean over three problems.

    Args:
        court: The court.
        loss: The loss.
        nats: How far the policy has moved from the one that sampled.
    """
    batches = court.pick(2000, 60)
    found = court.each(
        measure_direction,
        [
            {"loss": loss, "seed": seed, "batches": batches, "nats": nats}
            for seed in range(court.pick(3, 1))
        ],
    )
    ends = np.mean([[one["cosine"], one["low"], one["high"]] for one in found], axis=0)
    return Figure(*ends.tolist(), note=f"scale {np.mean([one['scale'] for one in found]):.2g}")


def measure_direction(loss: Loss, seed: int, batches: int, nats: float) -> dict[str, Any]:
    """A trial: see `direction`."""
    world = paying_world(seed)
    sampler = world.reference
    logits = after_a_step(world, nats, seed + 1) if nats else sampler
    samples, exact = gradient_samples(world, loss, logits, sampler, batches=batches, seed=seed)
    found, figures = cosine(samples, exact), estimator_figures(samples, exact)
    answers = world.n_prompts * loss.group_size
    return {
        "cosine": found.value,
        "low": found.low,
        "high": found.high,
        "scale": figures.scale,
        "noise": figures.noise * answers,
    }


def learnt(court: Court, loss: Loss, recipe: Recipe) -> list[dict[str, Any]]:
    """Ends of runs with the rate and the price that were best on problems of their own.

    Args:
        court: The court.
        loss: The loss.
        recipe: How; its rate and its price do not count.

    Returns:
        What `training.evaluate` says of each run's end, with `seed`, `rate`, `price` and `curve`.
    """
    pairs = court.pick([(rate, price) for rate in RATES for price in PRICES], [(0.1, 0.5)])
    means = []
    for rate, price in pairs:
        tried = replace(recipe, rate=rate, price=price, evaluations=1)
        problems = range(TUNING_SEED, TUNING_SEED + court.pick(2, 1))
        runs = court.each(
            measure_learning, [{"loss": loss, "recipe": tried, "seed": seed} for seed in problems]
        )
        means.append(float(np.mean([run["j_over_jstar"] for run in runs])))
    rate, price = pairs[int(np.argmax(means))]
    best = replace(recipe, rate=rate, price=price)
    seeds = range(court.pick(SEEDS, 3))
    return court.each(
        measure_learning, [{"loss": loss, "recipe": best, "seed": seed} for seed in seeds]
    )


def measure_learning(loss: Loss, recipe: Recipe, seed: int) -> dict[str, Any]:
    """A trial: a run's curve and its end."""
    curve = learn(training_world(seed, recipe.pass_rates), loss, recipe, seed)
    told = {"seed": seed, "rate": recipe.rate, "price": recipe.price}
    return {**curve[-1], **told, "curve": curve}


def recipe_of(court: Court, **changes: Any) -> Recipe:
    """How policies learn, unless a claim says otherwise."""
    return Recipe(steps=court.pick(200, 6), **changes)


def gain(ours: list[dict[str, Any]], theirs: list[dict[str, Any]], figure: str) -> list[float]:
    """Differences of a figure between runs on the same problems."""
    return [mine[figure] - other[figure] for mine, other in zip(ours, theirs, strict=True)]


def row_of(court: Court, loss: Loss) -> dict[str, Any]:
    """Of a loss, what the table of losses says beside the verdict."""
    batches, seeds = court.pick(2000, 60), range(court.pick(3, 1))
    fresh = [{"loss": loss, "seed": seed, "batches": batches, "nats": 0.0} for seed in seeds]
    ends = learnt(court, loss, recipe_of(court))
    return {
        "noise": float(np.mean([one["noise"] for one in court.each(measure_direction, fresh)])),
        "stale": direction(court, loss, STALE),
        "j_over_jstar": figure_of(mean_with_interval([end["j_over_jstar"] for end in ends])),
        "price": ends[0]["price"],
    }
