"""The hand-written limit: PPO on workload W with nothing general about it.

One file of algorithm over `plain_gpt2.py`: cached decoding with inverse-CDF sampling that records
log-probabilities and values from the same softmax, one packed pass of the frozen reference, and
updates on whole episodes with the vocabulary head on completion positions only. It is what a
library can be compared with, and no library: it knows one architecture, one reward and episodes of
one length.
"""

from __future__ import annotations

import copy
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import FunctionCtx, once_differentiable

from benchmarks.systems.base import Batch, Clock
from benchmarks.systems.plain_gpt2 import PlainGPT2
from benchmarks.workload import Workload, build_model, build_prompt_ids

VF_COEF = 0.1  # as in TRL; workload W does not say


class Episodes(NamedTuple):
    """One batch of finished episodes; B episodes of P prompt and T new tokens."""

    ids: Tensor  # int64 (B, P + T)
    log_probs: Tensor  # float32 (B, T), of the sampled tokens
    values: Tensor  # float32 (B, T), of the states they were sampled in


def sample(logits: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Sample a token a row by inverting the cumulative distribution.

    Args:
        logits: (B, V).
        generator: Source of the uniform numbers.

    Returns:
        Token ids, int64 (B,), and their log-probabilities, (B,).
    """
    probabilities = logits.softmax(-1)
    cumulative = probabilities.cumsum(-1)
    uniform = torch.rand(logits.shape[0], 1, generator=generator, device=logits.device)
    # Scaled by the total, which rounding leaves a little off 1.
    ids = torch.searchsorted(cumulative, uniform * cumulative[:, -1:], right=True)
    ids.clamp_(max=logits.shape[1] - 1)
    return ids.squeeze(1), probabilities.gather(1, ids).log().squeeze(1)


class TokenLogProbs(torch.autograd.Function):
    """Log-probability of one token a position, with the vocabulary-wide gradient made in place.

    The obvious `log_softmax` and `gather` allocate and fill two more tensors of the logits'
    size in the backward pass, which costs more than the arithmetic.
    """

    @staticmethod
    def forward(ctx: FunctionCtx, logits: Tensor, targets: Tensor) -> Tensor:
        """From `logits` (..., V) and `targets` (...) to log-probabilities (...)."""
        log_probs = logits.log_softmax(-1)
        ctx.save_for_backward(log_probs, targets)
        return log_probs.gather(-1, targets.unsqueeze(-1)).squeeze(-1)

    @staticmethod
    @once_differentiable
    def backward(ctx: FunctionCtx, gradient: Tensor) -> tuple[Tensor, None]:
        """Gradient by the logits: `gradient * (onehot - softmax)`."""
        log_probs, targets = ctx.saved_tensors
        gradient = gradient.unsqueeze(-1)
        result = log_probs.exp_().mul_(-gradient)
        return result.scatter_add_(-1, targets.unsqueeze(-1), gradient), None


def generalised_advantages(
    rewards: Tensor, values: Tensor, gamma: float, gae_lambda: float
) -> Tensor:
    """GAE of episodes that all end, terminated, with the last column; all shapes (B, T)."""
    advantages = torch.empty_like(rewards)
    last = torch.zeros_like(rewards[:, 0])
    next_value = torch.zeros_like(last)
    for step in reversed(range(rewards.shape[1])):
        delta = rewards[:, step] + gamma * next_value - values[:, step]
        last = delta + gamma * gae_lambda * last
        advantages[:, step] = last
        next_value = values[:, step]
    return advantages


class Handwritten:
    """The limit, behind the interface of a system."""

    def __init__(self, workload: Workload, seed: int) -> None:
        self.workload = workload
        self.rollout_clock = Clock(workload.device)
        self.model = PlainGPT2.from_transformers(build_model(workload))
        self.reference = copy.deepcopy(self.model).requires_grad_(False)
        self.optimizer = torch.optim.AdamW(
            self.model.parameters(), lr=workload.learning_rate, fused=True
        )
        self.prompts = torch.from_numpy(build_prompt_ids(workload)).to(workload.device)
        self.cache = self.model.new_cache(workload.episodes, workload.length)
        self.generator = torch.Generator(workload.device).manual_seed(seed)

    def rollout_batch(self) -> Batch:
        """Generates and score a batch."""
        return self._report(self.rollout())

    def train_batch(self) -> Batch:
        """Generate, score, and learn for all epochs."""
        with self.rollout_clock.running():
            episodes = self.rollout()
        self.learn(episodes)
        return self._report(episodes)

    @torch.no_grad()
    def rollout(self) -> Episodes:
        """A batch of episodes on prompts drawn at random, one token a row and step."""
        w = self.workload
        rows = torch.randint(
            len(self.prompts), (w.episodes,), generator=self.generator, device=w.device
        )
        ids = torch.empty(w.episodes, w.length, dtype=torch.int64, device=w.device)
        ids[:, : w.prompt_tokens] = self.prompts[rows]
        log_probs = torch.empty(w.episodes, w.new_tokens, device=w.device)
        values = torch.empty_like(log_probs)
        logits, value = self.model.prefill(ids[:, : w.prompt_tokens], self.cache)
        for step in range(w.new_tokens):
            position = w.prompt_tokens + step
            ids[:, position], log_probs[:, step] = sample(logits, self.generator)
            values[:, step] = value
            if step + 1 < w.new_tokens:
                logits, value = self.model.step(ids[:, position], position, self.cache)
        return Episodes(ids, log_probs, values)

    def learn(self, episodes: Episodes) -> None:
        """All epochs of PPO on one batch."""
        w = self.workload
        rewards = self._rewards(episodes)
        advantages = generalised_advantages(rewards, episodes.values, w.gamma, w.gae_lambda)
        returns = advantages + episodes.values
        for _ in range(w.epochs):
            order = torch.randperm(w.episodes, generator=self.generator, device=w.device)
            for rows in order.split(w.minibatch_episodes):
                self._update(
                    Episodes(*(part[rows] for part in episodes)), advantages[rows], returns[rows]
                )

    def _update(self, episodes: Episodes, advantages: Tensor, returns: Tensor) -> None:
        w = self.workload
        log_probs, values = self._evaluate(self.model, episodes.ids)
        ratio = (log_probs - episodes.log_probs).exp()
        advantages = (advantages - advantages.mean()) / (advantages.std() + 1e-8)
        clipped = ratio.clamp(1 - w.clip_range, 1 + w.clip_range)
        policy_loss = -torch.minimum(advantages * ratio, advantages * clipped).mean()
        loss = policy_loss + VF_COEF * F.mse_loss(values, returns)
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        self.optimizer.step()

    @torch.no_grad()
    def _rewards(self, episodes: Episodes) -> Tensor:
        """Score on the last token, KL penalty on each: (B, T)."""
        reference = torch.cat(
            [
                self._evaluate(self.reference, ids)[0]
                for ids in episodes.ids.split(self.workload.minibatch_episodes)
            ]
        )
        rewards = -self.workload.kl_coef * (episodes.log_probs - reference)
        rewards[:, -1] += self._scores(episodes.ids)
        return rewards

    def _evaluate(self, model: PlainGPT2, ids: Tensor) -> tuple[Tensor, Tensor]:
        """Log-probabilities of the new tokens, and values of the states before them: (B, T)."""
        first = self.workload.prompt_tokens - 1
        logits, values = model(ids[:, :-1], first)  # (B, T, V), (B, T)
        return TokenLogProbs.apply(logits, ids[:, first + 1 :]), values

    def _scores(self, ids: Tensor) -> Tensor:
        new = ids[:, self.workload.prompt_tokens :]
        return (new < self.workload.favoured).float().mean(1)

    def _report(self, episodes: Episodes) -> Batch:
        return Batch(self.workload.tokens_per_batch, self._scores(episodes.ids).mean().item())


def build(workload: Workload, *, seed: int = 0) -> Handwritten:
    """The system; `seed` decides the prompts drawn and the tokens sampled."""
    return Handwritten(workload, seed)
