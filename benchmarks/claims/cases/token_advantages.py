"""Credit for every token against credit for the whole answer, with exact values."""

import torch

from benchmarks.claims.claim import Claim, Figure, figure_of
from benchmarks.claims.court import Court
from benchmarks.claims.exact import moments, outcome_advantages
from benchmarks.claims.world import paying_world
from benchmarks.common import mean_with_interval


def measure(seed: int) -> dict[str, float]:
    """A trial: noise of the gradient with each kind of credit."""
    world = paying_world(seed, length=4)
    logits = world.reference
    p, scores = world.probabilities(logits), world.token_scores(logits)  # (P, Y), (P, Y, L, D)
    values = []  # of the prefix each token is chosen after, (P, Y)
    for place in range(world.mask.shape[1]):
        same = (world.nodes[:, place, None] == world.nodes[None, :, place]) & world.mask[:, place]
        reached = (p @ same.double().T).clamp(min=1e-300)  # (P, Y); nothing past an answer's end
        values.append((p * world.rewards) @ same.double().T / reached)
    ahead = [*values[1:], world.rewards]
    last = world.lengths[None] - 1  # after which comes the reward
    of_token = torch.stack(
        [
            torch.where(last == place, world.rewards, ahead[place]) - values[place]
            for place in range(len(values))
        ],
        -1,
    )  # (P, Y, L)
    whole = outcome_advantages(world, logits)[..., None].expand_as(of_token)
    exact = world.gradient(logits).flatten(1) * world.n_prompts
    noises = [
        moments(torch.einsum("pyl,pyld->pyd", credit * world.mask, scores), p, exact).noise
        for credit in (of_token, whole)
    ]
    return {"tokens": noises[0], "answers": noises[1]}


def noise(court: Court) -> Figure:
    """Noise with exact credit for tokens, over that with credit for answers, over problems."""
    found = court.each(measure, [{"seed": seed} for seed in range(court.pick(200, 4))])
    return figure_of(mean_with_interval([one["tokens"] / one["answers"] for one in found]))


CLAIMS = [
    Claim(
        "dense credit",
        "credit for each step is better than for the outcome alone",
        "2502.01456, 2505.11821",
        "relative variance of the gradient with exact token advantages, over that with the "
        "exact value "
        "as the baseline of whole answers",
        noise,
        at_most=1.0,
    )
]
