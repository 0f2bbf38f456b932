"""MaxRL: the likelihood of a right answer instead of its expectation."""

import numpy as np

from benchmarks.claims.claim import Claim, Figure, exact, figure_of
from benchmarks.claims.court import Court
from benchmarks.claims.exact import prompt_weight
from benchmarks.claims.losses import Floats, Groups, Loss, clipped
from benchmarks.claims.standing import gain, learnt, recipe_of
from benchmarks.claims.training import pass_at
from benchmarks.common import mean_with_interval
from llm_gym.learning.advantages import dr_grpo, grpo

SOURCE = "2602.02710"


def maxrl(scores: Floats, groups: Groups) -> Floats:
    """Scores less their group's mean, over that mean; nothing where nothing is right."""
    means = scores - dr_grpo(scores, groups)
    return np.divide(scores - means, means, out=np.zeros_like(scores), where=means > 0)


MAXRL = Loss("MaxRL", SOURCE, advantage=maxrl, objective="log_reward")
GRPO = Loss("GRPO", "2402.03300", clipped, grpo, "sequence_mean")


def expansion(court: Court) -> Figure:
    """The largest relative error of `sum_{k <= N} grad pass@k / k`, over rates and group sizes.

    `grad pass@k = k (1 - p)^(k - 1) grad p`. What the mean of a group is subtracted for costs
    `k = N`: the estimator without it has all N terms.
    """
    errors = {"with the mean subtracted, N - 1": [0.0], "without, N": [0.0]}
    for size in (2, 4, 8, 16):
        for rate in (0.01, 0.1, 0.3, 0.5, 0.9):
            terms = (1 - rate) ** np.arange(size)
            whole, less = terms.sum(), terms[:-1].sum()
            subtracted = prompt_weight(maxrl, size, rate)
            plain = prompt_weight(lambda s, g: maxrl(s, g) + (s.max() > 0), size, rate)
            errors["with the mean subtracted, N - 1"].append(abs(subtracted / less - 1))
            errors["without, N"].append(abs(plain / whole - 1))
    told = "; ".join(f"{name} terms: {max(of):.1g}" for name, of in errors.items())
    return exact(max(errors["without, N"]), f"largest relative error {told}")


def pareto(court: Court, k: int) -> Figure:
    """pass@k after the same answers, less GRPO's."""
    recipe = recipe_of(court)
    ours, theirs = learnt(court, MAXRL, recipe), learnt(court, GRPO, recipe)
    for runs in (ours, theirs):
        for run in runs:
            run["pass"] = pass_at(run["rates"], k)
    means = [np.mean([run["pass"] for run in runs]) for runs in (ours, theirs)]
    told = mean_with_interval(gain(ours, theirs, "pass"))
    return figure_of(told, f"{means[0]:.4f} and {means[1]:.4f}")


LOSSES = [MAXRL]
CLAIMS = [
    Claim(
        "maxrl: expansion",
        "dividing by the share of right answers of N is unbiased for the sum of grad pass@k "
        "/ k, k <= N",
        SOURCE,
        "largest relative error over pass rates and group sizes",
        expansion,
        at_most=1e-9,
    ),
    Claim(
        "maxrl: pass@1",
        "MaxRL Pareto-dominates GRPO: no worse in pass@1",
        SOURCE,
        "pass@1 after 12,800 answers, less GRPO's, both tuned alike",
        lambda court: pareto(court, 1),
        at_least=-0.005,
    ),
    Claim(
        "maxrl: pass@16",
        "MaxRL Pareto-dominates GRPO: better in pass@k",
        SOURCE,
        "pass@16 after 12,800 answers, less GRPO's, both tuned alike",
        lambda court: pareto(court, 16),
        at_least=0.0,
    ),
]
