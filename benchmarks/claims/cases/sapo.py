"""SAPO: a soft gate in the place of a clip."""

import torch

from benchmarks.claims.claim import Claim, Figure, figure_of
from benchmarks.claims.court import Court
from benchmarks.claims.exact import after_a_step, of_surrogate
from benchmarks.claims.losses import Loss, Tokens, clipped
from benchmarks.claims.standing import STALE
from benchmarks.claims.world import paying_world
from benchmarks.common import mean_with_interval
from llm_gym.learning.advantages import grpo

SOURCE = "2511.20347"


def sapo(tokens: Tokens) -> torch.Tensor:
    """`-4 / tau sigmoid(tau (ratio - 1)) A`, tau 1 where the advantage is above 0, else 1.05."""
    tau = torch.where(tokens.advantages > 0, 1.0, 1.05)
    return -4 / tau * torch.sigmoid(tau * (tokens.ratio - 1)) * tokens.advantages


def nearer(court: Court) -> Figure:
    """Cosine with the exact gradient, less that of the clipped loss, over problems."""
    found = court.each(compare, [{"seed": seed} for seed in range(court.pick(200, 4))])
    told = mean_with_interval([one["sapo"] - one["clipped"] for one in found])
    means = [sum(one[name] for one in found) / len(found) for name in ("sapo", "clipped")]
    return figure_of(told, f"{means[0]:.3f} against {means[1]:.3f}")


def compare(seed: int) -> dict[str, float]:
    """A trial: cosines where the policy has moved on."""
    world = paying_world(seed)
    logits = after_a_step(world, STALE, seed)
    return {
        loss.__name__: of_surrogate(world, logits, world.reference, loss).cosine
        for loss in (sapo, clipped)
    }


LOSSES = [Loss("SAPO", SOURCE, sapo, grpo, "sequence_mean")]
CLAIMS = [
    Claim(
        "sapo: direction",
        "a soft gate keeps more of the gradient than a hard clip",
        SOURCE,
        f"cosine with the exact gradient less that of PPO's clip, {STALE} nats stale",
        nearer,
        at_least=0.0,
    )
]
