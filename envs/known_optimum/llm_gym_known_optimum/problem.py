"""A problem whose optimum is known: what reinforcement learning should find, as numbers."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from llm_gym.statistics.best_of_n import BestOfN, best_of_n
from llm_gym_known_optimum.exact import Optimum, policy_values, sequence_kl, soft_optimum
from llm_gym_known_optimum.models import (
    action_log_probs,
    make_reference,
    make_tokenizer,
    prompt_ids,
    word_codes,
)
from llm_gym_known_optimum.rewards import draw_rewards
from llm_gym_known_optimum.tree import AnswerTree, Layers

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray
    from transformers import PreTrainedModel, PreTrainedTokenizerFast

__all__ = ["Evaluation", "KnownOptimum"]


@dataclass(frozen=True)
class Evaluation:
    """A policy, exactly; means over prompts, divergences in nats of whole answers.

    Attributes:
        objective: `J = E[r] - beta KL(pi || pi_ref)`.
        reward: `E[r]`.
        kl_to_reference: `KL(pi || pi_ref)`.
        kl_to_optimum: `KL(pi || pi*)`.
        length: Mean number of words of an answer.
        j_over_jstar: `J / J*`.
        gain: `(J - J_ref) / (J* - J_ref)`: 0 is the reference model, 1 the optimum.
    """

    objective: float
    reward: float
    kl_to_reference: float
    kl_to_optimum: float
    length: float
    j_over_jstar: float
    gain: float

    def as_dict(self) -> dict[str, float]:
        """By name."""
        return asdict(self)


class KnownOptimum:
    """A vocabulary, a length, a reference model, rewards of all answers, and a price of divergence.

    The objective is `J(pi) = mean over prompts of E[r] - beta KL(pi || pi_ref)`. Arrays over
    answers are `(P, Y)`: prompts, answers (in the order of `AnswerTree`); arrays over
    prefixes come layer by layer. All are float64.

    Args:
        tree: The answers.
        rewards: `(P, Y)` or, for one prompt, `(Y,)`.
        reference: The reference model, a causal language model whose vocabulary is the tree's
            actions.
        beta: Price of a nat of divergence from it, > 0.

    Attributes:
        tree: The answers.
        rewards: float64 `(P, Y)`.
        reference_model: The reference model.
        beta: Price of a nat.
        prompts: int64 `(P, prompt length)`.
        reference: Log-probabilities of the reference model's actions, layer by layer.
        optimum: Optimal policy, `V*` and `Q*`, layer by layer.

    Raises:
        ValueError: Shapes do not fit, a reward is not finite, or beta is not positive.
    """

    def __init__(
        self,
        tree: AnswerTree,
        rewards: ArrayLike,
        reference: PreTrainedModel,
        *,
        beta: float,
    ) -> None:
        table = np.atleast_2d(np.asarray(rewards, dtype=np.float64))
        if table.ndim != 2 or not len(table) or table.shape[1] != tree.n_answers:
            raise ValueError(
                f"rewards has shape {np.shape(rewards)}, but there are {tree.n_answers} answers to "
                "each prompt: pass (prompts, answers)"
            )
        if not np.isfinite(table).all():
            raise ValueError("rewards contains NaN or infinity")
        if isinstance(beta, bool) or not math.isfinite(beta) or beta <= 0:
            raise ValueError(f"beta={beta!r} must be a positive number")
        self.tree, self.beta = tree, float(beta)
        self.rewards: NDArray[np.float64] = table
        self.reference_model = reference
        self.prompts = prompt_ids(tree, len(table))
        with torch.no_grad():
            self.reference = action_log_probs(reference, tree, self.prompts)
        self._rewards = torch.from_numpy(table)
        self.optimum: Optimum = soft_optimum(tree, self.reference, self._rewards, self.beta)

    @classmethod
    def make(
        cls,
        family: str = "additive",
        *,
        vocab_size: int = 4,
        length: int = 4,
        num_prompts: int = 1,
        ends_early: bool | None = None,
        reference: str = "tabular",
        reference_spread: float = 1.0,
        beta: float = 0.1,
        problem_seed: int = 0,
    ) -> KnownOptimum:
        """A problem of one of the reward families, drawn with a seed.

        Args:
            family: See `draw_rewards`.
            vocab_size: Words V.
            length: Most words of an answer.
            num_prompts: P; every prompt has rewards of its own.
            ends_early: Whether one token more ends the answer; None: in family "length" alone.
            reference: `"tabular"` or `"transformer"`, see `make_reference`.
            reference_spread: How far the reference model is from uniform.
            beta: Price of a nat of divergence.
            problem_seed: Problem seed of rewards and reference model.

        Raises:
            ValueError: An argument has a value that is not allowed.
        """
        if isinstance(num_prompts, bool) or int(num_prompts) != num_prompts or num_prompts < 1:
            raise ValueError(f"num_prompts={num_prompts!r} must be a whole number of at least 1")
        if isinstance(problem_seed, bool) or int(problem_seed) != problem_seed or problem_seed < 0:
            raise ValueError(f"problem_seed={problem_seed!r} must be a whole number of at least 0")
        if not math.isfinite(reference_spread) or reference_spread < 0:
            raise ValueError(f"reference_spread={reference_spread!r} must be 0 or more")
        tree = AnswerTree(
            vocab_size, length, family == "length" if ends_early is None else ends_early
        )
        model = make_reference(
            reference, tree, num_prompts, spread=reference_spread, seed=problem_seed
        )
        rewards = draw_rewards(family, tree, num_prompts, problem_seed)
        return cls(tree, rewards, model, beta=beta)

    # ------------------------------------------------------------------ the optimum

    @property
    def n_prompts(self) -> int:
        """P."""
        return len(self.rewards)

    @property
    def log_z(self) -> NDArray[np.float64]:
        """Logarithm of `Z = E_ref[exp(r / beta)]`, `(P,)`."""
        return self.optimum.values[0][:, 0].numpy() / self.beta

    @property
    def optimal_objective(self) -> float:
        """`J* = beta log Z`, mean over prompts."""
        return self.beta * float(self.log_z.mean())

    @property
    def reference_objective(self) -> float:
        """`J` of the reference model: its expected reward."""
        return float(self.objective(self.reference))

    @property
    def optimal_answers(self) -> NDArray[np.float64]:
        """`pi*(y) = pi_ref(y) exp(r(y) / beta) / Z`, `(P, Y)`."""
        return self.answer_probabilities(self.optimum.log_probs)

    @property
    def reference_answers(self) -> NDArray[np.float64]:
        """`pi_ref(y)`, `(P, Y)`."""
        return self.answer_probabilities(self.reference)

    def best_of_n(self, n: float) -> list[BestOfN]:
        """Best-of-n of the reference model by the reward, exactly, one result a prompt.

        Args:
            n: Answers drawn, 1 or more (`llm_gym.statistics.best_of_n.best_of_n`).
        """
        return [
            best_of_n(p, r, n)[0] for p, r in zip(self.reference_answers, self.rewards, strict=True)
        ]

    # ------------------------------------------------------------------ any policy

    def policy(self, model: Any) -> Layers:
        """Log-probabilities of a model's actions, layer by layer (`action_log_probs`).

        Args:
            model: A causal language model or an `llm_gym` policy.
        """
        return action_log_probs(model, self.tree, self.prompts)

    def answer_probabilities(self, policy: Layers) -> NDArray[np.float64]:
        """Probability of each answer, `(P, Y)`."""
        with torch.no_grad():
            return self.tree.answer_log_probs(policy).exp().numpy()

    def objective(self, policy: Layers) -> torch.Tensor:
        """`J`, a scalar, differentiable: the exact sum over all answers."""
        penalty = sequence_kl(self.tree, policy, self.reference)  # (P,)
        return (self.expected_reward(policy) - self.beta * penalty).mean()

    def expected_reward(self, policy: Layers) -> torch.Tensor:
        """`E[r]` of each prompt, `(P,)`, differentiable."""
        return (self.tree.answer_log_probs(policy).exp() * self._rewards).sum(1)

    def values(self, policy: Layers) -> tuple[Layers, Layers]:
        """`V` and `Q` of a policy: what a perfect critic says (`policy_values`)."""
        return policy_values(self.tree, policy, self.reference, self._rewards, self.beta)

    @torch.no_grad()
    def evaluate(self, model: Any) -> Evaluation:
        """Everything about a policy that can be said in a number.

        Args:
            model: A causal language model, an `llm_gym` policy, or log-probabilities layer by
                layer.
        """
        policy = model if isinstance(model, tuple) else self.policy(model)
        objective, least = float(self.objective(policy)), self.reference_objective
        best = self.optimal_objective
        lengths = torch.from_numpy(self.tree.answer_lengths).double()
        return Evaluation(
            objective=objective,
            reward=float(self.expected_reward(policy).mean()),
            kl_to_reference=float(sequence_kl(self.tree, policy, self.reference).mean()),
            kl_to_optimum=float(sequence_kl(self.tree, policy, self.optimum.log_probs).mean()),
            length=float((self.tree.answer_log_probs(policy).exp() @ lengths).mean()),
            j_over_jstar=objective / best if best else math.nan,
            gain=(objective - least) / (best - least) if best > least else math.nan,
        )

    def gradient(self, model: Any, parameters: list[torch.nn.Parameter]) -> torch.Tensor:
        """Exact gradient of `J` in a model's parameters, flat.

        Args:
            model: A causal language model or an `llm_gym` policy.
            parameters: D numbers in all; those that `J` does not depend on get zeros.

        Returns:
            float64 `(D,)`.
        """
        with torch.enable_grad():
            objective = self.objective(self.policy(model))
        gradients = torch.autograd.grad(objective, parameters, allow_unused=True)
        return torch.cat(
            [
                (torch.zeros_like(p) if g is None else g).double().cpu().flatten()
                for p, g in zip(parameters, gradients, strict=True)
            ]
        )

    # ------------------------------------------------------------------ as text

    def tokenizer(self) -> PreTrainedTokenizerFast:
        """A tokenizer of the problem's words."""
        return make_tokenizer(self.tree)

    def prompt_texts(self) -> list[str]:
        """The prompts."""
        return [" ".join(f"w{int(word)}" for word in row) for row in self.prompts]

    def reward_of(self, prompt: str, completion: str) -> float:
        """Reward of an answer given as text.

        Raises:
            ValueError: The prompt or the answer is not one of the problem's.
        """
        texts = self.prompt_texts()
        if prompt not in texts:
            raise ValueError(f"{prompt!r} is not one of the {len(texts)} prompts {texts[:3]}...")
        answer = self.tree.index(word_codes(completion, self.tree.n_words))
        return float(self.rewards[texts.index(prompt), answer])

    def save_reference(self, directory: str | Path) -> str:
        """Writes the reference model and the tokenizer where a policy can load them.

        Args:
            directory: Made if it is not there.

        Returns:
            The directory, for `policy_kwargs=dict(model=...)`.
        """
        self.reference_model.save_pretrained(directory)
        self.tokenizer().save_pretrained(directory)
        return str(directory)
