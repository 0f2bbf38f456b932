"""DPO on an environment: pairs of sampled answers, labelled by the scorer, then compared."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

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
from llm_gym.learning.losses import check_loss_settings, dpo_loss
from llm_gym.parallel import world
from llm_gym.policy import TransformerActorCriticPolicy
from llm_gym.text.answer import Answer

LABELS = ("soft", "bradley_terry", "deterministic")


class AnswerPair(NamedTuple):
    """Two answers to one prompt.

    Attributes:
        chosen: The preferred answer.
        rejected: The other one.
        doubt: Probability that it is the other way round.
    """

    chosen: Answer
    rejected: Answer
    doubt: float


class DPO(AnswerAlgorithm):
    """Direct preference optimisation (Rafailov et al., 2305.18290) against an environment's scorer.

    Answers are sampled in groups; rows 2i and 2i + 1 of a group are a pair, which the scorer
    labels. Learning works on the sampled token ids: nothing is encoded again. By default the pairs
    come from the policy as it starts and everything is sampled before anything is learnt, as DPO is
    meant; with `online` each iteration labels fresh pairs of the policy as it is then (Guo et
    al., 2402.04792). The reference is the policy as it starts in both, also when `learn` is
    called again and samples from what the policy has become.

    With `labels` other than `"deterministic"` the optimum is
    `pi_ref * exp(score / (beta * label_scale)) / Z`, so a run is comparable with reinforcement
    learning at `kl_coef = beta * label_scale`.

    To learn from stored preferences of people, see `llm_gym.feedback.dpo.dpo.train_dpo`.

    Args:
        policy: `"TransformerPolicy"` or a subclass of
            `llm_gym.TransformerActorCriticPolicy`.
        env: A text vector environment with an even `group_size`.
        learning_rate: As in Stable-Baselines3.
        n_steps: Steps per environment and rollout; `None` is the most tokens an answer has.
        batch_size: Tokens of both answers of the pairs per minibatch, filled with whole pairs.
        n_epochs: Passes over the pairs.
        max_grad_norm: Clipping of the gradient's norm.
        beta: Price of a nat of divergence, see `dpo_loss`.
        label_smoothing: Share of labels taken to be wrong, see `dpo_loss`.
        loss: `"sigmoid"` or `"ipo"`.
        labels: How scores become labels: `"bradley_terry"` draws one with probability
            `sigmoid(difference / label_scale)`, as a person might; `"soft"` uses that
            probability itself, which has the same expectation and no noise; `"deterministic"`
            prefers the better score, and leaves out ties.
        label_scale: Difference of scores that makes a nat of log-odds.
        online: Sample fresh pairs each iteration.
        reference: The reference model, as a policy's `model`; `None` is the policy as it
            starts.
        reference_weights: Where the reference's weights are: in `"memory"`, there as `"bfloat16"`,
            or on the `"disk"` and in memory only while it reads (see
            `llm_gym.learning.kl.ReferenceModel.of`).
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
        batch_size: int = 1024,
        n_epochs: int = 1,
        max_grad_norm: float = 1.0,
        beta: float = 0.1,
        label_smoothing: float = 0.0,
        loss: str = "sigmoid",
        labels: str = "soft",
        label_scale: float = 1.0,
        online: bool = False,
        reference: ModelLike | None = None,
        reference_weights: str = "memory",
        policy_kwargs: dict[str, Any] | None = None,
        _init_setup_model: bool = True,
        **kwargs: Any,
    ) -> None:
        check_loss_settings(beta, label_smoothing, loss)
        check_choice("labels", labels, LABELS)
        check_choice("online", online, (True, False))
        check_numbers(label_scale=label_scale)
        self.beta, self.label_smoothing, self.loss = beta, label_smoothing, loss
        self.labels, self.label_scale, self.online = labels, label_scale, online
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
            not online,
            policy_kwargs,
            _init_setup_model,
            **kwargs,
        )

    def _fit_to(self, env: VecEnv) -> None:
        super()._fit_to(env)
        if self.group_size % 2:
            raise ValueError(
                f"DPO compares two answers to one prompt, but env has "
                f"group_size={self.group_size}; make it with group_size=2"
            )

    def _needs_reference(self) -> bool:
        return True

    def _reference_source(self) -> tuple[str | Path | None, str]:
        return self.reference_name, self.reference_weights

    def fit(self, groups: list[list[Answer]]) -> None:
        """Learns from the pairs in finished groups."""
        pairs = label_pairs(groups, self.labels, self.label_scale, self.episodes.rng)
        n_pairs = int(world().sums(len(pairs))[0])
        self.logger.record("train/pairs", n_pairs)
        if not n_pairs:
            self.warn_if_all_for_nothing("no pair of answers has a difference to learn from")
            return
        doubts = torch.tensor([pair.doubt for pair in pairs], device=self.device)
        smoothing = self.label_smoothing + (1 - 2 * self.label_smoothing) * doubts
        # Once for all epochs: the reference does not change. Answers to one prompt side by side.
        answers = [answer for pair in pairs for answer in (pair.chosen, pair.rejected)]
        reference = self.reference_log_probs(answers).view(len(pairs), 2)

        def loss_of(members: NDArray[np.int64]) -> tuple[torch.Tensor, dict[str, float]]:
            chosen = [pairs[index].chosen for index in members]
            rejected = [pairs[index].rejected for index in members]
            log_probs = self.log_probs([*chosen, *rejected])[0]  # (2B,)
            log_chosen, log_rejected = log_probs[: len(members)], log_probs[len(members) :]
            result = dpo_loss(
                log_chosen,
                log_rejected,
                reference[members, 0],
                reference[members, 1],
                beta=self.beta,
                label_smoothing=smoothing[members],
                loss=self.loss,
            )
            margins = result.chosen_rewards - result.rejected_rewards
            return result.losses.mean(), {
                "accuracy": float((margins.sign() / 2 + 0.5).mean()),
                "margin": float(margins.mean()),
                "chosen_log_prob": float(log_chosen.detach().mean()),
                "rejected_log_prob": float(log_rejected.detach().mean()),
            }

        lengths = [pair.chosen.num_tokens + pair.rejected.num_tokens for pair in pairs]
        for name, value in self.descend(lengths, loss_of, answers_per_item=2).items():
            self.logger.record(f"train/{name}", value)


