"""Weights of tokens against weights of answers, where another policy sampled than learns."""

from functools import partial

import torch

from benchmarks.claims.claim import Claim, Figure, exact, figure_of
from benchmarks.claims.court import Court
from benchmarks.claims.exact import Moments, after_a_step, of_surrogate
from benchmarks.claims.losses import Tokens
from benchmarks.claims.world import World, moved, paying_world
from benchmarks.common import mean_with_interval
from llm_gym.learning.losses import answer_sums

SOURCE = "https://richardli.xyz/rl-collapse"
CAP = 2.0
NATS = {"noise": 0.05, "stale": 0.05, "top-k": 0.0}
"""Noise in the logits, as of another engine; a policy of a step ago; top-3 of four tokens."""


def token_weights(tokens: Tokens, cap: float = 1e9) -> torch.Tensor:
    """Each token has its own weight, cut off at `cap` (TIS)."""
    return -tokens.ratio.detach().clamp(max=cap) * tokens.advantages * tokens.log_prob


def answer_weights(tokens: Tokens, cap: float = 1e9, mask: bool = False) -> torch.Tensor:
    """All tokens have their answer's weight, cut off at `cap`, or none above it (MIS, IcePop)."""
    log_ratio = answer_sums(tokens.log_prob - tokens.old_log_prob, tokens.rows).detach()
    ratio = log_ratio.exp()[tokens.rows]
    weight = ratio * (ratio <= cap) if mask else ratio.clamp(max=cap)
    return -weight * tokens.advantages * tokens.log_prob


def unweighted(tokens: Tokens) -> torch.Tensor:
    """As if nothing were the matter."""
    return -tokens.advantages * tokens.log_prob


KINDS = {
    "none": unweighted,
    "token": token_weights,
    "token, cut": partial(token_weights, cap=CAP),
    "answer": answer_weights,
    "answer, cut": partial(answer_weights, cap=CAP),
    "answer, masked": partial(answer_weights, cap=CAP, mask=True),
}


def mismatched(kind: str, seed: int) -> tuple[World, torch.Tensor, torch.Tensor]:
    """Answers, the policy that learns, and the one that samples."""
    world = paying_world(seed, length=4)
    sampler, generator = world.reference, torch.Generator().manual_seed(seed)
    if kind == "stale":
        return world, after_a_step(world, NATS[kind], seed), sampler
    if kind == "noise":
        noise = torch.randn(sampler.shape, generator=generator, dtype=sampler.dtype)
        return world, moved(world, sampler, noise, NATS[kind]), sampler
    least = sampler == sampler.amin(-1, keepdim=True)  # what top-k leaves out is all but left out
    return world, sampler, sampler.masked_fill(least, -30.0)


def measure(kind: str, seed: int) -> dict[str, list[float]]:
    """A trial: bias and noise with each kind of weights."""
    world, logits, sampler = mismatched(kind, seed)
    found: dict[str, Moments] = {
        name: of_surrogate(world, logits, sampler, surrogate) for name, surrogate in KINDS.items()
    }
    return {name: [max(one.bias, 0.0), one.noise] for name, one in found.items()}


def figures(court: Court, kind: str) -> dict[str, tuple[list[float], list[float]]]:
    """Biases and noises by kind of weights, over problems."""
    seeds = range(court.pick(200, 4))
    found = court.each(measure, [{"kind": kind, "seed": seed} for seed in seeds])
    return {
        name: ([one[name][0] for one in found], [one[name][1] for one in found]) for name in KINDS
    }


def told(court: Court) -> str:
    """Mean biases of every kind of weights and mismatch."""
    parts = []
    for kind in NATS:
        means = {name: sum(of[0]) / len(of[0]) for name, of in figures(court, kind).items()}
        parts.append(f"{kind}: " + ", ".join(f"{name} {bias:.3f}" for name, bias in means.items()))
    return "bias by weights; " + "; ".join(parts)


def token_bias(court: Court) -> Figure:
    """The bias that weights of tokens leave, over the one without weights."""
    of = figures(court, "noise")
    ratios = [mine / none for mine, none in zip(of["token"][0], of["none"][0], strict=True)]
    return figure_of(mean_with_interval(ratios), told(court))


def answer_bias(court: Court) -> Figure:
    """The largest bias with whole weights of answers, where the sampler can say everything."""
    return exact(max(max(figures(court, kind)["answer"][0]) for kind in ("noise", "stale")))


def answer_noise(court: Court) -> Figure:
    """The noise of weights of answers, over that of weights of tokens."""
    of = figures(court, "noise")
    ratios = [mine / token for mine, token in zip(of["answer"][1], of["token"][1], strict=True)]
    return figure_of(mean_with_interval(ratios))


def masking(court: Court) -> Figure:
    """Bias where weights above the cap are masked, less that where they are cut."""
    of = figures(court, "noise")
    masked, cut = of["answer, masked"], of["answer, cut"]
    less = mean_with_interval([mine - other for mine, other in zip(masked[0], cut[0], strict=True)])
    means = [sum(noises) / len(noises) for noises in (masked[1], cut[1])]
    return figure_of(less, f"noise {means[0]:.1f} and {means[1]:.1f}")


_TEST = "noise in the logits, 0.05 nats an answer"
CLAIMS = [
    Claim(
        "mismatch: tokens",
        "weights of tokens are biased: they leave the states as the other policy visited them",
        SOURCE,
        f"bias of the direction, over that without weights; {_TEST}",
        token_bias,
        at_least=0.05,
    ),
    Claim(
        "mismatch: answers",
        "weights of whole answers are unbiased",
        SOURCE,
        "largest bias of the direction with whole weights; noise in the logits, and stale by "
        "0.05 nats",
        answer_bias,
        at_most=1e-9,
    ),
    Claim(
        "mismatch: noise",
        "but they have more noise",
        SOURCE,
        f"relative variance, over that with weights of tokens; {_TEST}",
        answer_noise,
        at_least=1.0,
    ),
    Claim(
        "mismatch: masking",
        "masking large weights is better than cutting them off",
        "2510.18855 (IcePop)",
        f"bias of the direction with answers above a weight of {CAP:g} masked, less that "
        f"with weights cut "
        f"off there; {_TEST}",
        masking,
        at_most=0.0,
    ),
]
