"""DAPO: a higher upper clip, and a mean over tokens."""

from functools import partial
from itertools import pairwise

from benchmarks.claims.claim import Claim, Figure, figure_of
from benchmarks.claims.court import Court
from benchmarks.claims.losses import Loss, clipped
from benchmarks.claims.standing import gain, measure_learning, recipe_of
from benchmarks.common import mean_with_interval
from llm_gym.learning.advantages import grpo

SOURCE = "2503.14476"
DAPO = Loss("DAPO", SOURCE, partial(clipped, high=0.28), grpo, "token_mean")
EQUAL = Loss("DAPO, clip 0.2", SOURCE, clipped, grpo, "token_mean")


def entropy(court: Court) -> Figure:
    """Entropy with a higher upper clip less that without, where both have the same reward."""
    recipe = recipe_of(court, epochs=4, price=0.0, rate=0.03, evaluations=20)
    ours, theirs = (
        court.each(
            measure_learning,
            [{"loss": loss, "recipe": recipe, "seed": seed} for seed in range(court.pick(12, 3))],
        )
        for loss in (DAPO, EQUAL)
    )
    level = court.pick(0.7, 0.15)
    both = [{"entropy": entropy_at(run["curve"], level)} for run in [*ours, *theirs]]
    told = mean_with_interval(gain(both[: len(ours)], both[len(ours) :], "entropy"))
    rewards = [sum(run["reward"] for run in runs) / len(runs) for runs in (ours, theirs)]
    return figure_of(told, f"rewards in the end {rewards[0]:.3f} and {rewards[1]:.3f}")


def entropy_at(curve: list[dict[str, float]], level: float) -> float:
    """Entropy where the reward comes to a level, between two evaluations; in the end, if never."""
    for before, after in pairwise(curve):
        if before["reward"] < level <= after["reward"]:
            share = (level - before["reward"]) / (after["reward"] - before["reward"])
            return before["entropy"] + share * (after["entropy"] - before["entropy"])
    return curve[-1]["entropy"]


LOSSES = [DAPO]
CLAIMS = [
    Claim(
        "dapo: clip-higher",
        "a higher upper clip keeps entropy",
        f"{SOURCE}, section 3.1",
        "nats a token with 0.28 less those with 0.2, where the expected reward passes 0.7, "
        "four steps on "
        "each batch",
        entropy,
        at_least=0.0,
    )
]
