"""A loss on groups of answers, as data: what the court takes, measures and trains with."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from benchmarks.claims.world import World
from llm_gym.learning.advantages import rloo
from llm_gym.learning.losses import aggregate, clipped_surrogate_loss, policy_gradient_loss

Floats = NDArray[np.float64]
Groups = NDArray[np.int64]


class Tokens(NamedTuple):
    """Tokens of `B` answers, flat, answer after answer, as `llm_gym.learning.losses` has them.

    Attributes:
        log_prob: float `(A,)`, under the present policy, with gradients.
        old_log_prob: float `(A,)`, under the policy that sampled.
        advantages: float `(A,)`, of each token's answer.
        rows: int64 `(A,)`, the answer of each token.
        lengths: int64 `(A,)`, how many tokens that answer has.
    """

    log_prob: torch.Tensor
    old_log_prob: torch.Tensor
    advantages: torch.Tensor
    rows: torch.Tensor
    lengths: torch.Tensor

    @property
    def ratio(self) -> torch.Tensor:
        """`pi / pi_old` of each token, `(A,)`, with gradients."""
        return (self.log_prob - self.old_log_prob).exp()


def plain(tokens: Tokens) -> torch.Tensor:
    """`-A log pi`, of each token."""
    return policy_gradient_loss(tokens.log_prob, tokens.advantages)


def clipped(tokens: Tokens, low: float = 0.2, high: float = 0.2) -> torch.Tensor:
    """PPO's, of each token."""
    return clipped_surrogate_loss(
        tokens.log_prob, tokens.old_log_prob, tokens.advantages, low, high
    )


@dataclass(frozen=True)
class Loss:
    """A loss: an advantage of each answer, a loss of each token, and how they are added up.

    Args:
        name: Name.
        source: ArXiv number, with what else finds the place; or an address.
        surrogate: From `Tokens` to the losses of tokens, float `(A,)`.
        advantage: From scores `(n,)` and groups `(n,)` to advantages `(n,)`, of NumPy.
        aggregation: How token losses are added up, see `llm_gym.learning.losses.aggregate`; the
            constant is 1.
        group_size: Answers to a prompt at a time.
        objective: What it claims to maximise, see `World.gradient`.
    """

    name: str
    source: str
    surrogate: Callable[[Tokens], torch.Tensor] = plain
    advantage: Callable[[Floats, Groups], Floats] = rloo
    aggregation: str = "constant"
    group_size: int = 16
    objective: str = "reward"


class Sample(NamedTuple):
    """Answers that were drawn.

    Attributes:
        prompts: int64 `(n,)`.
        answers: int64 `(n,)`, which of the listed ones.
        groups: int64 `(n,)`: answers with the same number are compared.
    """

    prompts: torch.Tensor
    answers: torch.Tensor
    groups: torch.Tensor


def draw(world: World, sampler: torch.Tensor, group_size: int, generator: Any) -> Sample:
    """One group for each prompt.

    Args:
        world: The answers.
        sampler: Logits of the policy that samples.
        group_size: Answers to a prompt.
        generator: Torch's generator of random numbers.
    """
    with torch.no_grad():
        probabilities = world.probabilities(sampler)
    answers = torch.multinomial(probabilities, group_size, replacement=True, generator=generator)
    prompts = torch.arange(world.n_prompts).repeat_interleave(group_size)
    return Sample(prompts, answers.flatten(), prompts)


def loss_of(
    loss: Loss,
    world: World,
    logits: torch.Tensor,
    old: torch.Tensor,
    sample: Sample,
    scores: Floats,
) -> torch.Tensor:
    """The loss of a sample, a number with gradients.

    Args:
        loss: The loss.
        world: The answers.
        logits: The present policy, with gradients.
        old: Token log-probabilities of the policy that sampled, `(P, Y, L)`.
        sample: What was drawn.
        scores: What it is worth, `(n,)`.
    """
    prompts, answers, groups = sample
    there, lengths = world.mask[answers], world.lengths[answers]  # (n, L), (n,)
    advantages = torch.from_numpy(loss.advantage(scores, groups.numpy()))
    tokens = Tokens(
        world.token_log_probs(logits)[prompts, answers][there],
        old[prompts, answers][there],
        advantages.repeat_interleave(lengths),
        torch.arange(len(answers)).repeat_interleave(lengths),
        lengths.repeat_interleave(lengths),
    )
    return aggregate(loss.surrogate(tokens), tokens.rows, loss.aggregation)
