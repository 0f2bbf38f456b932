"""OPO: the baseline that weighs rewards by length, against the one with the least variance."""

import torch

from benchmarks.claims.claim import Claim, Figure, figure_of
from benchmarks.claims.court import Court
from benchmarks.claims.world import paying_world
from benchmarks.common import mean_with_interval

SOURCE = "2505.23585"


def measure(seed: int) -> dict[str, float]:
    """A trial: variance of the gradient with each baseline, over the least there is."""
    world = paying_world(seed)
    p = world.probabilities(world.reference)  # (P, Y)
    squares = (world.token_scores(world.reference).sum(2) ** 2).sum(-1)  # (P, Y)

    def weighted(weights: torch.Tensor) -> torch.Tensor:
        return (p * weights * world.rewards).sum(-1, keepdim=True) / (p * weights).sum(
            -1, keepdim=True
        )

    baselines = {
        "best": weighted(squares),
        "length": weighted(world.lengths.double().expand_as(p)),
        "mean": weighted(torch.ones_like(p)),
        "none": torch.zeros(len(p), 1),
    }
    gradient = (world.gradient(world.reference) * world.n_prompts).square().sum()
    variance = {
        name: float((p * squares * (world.rewards - b) ** 2).sum() - gradient)
        for name, b in baselines.items()
    }
    return {name: value / variance["best"] for name, value in variance.items()}


def against(court: Court, other: str) -> Figure:
    """Variance with the length-weighted baseline, over that with another one, over problems."""
    found = court.each(measure, [{"seed": seed} for seed in range(court.pick(200, 5))])
    means = {
        name: sum(one[name] for one in found) / len(found) for name in ("length", "mean", "none")
    }
    told = ", ".join(f"{name} {value:.4f}" for name, value in means.items())
    ratios = mean_with_interval([one["length"] / one[other] for one in found])
    return figure_of(ratios, f"over the least there is: {told}")


CLAIMS = [
    Claim(
        "opo: least variance",
        "the length-weighted baseline is practically the one with the least variance",
        SOURCE,
        "variance of the gradient, over that with the exact optimal baseline",
        lambda court: against(court, "best"),
        at_most=1.01,
    ),
    Claim(
        "opo: mean",
        "it has less variance than the mean reward",
        SOURCE,
        "variance of the gradient, over that with the exact mean as the baseline",
        lambda court: against(court, "mean"),
        at_most=1.0,
    ),
]
