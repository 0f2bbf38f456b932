"""Entropy: what drives it, and whether reward is traded for it by one law."""

import numpy as np
import torch

from benchmarks.claims.claim import Claim, Figure, exact, figure_of
from benchmarks.claims.court import Court
from benchmarks.claims.exact import outcome_advantages
from benchmarks.claims.losses import Loss, clipped
from benchmarks.claims.standing import measure_learning, recipe_of
from benchmarks.claims.world import paying_world
from benchmarks.common import mean_with_interval
from llm_gym.learning.advantages import grpo

SOURCE = "2505.22617"
STEP = 1e-5


def covariance(court: Court) -> Figure:
    """Change of the entropy of answers by a small step, over minus a covariance, furthest from 1.

    An answer is one action here, of a softmax over all answers; its logit goes up by the step times
    its probability times its advantage.
    """
    ratios = []
    for seed in range(10):
        world = paying_world(seed)
        p = world.probabilities(world.reference)  # (P, Y)
        pull = p * outcome_advantages(world, world.reference)
        changed = (p.log() + STEP * pull).softmax(-1)
        change = entropy_of(changed) - entropy_of(p)
        log_p = p.log()
        mean = lambda values, p=p: (p * values).sum(-1)  # noqa: E731
        along = mean(log_p * pull) - mean(log_p) * mean(pull)
        ratios += (change / (-STEP * along)).tolist()
    furthest = max(ratios, key=lambda ratio: abs(ratio - 1))
    return exact(abs(furthest - 1))


def entropy_of(p: torch.Tensor) -> torch.Tensor:
    """Nats, `(P,)`."""
    return -(p * p.log()).sum(-1)


def law(court: Court) -> Figure:
    """R^2 of `R = -a exp(H) + b`, over runs."""
    loss = Loss("GRPO", "2402.03300", clipped, grpo, "sequence_mean")
    recipe = recipe_of(court, price=0.0, rate=0.1, evaluations=40)
    runs = court.each(
        measure_learning,
        [{"loss": loss, "recipe": recipe, "seed": seed} for seed in range(court.pick(12, 3))],
    )
    fits = [fit(run["curve"]) for run in runs]
    falls = [run["curve"][0]["entropy"] - run["curve"][-1]["entropy"] for run in runs]
    ends = np.mean([run["reward"] for run in runs])
    note = f"entropy fell by {np.mean(falls):.2f} nats a token, to a reward of {ends:.2f}"
    return figure_of(mean_with_interval(fits), note)


def fit(curve: list[dict[str, float]]) -> float:
    """R^2 by least squares."""
    x = np.exp([point["entropy"] for point in curve])
    y = np.array([point["reward"] for point in curve])
    left = y - np.polyval(np.polyfit(x, y, 1), x)
    return float(1 - left.var() / y.var())


CLAIMS = [
    Claim(
        "entropy: covariance",
        "entropy changes by minus the covariance of log-probability and pull on the logit",
        SOURCE,
        f"largest relative error of that, ten problems, steps of {STEP:g}",
        covariance,
        at_most=1e-3,
    ),
    Claim(
        "entropy: law",
        "reward is traded for entropy: R = -a exp(H) + b",
        SOURCE,
        "R^2 of the law over a run of GRPO without a penalty",
        law,
        at_least=0.9,
    ),
]
