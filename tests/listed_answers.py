"""A language model small enough to list all its answers: V = 3 tokens, at most T = 2, token 0 ends.

Everything is float64 and differentiable in the table of logits, so that the expectation of any
estimator's gradient is a finite sum.
"""

from __future__ import annotations

from itertools import product

import torch

ANSWERS = [(0,), *((a, b) for a, b in product((1, 2), range(3)))]
#: The state in which a token is chosen: 0 at the start, the first token afterwards.
STATES = [[0, *answer[:-1]] for answer in ANSWERS]


def logits(seed: int) -> torch.Tensor:
    """Logits by state, float64 `(3, V)`, differentiable."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(3, 3, generator=generator, dtype=torch.float64).requires_grad_()


def token_log_probs(table: torch.Tensor, answer: int) -> torch.Tensor:
    """Log-probabilities of an answer's tokens, float `(t,)`."""
    return table.log_softmax(-1)[STATES[answer], list(ANSWERS[answer])]


def probabilities(table: torch.Tensor) -> torch.Tensor:
    """Of all answers, float `(7,)`."""
    return torch.stack([token_log_probs(table, i).sum() for i in range(len(ANSWERS))]).exp()


def gradient(value: torch.Tensor, table: torch.Tensor) -> torch.Tensor:
    """Of a scalar in the table of logits."""
    [found] = torch.autograd.grad(value, table, retain_graph=True, allow_unused=True)
    return torch.zeros_like(table) if found is None else found


def divergence(table: torch.Tensor, reference: torch.Tensor) -> torch.Tensor:
    """Exact `KL(pi || pi_ref)` over whole answers."""
    p, q = probabilities(table), probabilities(reference.detach())
    return (p * (p.log() - q.log())).sum()
