"""MaxRL: the likelihood of a right answer instead of its expectation."""

import numpy as np
import torch

from benchmarks.claims.claim import Claim, Figure, exact, figure_of
from benchmarks.claims.court import Court
from benchmarks.claims.exact import prompt_weight
from benchmarks.claims.losses import Floats, Groups, Loss, clipped
from benchmarks.claims.training import PASS_RATES, pass_at
from benchmarks.claims.world import paying_world
from benchmarks.common import mean_with_interval
from llm_gym.learning.advantages import dr_grpo, grpo

SOURCE = "2602.02710"
LENGTH = 0.3
"""Of a step, in logits."""
_CLIMB = "steps of the same length, 20 problems"


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


def climb(loss: Loss, seed: int, steps: int) -> dict[str, list[float]]:
    """A trial: pass@1 and pass@16 along a loss's expected gradient, in steps of one length.

    What a group adds up to is on average the gradient of the prompt's pass rate times a weight.
    The penalty has no part in it, and neither has noise.
    """
    world = paying_world(seed, PASS_RATES)
    logits, passed = world.reference.clone(), list[list[float]]()
    for _ in range(steps):
        rates = world.pass_rates(logits).tolist()
        weights = [prompt_weight(loss.advantage, loss.group_size, rate) for rate in rates]
        step = world.gradient(logits) * torch.tensor(weights)[:, None, None]
        logits = logits + LENGTH * step / step.norm()
        rates = world.pass_rates(logits).tolist()
        passed.append([pass_at(rates, 1), pass_at(rates, 16)])
    one, sixteen = zip(*passed, strict=True)
    return {"pass@1": list(one), "pass@16": list(sixteen)}


def climbs(court: Court) -> list[list[dict[str, list[float]]]]:
    """Of MaxRL and of GRPO, on the same problems."""
    steps, problems = court.pick(150, 5), range(court.pick(20, 3))
    return [
        court.each(climb, [{"loss": loss, "seed": seed, "steps": steps} for seed in problems])
        for loss in (MAXRL, GRPO)
    ]


def level(court: Court) -> Figure:
    """Mean pass@1 on the way, less GRPO's."""
    ours, theirs = ([np.mean(run["pass@1"]) for run in runs] for runs in climbs(court))
    told = mean_with_interval(np.subtract(ours, theirs))
    return figure_of(told, f"{np.mean(ours):.3f} and {np.mean(theirs):.3f}")


def coverage(court: Court) -> Figure:
    """pass@16 at the pass@1 that both come to half-way up, less GRPO's."""
    differences = []
    for mine, other in zip(*climbs(court), strict=True):
        half = (min(mine["pass@1"][-1], other["pass@1"][-1]) + other["pass@1"][0]) / 2
        at = [np.interp(half, run["pass@1"], run["pass@16"]) for run in (mine, other)]
        differences.append(float(at[0] - at[1]))
    return figure_of(mean_with_interval(differences))


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
        f"mean pass@1 along the expected gradient of groups of 16, less GRPO's, {_CLIMB}",
        level,
        at_least=-0.005,
    ),
    Claim(
        "maxrl: pass@16",
        "MaxRL Pareto-dominates GRPO: better in pass@k",
        SOURCE,
        f"pass@16 at the same pass@1, half-way up, less GRPO's, {_CLIMB}",
        coverage,
        at_least=0.0,
    ),
]
