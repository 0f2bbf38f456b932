"""SPO: a value that is kept for each prompt, instead of a group."""

from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from benchmarks.claims.claim import Claim, Figure, figure_of
from benchmarks.claims.court import Court
from benchmarks.claims.losses import Floats, Groups, Loss, clipped
from benchmarks.claims.standing import gain, learnt, measure_learning, recipe_of
from benchmarks.claims.training import PRICES, RATES, TUNING_SEED, Recipe
from benchmarks.common import mean_with_interval
from llm_gym.learning.advantages import grpo

SOURCE = "2509.13232"
MEMORY = 0.96
"""Share of what was seen that the tracker keeps from one answer to the next."""


@dataclass
class Tracker:
    """A beta distribution of each prompt's pass rate that forgets; whitens over the batch.

    The paper forgets faster where the policy has moved further; here always alike.

    Attributes:
        right: Right answers to each prompt, discounted; starts with half an answer of each kind.
        wrong: Wrong ones.
    """

    right: dict[int, float] = field(default_factory=dict)
    wrong: dict[int, float] = field(default_factory=dict)

    def __call__(self, scores: Floats, groups: Groups) -> Floats:
        """Scores less what was expected before they were seen, whitened."""
        seen = list(zip(groups.tolist(), scores.tolist(), strict=True))
        expected = np.array([self.value(prompt) for prompt, _ in seen])
        for prompt, score in seen:
            self.right[prompt] = MEMORY * self.right.get(prompt, 0.5) + score
            self.wrong[prompt] = MEMORY * self.wrong.get(prompt, 0.5) + 1 - score
        advantages = scores - expected
        return (advantages - advantages.mean()) / (advantages.std() + 1e-8)

    def value(self, prompt: int) -> float:
        """The pass rate that is expected."""
        right, wrong = self.right.get(prompt, 0.5), self.wrong.get(prompt, 0.5)
        return right / (right + wrong)


GRPO = Loss("GRPO", "2402.03300", clipped, grpo, "sequence_mean")
SPO = Loss("SPO", SOURCE, clipped, grpo, "token_mean")
"""Its advantage is a tracker of each run's own; a batch has as many answers as GRPO's."""


def single_stream(recipe: Recipe, seed: int) -> dict[str, Any]:
    """A trial: a run of SPO, whose answers know nothing of the others in the batch."""
    return measure_learning(replace(SPO, advantage=Tracker()), recipe, seed)


def tuned(court: Court, recipe: Recipe) -> list[dict[str, Any]]:
    """Ends of SPO's runs, with the rate and price that were best elsewhere."""
    means = {}
    for rate, price in court.pick([(r, p) for r in RATES for p in PRICES], [(0.1, 0.5)]):
        tried = replace(recipe, rate=rate, price=price)
        settings = [
            {"recipe": tried, "seed": TUNING_SEED + problem} for problem in range(court.pick(2, 1))
        ]
        runs = court.each(single_stream, settings)
        means[tried] = np.mean([run["j_over_jstar"] for run in runs])
    best = max(means, key=lambda one: means[one])
    seeds = range(court.pick(12, 3))
    return court.each(single_stream, [{"recipe": best, "seed": seed} for seed in seeds])


def better(court: Court) -> Figure:
    """J/J* less GRPO's, at equal answers."""
    recipe = recipe_of(court)
    theirs = learnt(court, GRPO, recipe)
    ours = tuned(court, recipe)
    means = [np.mean([run["j_over_jstar"] for run in runs]) for runs in (ours, theirs)]
    told = mean_with_interval(gain(ours, theirs, "j_over_jstar"))
    return figure_of(told, f"{means[0]:.3f} and {means[1]:.3f}")


CLAIMS = [
    Claim(
        "spo: learning",
        "a value kept for each prompt is better than groups",
        SOURCE,
        "J/J* after 12,800 answers less GRPO's, both tuned alike; batches of 64",
        better,
        at_least=0.0,
    )
]
