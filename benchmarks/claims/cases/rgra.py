"""RGRA: GRPO's advantage with neither ratio nor clip; and what negative advantages are for."""

import numpy as np

from benchmarks.claims.claim import Claim, Figure, figure_of
from benchmarks.claims.court import Court
from benchmarks.claims.losses import Floats, Groups, Loss, clipped
from benchmarks.claims.standing import gain, learnt, recipe_of
from benchmarks.common import mean_with_interval
from llm_gym.learning.advantages import grpo

SOURCE = "2603.18756"


def positive(scores: Floats, groups: Groups) -> Floats:
    """GRPO's advantages, nothing where they are below 0."""
    return np.maximum(grpo(scores, groups), 0.0)


RGRA = Loss("RGRA", SOURCE, advantage=grpo, aggregation="sequence_mean")
GRPO = Loss("GRPO", "2402.03300", clipped, grpo, "sequence_mean")
POSITIVE = Loss("RGRA, positive", SOURCE, advantage=positive, aggregation="sequence_mean")


def difference(court: Court, ours: Loss, theirs: Loss, epochs: int) -> Figure:
    """J/J* of one less that of another."""
    recipe = recipe_of(court, epochs=epochs)
    one, other = learnt(court, ours, recipe), learnt(court, theirs, recipe)
    means = [np.mean([run["j_over_jstar"] for run in runs]) for runs in (one, other)]
    told = mean_with_interval(gain(one, other, "j_over_jstar"))
    return figure_of(told, f"{means[0]:.3f} and {means[1]:.3f}")


LOSSES = [RGRA]
CLAIMS = [
    Claim(
        "rgra: clip",
        "GRPO's clip and ratio are not needed",
        SOURCE,
        "J/J* after 12,800 answers, four steps on each batch, less GRPO's, both tuned alike",
        lambda court: difference(court, RGRA, GRPO, 4),
        at_least=-0.01,
    ),
    Claim(
        "rgra: negative feedback",
        "answers that are worse than the mean are needed",
        SOURCE,
        "J/J* after 12,800 answers with advantages above 0 alone, less that with all, both "
        "tuned alike",
        lambda court: difference(court, POSITIVE, RGRA, 1),
        at_most=-0.01,
    ),
]