def label_pairs(
    groups: Sequence[Sequence[Answer]], labels: str, scale: float, rng: np.random.Generator
) -> list[AnswerPair]:
    """Pairs up the members of each group and says which answer is preferred.

    Args:
        groups: Scored answers; members 0 and 1 are a pair, 2 and 3, and so on, so that no answer is
            in two pairs and the pairs are independent.
        labels: `"soft"`, `"bradley_terry"` or `"deterministic"`, see `DPO`.
        scale: Difference of scores that makes a nat of log-odds.
        rng: Draws the labels.

    Returns:
        The pairs; those of identical answers say nothing and are left out, as are ties under
        `"deterministic"`.
    """
    pairs = []
    for group in groups:
        for first, second in zip(group[::2], group[1::2], strict=False):
            assert first.score is not None
            assert second.score is not None
            better, worse = (first, second) if first.score >= second.score else (second, first)
            difference = abs(first.score - second.score)
            is_tie = labels == "deterministic" and difference == 0
            if first.completion_ids == second.completion_ids or is_tie:
                continue
            # 1 - sigmoid, written so that it does not overflow
            doubt = math.exp(-difference / scale) / (1 + math.exp(-difference / scale))
            if labels == "soft":
                pairs.append(AnswerPair(better, worse, doubt))
            elif labels == "bradley_terry" and rng.random() < doubt:
                pairs.append(AnswerPair(worse, better, 0.0))
            else:
                pairs.append(AnswerPair(better, worse, 0.0))
    return pairs
