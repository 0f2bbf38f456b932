"""A language of a few words, in which everything can be computed, and so graded.

The lessons plant a fault in a loss, and ask how far its step points away from the exact gradient.
That is known here because all answers can be listed: `llm_gym_known_optimum`, in `envs/`.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from llm_gym_known_optimum import KnownOptimum, angle_to_true_gradient

Start = Literal["reference", "blank", "moved"]


@dataclass(frozen=True)
class Answers:
    """N answers that were drawn.

    Attributes:
        prompts: Which prompt each answers, int64 `(N,)`.
        tokens: Its words by number, and the end where there is one, int64 `(N, T)`; 0 behind it.
        mask: 1.0 where there is a token, 0.0 behind the end, `(N, T)`.
        rewards: What each is worth, `(N,)`.
    """

    prompts: torch.Tensor
    tokens: torch.Tensor
    mask: torch.Tensor
    rewards: torch.Tensor

    @property
    def lengths(self) -> torch.Tensor:
        """Number of tokens of each answer, the end included, int64 `(N,)`."""
        return self.mask.sum(1).long()


class SmallWorld:
    """A problem whose optimum is known, and a model of it to be trained.

    Args:
        problem: A `KnownOptimum`; None makes one of `settings`.
        start: Where the model begins: at the `"reference"` model, `"blank"` (every word equally
            likely), or `"moved"` away from the reference model, as after some training.
        **settings: Those of `KnownOptimum.make`.
    """

    def __init__(
        self, problem: KnownOptimum | None = None, *, start: Start = "reference", **settings: Any
    ) -> None:
        self.problem = KnownOptimum.make(**settings) if problem is None else problem
        self.tree = self.problem.tree
        self.model: Any = copy.deepcopy(self.problem.reference_model)
        head = self.model.lm_head.weight
        with torch.no_grad():
            if start == "blank":
                head.zero_()
            if start == "moved":
                head += torch.randn(head.shape, generator=torch.Generator().manual_seed(1))

    @property
    def parameters(self) -> list[torch.nn.Parameter]:
        """The model's parameters."""
        return list(self.model.parameters())

    def draw(self, count: int, *, by: Any = "model", seed: int = 0) -> Answers:
        """Answers to prompts that are drawn as well.

        Args:
            count: How many.
            by: Who answers: the "model", the "reference", or the "optimum".
            seed: Seed of the draws.
        """
        rng = np.random.default_rng(seed)
        layers = {
            "model": lambda: self.problem.policy(self.model),
            "reference": lambda: self.problem.reference,
            "optimum": lambda: self.problem.optimum.log_probs,
        }[by]()
        chances = self.problem.answer_probabilities(layers)  # (P, Y)
        prompts = rng.integers(len(chances), size=count)
        edges = chances.cumsum(1)[prompts]
        which = (rng.random((count, 1)) * edges[:, -1:] > edges).sum(1)
        words, mask = self._listed()
        rewards = torch.from_numpy(self.problem.rewards[prompts, which])
        return Answers(torch.from_numpy(prompts), words[which], mask[which], rewards)

    def _listed(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Tokens and mask of every answer there is, `(Y, T)` each."""
        tree = self.tree
        words = np.zeros((tree.n_answers, tree.length), dtype=np.int64)
        mask = np.zeros((tree.n_answers, tree.length))
        for length in np.unique(tree.answer_lengths):
            rows = tree.answer_lengths == length
            ended = np.full((rows.sum(), tree.length + 1), tree.n_words)  # the end is one more word
            ended[:, :length] = tree.words(int(length))
            spoken = np.arange(tree.length) <= length
            words[rows] = np.where(spoken, ended[:, : tree.length], 0)
            mask[rows] = spoken
        return torch.from_numpy(words), torch.from_numpy(mask)

    def log_probs(self, answers: Answers, *, by: Literal["model", "reference"] = "model") -> Any:
        """Log-probability of each token, `(N, T)`, 0 behind the end; differentiable."""
        layers = self.problem.reference if by == "reference" else self.problem.policy(self.model)
        code = torch.zeros_like(answers.prompts)
        columns = []
        for place, layer in enumerate(layers):
            token = answers.tokens[:, place]
            spoken = answers.mask[:, place] > 0
            found = layer[answers.prompts, torch.where(spoken, code, 0), token]
            columns.append(torch.where(spoken, found, 0.0))
            code = code * self.tree.n_words + token
        return torch.stack(columns, 1)

    def objective(self) -> torch.Tensor:
        """`J`: the expected reward, less the price of leaving the reference model; exact."""
        return self.problem.objective(self.problem.policy(self.model))

    def likelihood(self, of: Literal["reference", "optimum"] = "reference") -> torch.Tensor:
        """Expected log-probability of what somebody else writes; exact."""
        source = self.problem.reference if of == "reference" else self.problem.optimum.log_probs
        chances = torch.from_numpy(self.problem.answer_probabilities(source))
        return (chances * self.tree.answer_log_probs(self.problem.policy(self.model))).sum(1).mean()

    def angle(self, loss: torch.Tensor, objective: torch.Tensor | None = None) -> float:
        """Degrees between the step of a loss and the exact gradient of an objective (`J`)."""
        exact = self.objective() if objective is None else objective
        return angle_to_true_gradient(loss, exact, self.parameters)
