"""2-GRPO: do two answers do what sixteen do?"""

from dataclasses import replace

import numpy as np

from benchmarks.claims.claim import Claim, Figure, exact, figure_of
from benchmarks.claims.court import Court
from benchmarks.claims.exact import prompt_weight
from benchmarks.claims.losses import Loss, clipped
from benchmarks.claims.standing import learnt, recipe_of
from benchmarks.claims.world import paying_world
from benchmarks.common import mean_with_interval
from llm_gym.learning.advantages import grpo

SOURCE = "2510.00977"
GRPO = Loss("GRPO", "2402.03300", clipped, grpo, "sequence_mean")
TWO = replace(GRPO, name="2-GRPO", source=SOURCE, group_size=2)


def kept(court: Court, longer: int) -> Figure:
    """J/J* of groups of two over that of groups of sixteen.

    Args:
        court: The court.
        longer: How many times as many rollouts those of two get.
    """
    recipe = recipe_of(court)
    sixteen = learnt(court, GRPO, recipe)
    two = learnt(court, TWO, replace(recipe, steps=recipe.steps * longer))
    ratios = [a["j_over_jstar"] / b["j_over_jstar"] for a, b in zip(two, sixteen, strict=True)]
    rates = ", ".join(f"{rate:.2f}" for rate in np.mean([run["rates"] for run in two], axis=0))
    return figure_of(
        mean_with_interval(ratios),
        f"pass rates from 0.005, 0.02, 0.1, 0.4 to {rates}",
    )


def weighted(court: Court) -> Figure:
    """Cosine of groups of two with the exact gradient where all answers are equally long."""
    cosines = {size: [of_size(seed, size) for seed in range(10)] for size in (2, 16)}
    return exact(min(cosines[2]), f"groups of 16: {min(cosines[16]):.3f} at worst")


def of_size(seed: int, size: int) -> float:
    """Cosine between the gradient with each prompt's expected weight and the exact one."""
    world = paying_world(seed, ends_early=False)
    gradient = world.gradient(world.reference).flatten(1)  # (P, D)
    rates = world.pass_rates(world.reference).tolist()
    weights = np.array([prompt_weight(grpo, size, rate) for rate in rates])
    squares = (gradient**2).sum(1).numpy()
    return float(weights @ squares / np.sqrt(weights**2 @ squares * squares.sum()))


LOSSES = [TWO]
CLAIMS = [
    Claim(
        "2-grpo: an eighth",
        "two answers keep 97.6 % of what sixteen reach, with 12.5 % of the answers",
        f"{SOURCE}, abstract",
        "J/J* after 1,600 answers, over that of groups of 16 after 12,800, both tuned alike",
        lambda court: kept(court, 1),
        at_least=0.976,
    ),
    Claim(
        "2-grpo: as many",
        "two answers do what sixteen do, at equal answers",
        SOURCE,
        "J/J* after 12,800 answers, over that of groups of 16, both tuned alike",
        lambda court: kept(court, 8),
        at_least=0.976,
    ),
    Claim(
        "2-grpo: direction",
        "the gradient of groups of two is unbiased up to its scale",
        SOURCE,
        "least cosine with the exact gradient, ten problems, answers equally long",
        weighted,
        at_least=1 - 1e-6,
    ),
]
