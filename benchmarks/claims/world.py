"""A tabular policy on answers that are listed: every expectation is a sum.

Arrays over answers are `(P, Y)`: prompts, answers in the order of the problem's tree. A policy is
a table of logits `(P, N, A)`: prompts, prefixes, actions. Tokens of answers are `(P, Y, L)`, zero
past an answer's end. Everything is float64.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from llm_gym_known_optimum import AnswerTree, KnownOptimum, make_reference


class World:
    """A problem whose answers are listed token by token.

    Args:
        problem: The problem.

    Attributes:
        problem: The problem.
        reference: Its reference model's logits, `(P, N, A)`.
        rewards: `(P, Y)`.
        lengths: Tokens of each answer, its end included, int64 `(Y,)`.
        mask: Where answers have tokens, bool `(Y, L)`.
        nodes: The prefix that each token is chosen after, int64 `(Y, L)`.
        actions: The token, int64 `(Y, L)`.
    """

    def __init__(self, problem: KnownOptimum) -> None:
        self.problem, tree = problem, problem.tree
        self.reference = torch.cat(problem.reference, 1)
        self.rewards = torch.from_numpy(problem.rewards)
        before = np.cumsum([0] + [tree.n_words**depth for depth in range(tree.length)])
        nodes = np.zeros((tree.n_answers, tree.length), dtype=np.int64)
        actions, start = np.zeros_like(nodes), 0
        for words in np.unique(tree.answer_lengths).tolist():
            said = tree.words(words)  # (V^words, words)
            rows, codes = slice(start, start + len(said)), np.zeros(len(said), dtype=np.int64)
            for place in range(words):
                nodes[rows, place], actions[rows, place] = before[place] + codes, said[:, place]
                codes = codes * tree.n_words + said[:, place]
            if words < tree.length:  # the action that ends an answer
                nodes[rows, words], actions[rows, words] = before[words] + codes, tree.n_words
            start += len(said)
        ends = tree.answer_lengths < tree.length
        self.lengths = torch.from_numpy(tree.answer_lengths + ends)
        self.mask = torch.arange(tree.length) < self.lengths[:, None]  # (Y, L)
        self.nodes, self.actions = torch.from_numpy(nodes), torch.from_numpy(actions)

    @property
    def n_prompts(self) -> int:
        """P."""
        return len(self.rewards)

    def token_log_probs(self, logits: torch.Tensor) -> torch.Tensor:
        """Log-probability of each token of each answer, `(P, Y, L)`, differentiable."""
        return logits.log_softmax(-1)[:, self.nodes, self.actions] * self.mask

    def probabilities(self, logits: torch.Tensor) -> torch.Tensor:
        """Probability of each answer, `(P, Y)`, differentiable."""
        return self.token_log_probs(logits).sum(-1).exp()

    def token_scores(self, logits: torch.Tensor) -> torch.Tensor:
        """Gradient of each token's log-probability in its prompt's logits, `(P, Y, L, N * A)`."""
        probabilities = logits.detach().softmax(-1)  # (P, N, A)
        n_actions = probabilities.shape[-1]
        at_node = (
            torch.nn.functional.one_hot(self.actions, n_actions) - probabilities[:, self.nodes]
        )
        node = torch.nn.functional.one_hot(self.nodes, probabilities.shape[1])  # (Y, L, N)
        scores = node[None, ..., None] * (at_node * self.mask[..., None])[:, :, :, None]
        return scores.flatten(3)

    def pass_rates(self, logits: torch.Tensor) -> torch.Tensor:
        """Expected reward of each prompt, `(P,)`: where rewards are 0 or 1, how often it is 1."""
        return (self.probabilities(logits) * self.rewards).sum(-1)

    def gradient(self, logits: torch.Tensor, objective: str = "reward") -> torch.Tensor:
        """Exact gradient, `(P, N, A)`, of the mean over prompts of an objective.

        Args:
            logits: The policy.
            objective: `"reward"`, or `"log_reward"` for the logarithm of each prompt's.
        """
        leaf = logits.detach().clone().requires_grad_()
        rates = self.pass_rates(leaf)
        value = {"reward": rates, "log_reward": rates.log()}[objective].mean()
        return torch.autograd.grad(value, leaf)[0]

    def kl(self, ours: torch.Tensor, other: torch.Tensor) -> torch.Tensor:
        """KL(ours || other) of whole answers, in nats, `(P,)`, differentiable."""
        log_ours = self.token_log_probs(ours).sum(-1)
        return (log_ours.exp() * (log_ours - self.token_log_probs(other).sum(-1))).sum(-1)

    def entropy(self, logits: torch.Tensor) -> torch.Tensor:
        """Entropy of a token where the policy goes, nats, a mean over all tokens of answers."""
        log_probs = self.token_log_probs(logits)
        answers = log_probs.sum(-1).exp()  # (P, Y)
        return -(answers * log_probs.sum(-1)).sum() / (answers @ self.lengths.double()).sum()

    def towards_optimum(self, share: float) -> torch.Tensor:
        """Logits part of the way from the reference (0) to the problem's optimum (1)."""
        best = torch.cat(self.problem.optimum.log_probs, 1)
        return (1 - share) * self.reference + share * best


def paying_world(
    seed: int,
    rates: Sequence[float] = (0.05, 0.2, 0.5, 0.8),
    *,
    words: int = 3,
    length: int = 3,
    ends_early: bool = True,
    beta: float = 0.1,
) -> World:
    """Prompts of different difficulty, whose answers pay 1 or nothing.

    Args:
        seed: Seed of the reference model and of which answers pay.
        rates: How often an answer of the reference model pays, for each prompt, nearly.
        words: Words of the vocabulary.
        length: Most words of an answer.
        ends_early: Whether answers have different lengths.
        beta: Price of a nat.
    """
    tree = AnswerTree(words, length, ends_early)
    reference = make_reference("tabular", tree, len(rates), spread=0.7, seed=seed)
    rng, nothing = np.random.default_rng([seed, 7]), np.zeros((len(rates), tree.n_answers))
    problem = KnownOptimum(tree, nothing, reference, beta=beta)
    rewards, likely = np.zeros_like(nothing), problem.reference_answers
    for row, p, rate in zip(rewards, likely, rates, strict=True):
        for answer in rng.permutation(tree.n_answers):
            row[answer] = row @ p + p[answer] <= 1.02 * rate
        if not row.any():
            row[p.argmin()] = 1.0
    return World(KnownOptimum(tree, rewards, reference, beta=beta))


def moved(world: World, logits: torch.Tensor, direction: torch.Tensor, nats: float) -> torch.Tensor:
    """Logits so far along a direction that the old answers are `nats` from the new policy.

    Args:
        world: The answers.
        logits: The old policy.
        direction: `(P, N, A)`.
        nats: KL(old || new) of an answer, mean over prompts.
    """
    low, high = 0.0, 1.0
    while float(world.kl(logits, logits + high * direction).mean()) < nats:
        high *= 2
    for _ in range(60):
        middle = (low + high) / 2
        short = float(world.kl(logits, logits + middle * direction).mean()) < nats
        low, high = (middle, high) if short else (low, middle)
    return logits + high * direction
