"""Expert iteration: sample, keep the best answers, imitate them, and again."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import torch
from numpy.typing import NDArray
from stable_baselines3.common.type_aliases import GymEnv, Schedule
from stable_baselines3.common.vec_env import VecEnv

from llm_gym.files.ranges import check_choice, check_numbers
from llm_gym.language_models.model_objects import ModelLike, named
from llm_gym.learning.answer_algorithm import AnswerAlgorithm
from llm_gym.learning.kl import REFERENCE_WEIGHTS
from llm_gym.parallel import world
from llm_gym.policy import TransformerActorCriticPolicy
from llm_gym.text.answer import Answer


class ExpertIteration(AnswerAlgorithm):
    """RAFT (Dong et al., 2304.06767, algorithm 1): supervised learning on the best answers.

    Each iteration samples groups of answers, keeps the best one of each group (or the best share
    of all, or those that reach a threshold) and minimises `-log pi(y | x)` on them. The name
    expert iteration is Anthony et al.'s (1705.08439); the expert here is best-of-n.

    It needs no critic and no scale of scores, only their order. Its signal is that of the kept
    answers alone: nothing is learnt from a bad answer but that it was not kept.

    Args:
        policy: `"TransformerPolicy"` or a subclass of
            `llm_gym.TransformerActorCriticPolicy`.
        env: A text vector environment; with `group_size` of at least 2 unless `top_share` or
            `threshold` is given.
        learning_rate: As in Stable-Baselines3.
        n_steps: Steps per environment and rollout; `None` is the most tokens an answer has.
        batch_size: Tokens of kept answers per minibatch, filled with whole answers.
        n_epochs: Passes over the kept answers.
        max_grad_norm: Clipping of the gradient's norm.
        top_share: Keep this share of all answers of the iteration, whatever their prompts, instead
            of the best of each group.
        threshold: Keep the answers with at least this score instead.
        kl_coef: Subtract `kl_coef * (log pi - log pi_ref)` of a whole answer from its score
            before choosing (RAFT's equation for the KL-penalised reward); 0 is no reference at
            all.
        reference: The reference model, as a policy's `model`; `None` is the policy as it
            starts.
        reference_weights: Where the reference's weights are: in `"memory"`, there as `"bfloat16"`,
            or on the `"disk"` and in memory only while it reads (see
            `llm_gym.learning.kl.ReferenceModel.of`).
        sample_once: See `SFTOnBest`.
        policy_kwargs: `dict(model=NAME_OR_PATH, ...)` for the policy.
        **kwargs: `seed`, `device`, `verbose`, ... as in Stable-Baselines3.

    Raises:
        ValueError: If an argument or the environment does not fit, naming it.
    """

    def __init__(
        self,
        policy: str | type[TransformerActorCriticPolicy],
        env: GymEnv | gym.vector.VectorEnv | str,
        learning_rate: float | Schedule = 1e-4,
        n_steps: int | None = None,
        batch_size: int = 512,
        n_epochs: int = 1,
        max_grad_norm: float = 1.0,
        top_share: float | None = None,
        threshold: float | None = None,
        kl_coef: float = 0.0,
        reference: ModelLike | None = None,
        reference_weights: str = "memory",
        sample_once: bool = False,
        policy_kwargs: dict[str, Any] | None = None,
        _init_setup_model: bool = True,
        **kwargs: Any,
    ) -> None:
        if top_share is not None and threshold is not None:
            raise ValueError(
                f"top_share={top_share} and threshold={threshold} are two ways to choose; give one"
            )
        if top_share is not None:
            check_numbers(top_share=top_share)
        if threshold is not None:
            check_numbers(threshold=threshold)
        check_numbers(kl_coef=kl_coef)
        self.top_share, self.threshold, self.kl_coef = top_share, threshold, kl_coef
        check_choice("reference_weights", reference_weights, REFERENCE_WEIGHTS)
        self.reference_name = named(reference, "reference")
        self.reference_weights = reference_weights
        super().__init__(
            policy,
            env,
            learning_rate,
            n_steps,
            batch_size,
            n_epochs,
            max_grad_norm,
            sample_once,
            policy_kwargs,
            _init_setup_model,
            **kwargs,
        )

    def _fit_to(self, env: VecEnv) -> None:
        super()._fit_to(env)
        if self.top_share is None and self.threshold is None and self.group_size < 2:
            raise ValueError(
                f"{type(self).__name__} keeps the best answer of each group, but env has "
                f"group_size={self.group_size}; make it with group_size=4, or pass top_share or "
                "threshold"
            )

    def _needs_reference(self) -> bool:
        return self.kl_coef > 0 or self.reference_name is not None

    def _reference_source(self) -> tuple[str | Path | None, str]:
        return self.reference_name, self.reference_weights

    def fit(self, groups: list[list[Answer]]) -> None:
        """Imitates the best answers of finished groups."""
        kept = self.select(groups if self.reference is None else self._penalised(groups))
        n_kept = int(world().sums(len(kept))[0])
        self.logger.record("train/kept_answers", n_kept)
        if not n_kept:
            self.warn_if_all_for_nothing(f"no answer reaches threshold={self.threshold}")
            return
        lengths = [answer.num_tokens for answer in kept]
        scores = world().union(np.array([_score(answer) for answer in kept]))
        self.logger.record("rollout/kept_score_mean", float(scores.mean()))

        def loss_of(members: NDArray[np.int64]) -> tuple[torch.Tensor, dict[str, float]]:
            _, token_log_probs = self.log_probs([kept[index] for index in members])
            return -token_log_probs.mean(), {}

        statistics = self.descend(lengths, loss_of, weights=lengths)
        self.logger.record("train/loss", statistics["loss"])

    def select(self, groups: Sequence[Sequence[Answer]]) -> list[Answer]:
        """The answers to imitate."""
        if self.top_share is not None:
            return best_share(groups, self.top_share)
        if self.threshold is not None:
            return above_threshold(groups, self.threshold)
        return best_of_each(groups)

    def _penalised(self, groups: list[list[Answer]]) -> list[list[Answer]]:
        """The same answers, the price of their divergence taken off their scores."""
        answers = [answer for group in groups for answer in group]
        log_ratio = self.policy_log_probs(answers) - self.reference_log_probs(answers)  # (B,)
        of_all = world().union(log_ratio.cpu().numpy())
        self.logger.record("rollout/kl_per_sequence", float(of_all.mean()))
        penalties = iter((self.kl_coef * log_ratio).tolist())
        return [
            [replace(answer, score=_score(answer) - next(penalties)) for answer in group]
            for group in groups
        ]


class SFTOnBest(ExpertIteration):
    """One round of expert iteration: sample everything first, then imitate the best of each group.

    The plain contrast to `ExpertIteration` at equal samples: all answers come from the
    policy as it starts, so the best that imitation can reach is best-of-n of that policy, however
    long it learns. The same arguments; `sample_once` is true.
    """

    def __init__(
        self,
        policy: str | type[TransformerActorCriticPolicy],
        env: GymEnv | gym.vector.VectorEnv | str,
        sample_once: bool = True,
        **kwargs: Any,
    ) -> None:
        if not sample_once:
            raise ValueError("sample_once=False is expert iteration: use ExpertIteration")
        super().__init__(policy, env, sample_once=True, **kwargs)


def best_of_each(groups: Sequence[Sequence[Answer]]) -> list[Answer]:
    """The best answer of each group.

    Of equally good ones the first row's: rows are interchangeable, so that is a draw by lot.
    """
    return [max(group, key=_score) for group in groups]


def best_share(groups: Sequence[Sequence[Answer]], share: float) -> list[Answer]:
    """The best answers of all, whatever their prompts: this share of them, rounded up.

    In several processes those of its own that are among the best of all processes.
    """
    answers = [answer for group in groups for answer in group]
    ranks = world().union(np.full(len(answers), world().rank))
    scores = world().union(np.array([_score(answer) for answer in answers]))
    best = np.argsort(-scores, kind="stable")[: math.ceil(share * len(scores))]
    own = best[ranks[best] == world().rank] - np.searchsorted(ranks, world().rank)
    return [answers[index] for index in own]


def above_threshold(groups: Sequence[Sequence[Answer]], threshold: float) -> list[Answer]:
    """The answers with at least this score."""
    return [answer for group in groups for answer in group if _score(answer) >= threshold]


def _score(answer: Answer) -> float:
    assert answer.score is not None
    return answer.score
