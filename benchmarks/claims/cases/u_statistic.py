"""GRPO's gradient as a U-statistic: how far from an oracle's, and which group size is best."""

import torch

from benchmarks.claims.claim import Claim, Figure, figure_of
from benchmarks.claims.court import Court
from benchmarks.claims.exact import outcome_advantages
from benchmarks.claims.world import World, paying_world
from benchmarks.common import mean_with_interval

SOURCE = "2603.01162"
PATH = (0.0, 0.05, 0.1, 0.2)
"""How far from the reference to the optimum, in logits."""


def variances(world: World, logits: torch.Tensor) -> tuple[float, float, float]:
    """What the variance of a group's mean gradient (RLOO's) is made of, by Hoeffding.

    With scores `S`, rewards `r` and their mean V the kernel is `(S_i - S_j)(r_i - r_j) / 2`. Its
    projection on one answer is half the oracle's `S (r - V)`, up to a constant.

    Returns:
        The oracle's variance of one answer, that of the kernel, and that of gradients between
        prompts: traces, means over prompts.
    """
    p = world.probabilities(logits)  # (P, Y)
    scores = world.token_scores(logits).sum(2)  # (P, Y, D)
    advantages = outcome_advantages(world, logits)
    gradients = torch.einsum("py,pyd->pd", p * advantages, scores)
    length, squares = (gradients**2).sum(-1), (scores**2).sum(-1)  # (P,), (P, Y)
    oracle = (p * advantages**2 * squares).sum(-1) - length
    # Var h = (E |S|^2 (r - V)^2 + E |S|^2 E (r - V)^2) / 2, because E S = 0.
    apart = (p * squares).sum(-1) * (p * advantages**2).sum(-1)
    kernel = (oracle + length + apart) / 2
    between = (gradients**2).sum() / len(p) - (gradients**2).sum() / len(p) ** 2
    return float(oracle.mean()), float(kernel.mean()), float(between)


def of_group(oracle: float, kernel: float, size: int) -> float:
    """Variance of the mean gradient of a group, `G` times: an oracle's is that of one answer."""
    return oracle * (size - 2) / (size - 1) + 2 * kernel / (size - 1)


def measure(seed: int) -> dict[str, list[list[float]]]:
    """A trial: the variances along the way from the reference to the optimum."""
    world = paying_world(seed)
    return {"path": [list(variances(world, world.towards_optimum(share))) for share in PATH]}


def near_the_oracle(court: Court) -> Figure:
    """Variance of groups of 16 over an oracle's, over problems."""
    found = court.each(measure, [{"seed": seed} for seed in range(court.pick(200, 4))])
    ratios = {
        size: [of_group(*one["path"][0][:2], size) / one["path"][0][0] for one in found]
        for size in (2, 4, 8, 16, 64)
    }
    told = ", ".join(f"{sum(of) / len(of):.3f} of {size}" for size, of in ratios.items())
    return figure_of(mean_with_interval(ratios[16]), f"groups: {told}")


def best_size(oracle: float, kernel: float, between: float) -> float:
    """The group size, not rounded, with the least error of a mean over prompts at equal answers."""
    return 1 + max(0.0, (2 * kernel - oracle) / between) ** 0.5


def one_size(court: Court) -> Figure:
    """The largest best group size on the way, over the smallest, over problems."""
    found = court.each(measure, [{"seed": seed} for seed in range(court.pick(200, 4))])
    sizes = [[best_size(*place) for place in one["path"]] for one in found]
    means = [sum(column) / len(column) for column in zip(*sizes, strict=True)]
    told = ", ".join(f"{size:.1f}" for size in means)
    return figure_of(
        mean_with_interval([max(row) / min(row) for row in sizes]),
        f"best sizes at {', '.join(f'{share:g}' for share in PATH)} of the way: {told}",
    )


CLAIMS = [
    Claim(
        "u-statistic: oracle",
        "the gradient of groups is asymptotically that of an oracle who knows the value",
        SOURCE,
        "variance of a group's gradient, over that with the exact value as the baseline, "
        "groups of 16",
        near_the_oracle,
        at_most=1.1,
    ),
    Claim(
        "u-statistic: size",
        "the best group size is universal: the same for every budget and iteration",
        SOURCE,
        "largest over smallest best size at equal answers, on the way to the optimum (every "
        "budget has "
        "the same)",
        one_size,
        at_most=2.0,
    ),
]
