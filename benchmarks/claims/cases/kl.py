"""KL penalties in the loss: which divergence their expected gradient is of."""

from collections.abc import Callable

import torch

from benchmarks.claims.claim import Claim, Figure, exact
from benchmarks.claims.court import Court
from benchmarks.claims.exact import after_a_step, answer_gradients, moments
from benchmarks.claims.world import World, paying_world
from llm_gym.learning.losses import kl_loss

Penalty = Callable[[torch.Tensor, torch.Tensor, torch.Tensor], torch.Tensor]


def of_tokens(estimator: str) -> Penalty:
    """An estimator of tokens, from log-probabilities: policy's, sampler's, reference's."""
    return lambda log_prob, _, reference: kl_loss(log_prob, reference, estimator)


def deepseek(log_prob: torch.Tensor, old: torch.Tensor, reference: torch.Tensor) -> torch.Tensor:
    """k3 times the ratio, through which the gradient goes, too (DeepSeek-V3.2)."""
    return (log_prob - old).exp() * kl_loss(log_prob, reference, "k3")


def expected(
    world: World, logits: torch.Tensor, sampler: torch.Tensor, penalty: Penalty
) -> torch.Tensor:
    """Minus the expected gradient of a penalty, `(P, Y, D)` before the mean."""
    there = world.mask.expand(world.n_prompts, -1, -1)
    reference = world.token_log_probs(world.reference)[there]
    return answer_gradients(
        world,
        logits,
        sampler,
        lambda tokens: penalty(tokens.log_prob, tokens.old_log_prob, reference),
        torch.zeros_like(world.rewards),
    )


def exact_gradient(world: World, logits: torch.Tensor, *, of_states: bool) -> torch.Tensor:
    """Minus the gradient of KL(pi || pi_ref) of answers, `(P, D)`.

    Args:
        world: The answers.
        logits: The policy.
        of_states: Of each state's divergence alone, as if no token led to other states.
    """
    leaf = logits.detach().clone().requires_grad_()
    if of_states:
        ours, theirs = leaf.log_softmax(-1), world.reference.log_softmax(-1)
        kl = (ours.exp() * (ours - theirs)).sum(-1)  # (P, N)
        value = (visits(world, logits) * kl).sum()
    else:
        value = world.kl(leaf, world.reference).sum()
    return -torch.autograd.grad(value, leaf)[0].flatten(1)


def visits(world: World, logits: torch.Tensor) -> torch.Tensor:
    """How often each prefix is reached, `(P, N)`."""
    p = world.probabilities(logits.detach())
    reached = torch.zeros(logits.shape[:2], dtype=p.dtype)
    for place in range(world.mask.shape[1]):
        reached.index_add_(1, world.nodes[:, place], p * world.mask[:, place])
    return reached


def judged(
    court: Court, penalty: Penalty, figure: str, *, of_states: bool, nats: float = 0.0
) -> list[float]:
    """Of each problem: cosine or scale against the exact gradient."""
    found = []
    for seed in range(court.pick(10, 2)):
        world = paying_world(seed)
        logits = world.towards_optimum(0.2)
        sampler = after_a_step(world, nats, seed) - world.reference + logits if nats else logits
        vectors = expected(world, logits, sampler, penalty)
        exactly = exact_gradient(world, logits, of_states=of_states)
        got = moments(vectors, world.probabilities(sampler), exactly)
        found.append(float(getattr(got, figure)))
    return found


def no_gradient(court: Court) -> Figure:
    """The largest share of the exact gradient that k1 in the loss has."""
    share = max(map(abs, judged(court, of_tokens("k1"), "scale", of_states=False)))
    return exact(share)


def other_divergence(court: Court) -> Figure:
    """Cosine of k3's expected gradient with that of KL(pi_ref || pi), state by state."""
    least = 1.0
    for seed in range(court.pick(10, 2)):
        world = paying_world(seed)
        logits = world.towards_optimum(0.2)
        vectors = expected(world, logits, logits, of_tokens("k3"))
        leaf = logits.clone().requires_grad_()
        ours, theirs = leaf.log_softmax(-1), world.reference.log_softmax(-1)
        kl = (theirs.exp() * (theirs - ours)).sum(-1)
        value = (visits(world, logits) * kl).sum()
        other = -torch.autograd.grad(value, leaf)[0].flatten(1)
        least = min(least, moments(vectors, world.probabilities(logits), other).cosine)
    with_own = min(judged(court, of_tokens("k3"), "cosine", of_states=True))
    return exact(least, f"with the penalty's own, KL(pi || pi_ref): {with_own:.3f} at worst")


def corrected(court: Court, *, of_states: bool, nats: float = 0.0) -> Figure:
    """The worst cosine of DeepSeek-V3.2's penalty with the exact gradient."""
    penalties = (deepseek, of_tokens("k3"), of_tokens("k2"))
    least, k3, k2 = (
        min(judged(court, penalty, "cosine", of_states=of_states, nats=nats))
        for penalty in penalties
    )
    return exact(least, f"k3 without the ratio {k3:.3f}, k2 {k2:.3f}")


V32 = "2512.02556, section 3.1"
CLAIMS = [
    Claim(
        "kl: k1",
        "the penalty as k1 in the loss has no expected gradient",
        "2512.21852",
        "largest share of the exact gradient of the penalty, ten problems",
        no_gradient,
        at_most=1e-9,
    ),
    Claim(
        "kl: k3",
        "k3 in the loss has the gradient of the other divergence, KL(pi_ref || pi)",
        "2506.09477, 2512.21852",
        "least cosine with the gradient of that, state by state, ten problems",
        other_divergence,
        at_least=1 - 1e-9,
    ),
    Claim(
        "kl: V3.2, tokens",
        "k3 times the ratio has an unbiased gradient",
        V32,
        "least cosine with the exact gradient of each state's divergence, ten problems, "
        "fresh samples",
        lambda court: corrected(court, of_states=True),
        at_least=1 - 1e-9,
    ),
    Claim(
        "kl: V3.2, answers",
        "k3 times the ratio has an unbiased gradient: that of whole answers, which is what "
        "is meant",
        V32,
        "least cosine with the exact gradient of the divergence of answers, ten problems, "
        "fresh samples",
        lambda court: corrected(court, of_states=False),
        at_least=0.99,
    ),
    Claim(
        "kl: V3.2, stale",
        "with the ratio it stays unbiased where samples are stale",
        V32,
        "least cosine with the exact gradient of each state's divergence, ten problems, 0.05 "
        "nats stale",
        lambda court: corrected(court, of_states=True, nats=0.05),
        at_least=0.99,
    ),
]
