"""CISPO: the weight is clipped, and no token loses its gradient."""

import torch

from benchmarks.claims.claim import Claim, Figure, figure_of
from benchmarks.claims.court import Court
from benchmarks.claims.exact import after_a_step, of_surrogate, outcome_advantages
from benchmarks.claims.losses import Loss, Tokens, clipped
from benchmarks.claims.standing import STALE
from benchmarks.claims.world import paying_world
from benchmarks.common import mean_with_interval
from llm_gym.learning.advantages import grpo

SOURCE = "2506.13585; `eps_high` of 2510.13786"


def cispo(tokens: Tokens) -> torch.Tensor:
    """`-min(ratio, 5) A log pi`, the weight without a gradient."""
    weight = tokens.ratio.detach().clamp(max=5.0)
    return -weight * tokens.advantages * tokens.log_prob


def nearer(court: Court) -> Figure:
    """Cosine with the exact gradient, less that of the clipped loss, over problems."""
    found = court.each(compare, [{"seed": seed} for seed in range(court.pick(200, 4))])
    means = [sum(one[name] for one in found) / len(found) for name in ("cispo", "clipped")]
    told = mean_with_interval([one["cispo"] - one["clipped"] for one in found])
    return figure_of(told, f"{means[0]:.3f} against {means[1]:.3f}")


def compare(seed: int) -> dict[str, float]:
    """A trial: cosines where the policy has moved on, and how likely clipped tokens were."""
    world = paying_world(seed)
    logits = after_a_step(world, STALE, seed)
    cosines = {
        loss.__name__: of_surrogate(world, logits, world.reference, loss).cosine
        for loss in (cispo, clipped)
    }
    old = world.token_log_probs(world.reference)
    ratio = (world.token_log_probs(logits) - old).exp()
    good = outcome_advantages(world, logits)[..., None] > 0  # (P, Y, 1)
    often = world.probabilities(world.reference)[..., None] * world.mask  # (P, Y, L)
    cut, all_good = often * (good & (ratio > 1.2)), often * good
    likely = [float((where * old.exp()).sum() / where.sum()) for where in (cut, all_good)]
    return {**cosines, "cut": likely[0] / likely[1]}


def rare(court: Court) -> Figure:
    """Probability of the tokens that the upper clip cuts off, over that of all that gain."""
    found = court.each(compare, [{"seed": seed} for seed in range(court.pick(200, 4))])
    return figure_of(mean_with_interval([one["cut"] for one in found]))


LOSSES = [Loss("CISPO", SOURCE, cispo, grpo, "token_mean")]
CLAIMS = [
    Claim(
        "cispo: rare tokens",
        "PPO's clip cuts off the rare tokens that are learnt",
        "2506.13585",
        f"mean probability of tokens above the upper clip, over that of all of answers that "
        f"are better "
        f"than expected, {STALE} nats stale",
        rare,
        at_most=0.9,
    ),
    Claim(
        "cispo: direction",
        "clipping weights instead of tokens keeps more of the gradient",
        SOURCE,
        f"cosine with the exact gradient less that of PPO's clip, {STALE} nats stale",
        nearer,
        at_least=0.0,
    ),
]
