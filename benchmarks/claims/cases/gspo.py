"""GSPO: one ratio an answer, the geometric mean of its tokens'."""

import torch

from benchmarks.claims.claim import Claim, Figure, exact, figure_of
from benchmarks.claims.court import Court, gradient_samples
from benchmarks.claims.exact import after_a_step, of_surrogate
from benchmarks.claims.losses import Loss, Tokens, clipped
from benchmarks.claims.standing import STALE
from benchmarks.claims.world import paying_world
from benchmarks.common import mean_with_interval
from llm_gym.learning.advantages import grpo
from llm_gym.learning.losses import answer_sums, clipped_surrogate_loss

SOURCE = "2507.18071, equation 7"


def gspo(tokens: Tokens, low: float = 3e-4, high: float = 4e-4) -> torch.Tensor:
    """Each token carries its answer's loss; the mean over an answer is that loss."""
    log_ratio = answer_sums(tokens.log_prob - tokens.old_log_prob, tokens.rows)[tokens.rows]
    mean = log_ratio / tokens.lengths
    return clipped_surrogate_loss(mean, torch.zeros_like(mean), tokens.advantages, low, high)


GSPO = Loss("GSPO", SOURCE, gspo, grpo, "sequence_mean")
GRPO = Loss("GRPO", "2402.03300", clipped, grpo, "sequence_mean")


def same_when_fresh(court: Court) -> Figure:
    """How far GSPO's gradient is from GRPO's on the same fresh samples, over the length of that."""
    world = paying_world(0)
    ours, theirs = (
        gradient_samples(world, loss, world.reference, world.reference, batches=20)[0]
        for loss in (GSPO, GRPO)
    )
    return exact(float((ours - theirs).norm() / theirs.norm()))


def noise(court: Court) -> Figure:
    """The noise of GSPO's gradient over that of GRPO's, neither clipped, over problems."""
    found = court.each(unclipped, [{"seed": seed} for seed in range(court.pick(200, 4))])
    ratio = mean_with_interval([one["gspo"][1] / one["grpo"][1] for one in found])
    cosines = [sum(one[name][0] for one in found) / len(found) for name in ("gspo", "grpo")]
    return figure_of(
        ratio, f"cosine with the exact gradient {cosines[0]:.3f}, GRPO's {cosines[1]:.3f}"
    )


def unclipped(seed: int) -> dict[str, list[float]]:
    """A trial: cosine and noise of both where the policy has moved on."""
    world = paying_world(seed)
    logits = after_a_step(world, STALE, seed)

    def grpo_of(tokens: Tokens) -> torch.Tensor:
        return clipped(tokens, 1.0, 1e9) / tokens.lengths

    def gspo_of(tokens: Tokens) -> torch.Tensor:
        return gspo(tokens, 1.0, 1e9) / tokens.lengths

    of = {
        name: of_surrogate(world, logits, world.reference, surrogate)
        for name, surrogate in (("gspo", gspo_of), ("grpo", grpo_of))
    }
    return {name: [one.cosine, one.noise] for name, one in of.items()}


LOSSES = [GSPO]
CLAIMS = [
    Claim(
        "gspo: fresh",
        "GSPO differs from GRPO only where samples are stale",
        f"{SOURCE}; so says TRL's index of papers",
        "distance of their gradients on the same fresh samples, over the length",
        same_when_fresh,
        at_most=1e-9,
    ),
    Claim(
        "gspo: noise",
        "one ratio an answer has less noise than one a token",
        "2507.18071",
        f"relative variance of the gradient, over GRPO's, {STALE} nats stale, neither clipped",
        noise,
        at_most=1.0,
    ),
]
