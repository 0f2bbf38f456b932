"""The hand-written limit on workload R: PPO on packed answers, with nothing general about it.

As `handwritten.py`, for prompts and answers of different lengths. No position is computed in vain:
the tokens of all rows stand one behind the other, attention is computed row by row, and rows that
have ended leave the cache.
"""

from __future__ import annotations

import copy
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from benchmarks.systems.base import Batch, Clock
from benchmarks.systems.handwritten import VF_COEF, TokenLogProbs, sample
from benchmarks.systems.plain_gpt2 import PlainGPT2, PlainLayer
from benchmarks.workload import (
    END,
    Workload,
    build_model,
    build_prompts,
    build_tokenizer,
    end_hazards,
)

_FEWER = 0.9  # share of the cache's rows that are left when it is made smaller
Cache = list[tuple[Tensor, Tensor]]


class Answers(NamedTuple):
    """Some finished rows of B, with N tokens in all, A of them answers'.

    Attributes:
        rows: Token ids of each, int64 `(prompt + answer,)`.
        prompts: Tokens of each prompt.
        log_probs: float32 `(answer,)` of each, of its sampled tokens.
        values: float32 `(answer,)` of each, of the states they were sampled in.
        advantages: float32 `(answer,)` of each.
    """

    rows: list[Tensor]
    prompts: list[int]
    log_probs: list[Tensor]
    values: list[Tensor]
    advantages: list[Tensor]


def attend(layer: PlainLayer, hidden: Tensor, lengths: list[int], firsts: list[int]) -> Tensor:
    """A layer on packed rows: `(N, H)` to `(N - what lies before the firsts, H)`."""
    n_tokens, width = hidden.shape
    projected = layer._linear("qkv", layer.norm_1(hidden))
    heads = projected.view(n_tokens, 3, layer.heads, -1).permute(1, 2, 0, 3)  # (3, heads, N, d)
    attended, kept = [], []
    for part, own, first in zip(
        heads.split(lengths, 2), hidden.split(lengths), firsts, strict=True
    ):
        query, key, value = part.unsqueeze(1)
        if first:
            mask = torch.ones(len(own) - first, len(own), dtype=torch.bool).tril(first)
            of_row = F.scaled_dot_product_attention(query[:, :, first:], key, value, mask)
        else:
            of_row = F.scaled_dot_product_attention(query, key, value, is_causal=True)
        attended.append(of_row[0].transpose(0, 1).reshape(-1, width))
        kept.append(own[first:])
    return layer._finish(torch.cat(kept), torch.cat(attended))


def read(model: PlainGPT2, rows: list[Tensor], firsts: list[int]) -> tuple[Tensor, Tensor]:
    """Logits `(A, V)` and values `(A,)` after the positions from each row's first."""
    lengths = [len(row) for row in rows]
    positions = torch.cat([model.positions[:length] for length in lengths])
    hidden = model.tokens[torch.cat(rows)] + positions
    for layer in model.layers[:-1]:
        hidden = attend(layer, hidden, lengths, [0] * len(rows))
    hidden = attend(model.layers[-1], hidden, lengths, firsts)
    return model._read(model.norm(hidden))


class Decoding:
    """Rows that are written one token at a time: keys and values of those that go on.

    All prompts end in the same column, so that every step writes one column.

    Args:
        model: The policy.
        prompts: Of each row, int64 `(length,)`.
        new_tokens: At most of each answer.
    """

    def __init__(self, model: PlainGPT2, prompts: list[Tensor], new_tokens: int) -> None:
        self.model, self.column = model, max(map(len, prompts))
        self.cache = model.new_cache(len(prompts), self.column + new_tokens)
        for keys, values in self.cache:
            keys.zero_(), values.zero_()  # what is masked must be finite
        self.lengths = torch.tensor([len(prompt) for prompt in prompts])
        columns = torch.arange(self.column + new_tokens)
        self.hidden_from = torch.zeros(len(prompts), 1, 1, len(columns))
        before = columns < self.column - self.lengths[:, None]
        self.hidden_from.masked_fill_(before[:, None, None], -torch.inf)

    def prefill(self, prompts: list[Tensor]) -> tuple[Tensor, Tensor]:
        """Logits `(B, V)` and values `(B,)` after the prompts."""
        model, lengths = self.model, self.lengths.tolist()
        positions = torch.cat([model.positions[:length] for length in lengths])
        hidden = model.tokens[torch.cat(prompts)] + positions
        for layer, (keys, values) in zip(model.layers, self.cache, strict=True):
            projected = layer._linear("qkv", layer.norm_1(hidden))
            heads = projected.view(len(hidden), 3, layer.heads, -1).permute(1, 2, 0, 3)
            attended = []
            for row, part in enumerate(heads.split(lengths, 2)):
                query, key, value = part.unsqueeze(1)
                stored = slice(self.column - lengths[row], self.column)
                keys[row, ..., stored], values[row, :, stored] = key[0].transpose(1, 2), value[0]
                of_row = F.scaled_dot_product_attention(query, key, value, is_causal=True)
                attended.append(of_row[0].transpose(0, 1).reshape(-1, layer.width))
            hidden = layer._finish(hidden, torch.cat(attended))
        last = self.lengths.cumsum(0) - 1
        return model._read(model.norm(hidden[last]))

    def step(self, ids: Tensor) -> tuple[Tensor, Tensor]:
        """Reads a token a row, `(B,)`: logits `(B, V)` and values `(B,)`."""
        model, column = self.model, self.column
        hidden = model.tokens[ids] + model.positions[self.lengths]
        mask = self.hidden_from[..., : column + 1]
        for layer, (keys, values) in zip(model.layers, self.cache, strict=True):
            projected = torch.addmm(layer.qkv_bias, layer.norm_1(hidden), layer.qkv_weight)
            query, key, value = projected.view(len(ids), 3, layer.heads, 1, -1).unbind(1)
            keys[..., column], values[:, :, column] = key.squeeze(2), value.squeeze(2)
            scores = query @ keys[..., : column + 1]
            scores = scores.mul_((layer.width // layer.heads) ** -0.5).add_(mask)
            attended = scores.softmax(-1) @ values[:, :, : column + 1]
            hidden = layer._finish(hidden, attended.view(len(ids), -1))
        self.column, self.lengths = column + 1, self.lengths + 1
        return model._read(model.norm(hidden))

    def keep(self, rows: Tensor) -> None:
        """Goes on with some rows, by number."""
        self.cache = [(keys[rows], values[rows]) for keys, values in self.cache]
        self.lengths, self.hidden_from = self.lengths[rows], self.hidden_from[rows]


class HandwrittenRagged:
    """The limit, behind the interface of a system."""

    def __init__(self, workload: Workload, seed: int) -> None:
        self.workload = workload
        self.rollout_clock = Clock(workload.device)
        self.model = PlainGPT2.from_transformers(build_model(workload))
        self.reference = copy.deepcopy(self.model).requires_grad_(False)
        self.optimizer = torch.optim.AdamW(
            self.model.parameters(), lr=workload.learning_rate, fused=True
        )
        tokenizer = build_tokenizer(workload)
        self.prompts = [
            torch.tensor(tokenizer(text)["input_ids"]) for text in build_prompts(workload)
        ]
        self.hazards = end_hazards(workload)
        self.generator = torch.Generator().manual_seed(seed)

    def rollout_batch(self) -> Batch:
        """Generates a batch and scores it."""
        return self._report(self.rollout())

    def train_batch(self) -> Batch:
        """Generates, scores and learns for all epochs."""
        with self.rollout_clock.running():
            answers = self.rollout()
        self.learn(answers)
        return self._report(answers)

    @torch.no_grad()
    def rollout(self) -> Answers:
        """A batch of answers to prompts drawn at random, one token a row and step."""
        w = self.workload
        drawn = torch.randint(len(self.prompts), (w.episodes,), generator=self.generator)
        prompts = [self.prompts[number] for number in drawn]
        ids = torch.zeros(w.episodes, w.new_tokens, dtype=torch.int64)
        log_probs, values = torch.zeros(ids.shape), torch.zeros(ids.shape)
        lengths = torch.full((w.episodes,), w.new_tokens)
        decoding = Decoding(self.model, prompts, w.new_tokens)
        logits, value = decoding.prefill(prompts)
        cached = torch.arange(w.episodes)  # the batch's rows that the cache has
        goes_on = torch.ones(w.episodes, dtype=torch.bool)
        for step in range(w.new_tokens):
            sampled, log_prob = sample(logits, self.generator)
            ends = torch.rand(len(cached), generator=self.generator, dtype=torch.float64)
            ends = ends < self.hazards[step]
            sampled = sampled.masked_fill(ends, END)
            log_prob = torch.where(ends, logits.log_softmax(-1)[:, END], log_prob)
            ids[cached, step], log_probs[cached, step], values[cached, step] = (
                sampled, log_prob, value,
            )  # fmt: skip
            over = goes_on & (sampled == END)
            lengths[cached[over]] = step + 1
            goes_on &= ~over
            if not goes_on.any() or step + 1 == w.new_tokens:
                break
            if goes_on.float().mean() < _FEWER:
                left = goes_on.nonzero().squeeze(1)
                decoding.keep(left)
                sampled, cached, goes_on = sampled[left], cached[left], goes_on[left]
            logits, value = decoding.step(sampled)
        sizes = lengths.tolist()
        rows = [torch.cat([p, row[:n]]) for p, row, n in zip(prompts, ids, sizes, strict=True)]
        parts = (
            [row[:n] for row, n in zip(all_, sizes, strict=True)] for all_ in (log_probs, values)
        )
        own = Answers(rows, [len(prompt) for prompt in prompts], *parts, [])
        return own._replace(advantages=self._advantages(own))

    def learn(self, answers: Answers) -> None:
        """All epochs of PPO on one batch."""
        w = self.workload
        for _ in range(w.epochs):
            order = torch.randperm(w.episodes, generator=self.generator)
            for rows in order.split(w.minibatch_episodes):
                chosen = rows.tolist()
                self._update(Answers(*([part[row] for row in chosen] for part in answers)))

    def _update(self, answers: Answers) -> None:
        w = self.workload
        log_probs, values = self._evaluate(self.model, answers)
        advantages = torch.cat(answers.advantages)
        returns = advantages + torch.cat(answers.values)
        ratio = (log_probs - torch.cat(answers.log_probs)).exp()
        advantages = (advantages - advantages.mean()) / (advantages.std() + 1e-8)
        clipped = ratio.clamp(1 - w.clip_range, 1 + w.clip_range)
        policy_loss = -torch.minimum(advantages * ratio, advantages * clipped).mean()
        loss = policy_loss + VF_COEF * F.mse_loss(values, returns)
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        self.optimizer.step()

    def _advantages(self, answers: Answers) -> list[Tensor]:
        """GAE of rewards: the score on the last token, the KL penalty on each."""
        w, found = self.workload, []
        sizes = [len(each) for each in answers.values]
        of_reference = self._evaluate(self.reference, answers)[0].split(sizes)
        for row, (log_probs, values, reference) in enumerate(
            zip(answers.log_probs, answers.values, of_reference, strict=True)
        ):
            rewards = (-w.kl_coef * (log_probs - reference)).tolist()
            rewards[-1] += self._score(answers, row)
            advantages, last, next_value = [], 0.0, 0.0
            for reward, value in zip(reversed(rewards), reversed(values.tolist()), strict=True):
                delta = reward + w.gamma * next_value - value
                last = delta + w.gamma * w.gae_lambda * last
                advantages.append(last)
                next_value = value
            found.append(torch.tensor(advantages[::-1]))
        return found

    def _evaluate(self, model: PlainGPT2, answers: Answers) -> tuple[Tensor, Tensor]:
        """Log-probabilities of the answers' tokens and values of the states before them, `(A,)`."""
        firsts = [prompt - 1 for prompt in answers.prompts]
        logits, values = read(model, [row[:-1] for row in answers.rows], firsts)
        written = [row[n:] for row, n in zip(answers.rows, answers.prompts, strict=True)]
        return TokenLogProbs.apply(logits, torch.cat(written)), values

    def _score(self, answers: Answers, row: int) -> float:
        new = answers.rows[row][answers.prompts[row] :]
        return float(((new < self.workload.favoured) & (new != END)).float().mean())

    def _report(self, answers: Answers) -> Batch:
        scores = [self._score(answers, row) for row in range(len(answers.rows))]
        return Batch(sum(map(len, answers.values)), sum(scores) / len(scores))


def build(workload: Workload, *, seed: int = 0) -> HandwrittenRagged:
    """The system; `seed` decides the prompts drawn and the tokens sampled."""
    return HandwrittenRagged(workload, seed)
