"""PPO with defaults that fit language, and a penalty for leaving the reference model."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import stable_baselines3
import torch
from stable_baselines3.common.type_aliases import GymEnv, Schedule

from llm_gym.files.ranges import check_choice, check_numbers
from llm_gym.language_models.divergence import clip_gradients
from llm_gym.learning.base import AnswerLearner
from llm_gym.learning.divergence import check_losses
from llm_gym.learning.objective import KLPenalty
from llm_gym.learning.shaping import RewardShaping
from llm_gym.policy import TransformerActorCriticPolicy
from llm_gym.policy.tied_gradients import rows_alone


class PPO(AnswerLearner, stable_baselines3.PPO):
    """Stable-Baselines3's PPO on whole episodes, with a KL penalty in the reward.

    The loss is Stable-Baselines3's. What differs: rollouts of whole answers, one a row by default
    (`llm_gym.learning.rounds`), whole-episode minibatches (`llm_gym.EpisodeBuffer`), gamma 1, and
    the per-token reward `r_t - beta * (log pi - log pi_ref)`, with the reference's
    log-probabilities computed once a rollout.

    Args:
        policy: `"TransformerPolicy"` or a subclass of
            `llm_gym.TransformerActorCriticPolicy`.
        env: A Gymnasium vector environment (wrapped in `llm_gym.GymVecEnv`), or whatever
            Stable-Baselines3 takes.
        learning_rate: As in Stable-Baselines3.
        n_steps: Steps per environment and rollout, as in Stable-Baselines3: an answer is cut where
            a rollout ends, and read again in the next one. `None` cuts none.
        batch_size: Tokens per minibatch, filled with whole episodes.
        n_epochs: Passes over a rollout.
        gamma: Discount; 1.0, because the reward of a text is due to its first word as well.
        gae_lambda: See `llm_gym.learning.advantages.gae`.
        vf_coef: Weight of the value loss. A fifth of Stable-Baselines3's, since the critic's
            gradient goes into the transformer that it shares with the actor; the first RLHF code
            had the same (Huang et al., "The N implementation details of RLHF with PPO", 2023).
        max_grad_norm: Clipping of the gradient's norm.
        kl_coef: See `llm_gym.learning.objective.KLPenalty`.
        kl_target: See `KLPenalty`.
        kl_horizon: See `KLPenalty`.
        reference: See `KLPenalty`.
        reference_weights: See `KLPenalty`.
        reward_scaling: Divide rewards by a running estimate of the returns' standard deviation, so
            that a shared transformer hears the critic as loudly as the actor whatever the
            scorer's units. Logged rewards are not scaled.
        recompute_log_probs: See `llm_gym.learning.shaping.RewardShaping`.
        critic_start: Set a value head that is still zero to the mean return of the first rollout
            (`llm_gym.learning.critic_start`). From zero its loss shakes the shared transformer, and
            advantages tell where a token stands more than what it was worth.
        answers_per_rollout: Answers of a rollout, a multiple of the rows of `env`; `None` is one a
            row. Not with `n_steps`.
        turn_gamma: Discount at the end of each turn of a conversation (`llm_gym.TurnEnv`), in place
            of `gamma`; `None` is `gamma`.
        critic_gae_lambda: Lambda of the returns that the critic learns, where `gae_lambda` is that
            of the actor's advantages; `None` is `gae_lambda` (VC-PPO and VAPO take 1).
        length_adaptive_alpha: Has the actor's lambda follow from each answer's length
            (`llm_gym.learning.advantages.length_adaptive_lambda`; VAPO takes 0.05), in place of
            `gae_lambda`; `None` does not. Not with `n_steps`.
        critic_warmup: Rollouts at the beginning from which the critic learns alone
            (`llm_gym.learning.critic_warmup`): its value head, or all of a critic of its own.
        ent_coef: Weight of the entropy bonus. A function of the share of training that remains,
            from 1 to 0, is a schedule, as for `learning_rate`: a bonus that falls to 0 keeps many
            words likely while it is not known yet what they are worth, and costs nothing at the
            end.
        policy_kwargs: `dict(model=NAME_OR_PATH, ...)` for the policy.
        **kwargs: Further arguments of `stable_baselines3.PPO`, under the same names.

    Raises:
        ValueError: If an argument does not fit, naming it.
    """

    _counterpart = "stable_baselines3.PPO"

    def __init__(
        self,
        policy: str | type[TransformerActorCriticPolicy],
        env: GymEnv | gym.vector.VectorEnv | str,
        learning_rate: float | Schedule = 1e-4,
        n_steps: int | None = None,
        batch_size: int = 512,
        n_epochs: int = 4,
        gamma: float = 1.0,
        gae_lambda: float = 0.95,
        vf_coef: float = 0.1,
        max_grad_norm: float = 1.0,
        kl_coef: float | Schedule = 0.05,
        kl_target: float | None = None,
        kl_horizon: int = 10_000,
        reference: str | Path | None = None,
        reference_weights: str = "memory",
        reward_scaling: bool = True,
        recompute_log_probs: bool | None = None,
        critic_start: bool = True,
        answers_per_rollout: int | None = None,
        turn_gamma: float | None = None,
        critic_gae_lambda: float | None = None,
        length_adaptive_alpha: float | None = None,
        critic_warmup: int = 0,
        ent_coef: float | Schedule = 0.0,
        policy_kwargs: dict[str, Any] | None = None,
        _init_setup_model: bool = True,
        **kwargs: Any,
    ) -> None:
        check_choice("critic_start", critic_start, (True, False))
        check_choice("reward_scaling", reward_scaling, (True, False))
        whitens = kwargs.get("normalize_advantage", True)
        check_choice("normalize_advantage", whitens, (True, False))
        check_numbers(batch_size=batch_size)
        if whitens and batch_size == 1:
            raise ValueError(
                "batch_size=1 has one token, whose advantage cannot be whitened: raise it, or pass "
                "normalize_advantage=False"
            )
        self.critic_start = critic_start
        penalty = KLPenalty(
            kl_coef,
            kl_target,
            kl_horizon,
            reference=reference,
            reference_weights=reference_weights,
        )
        self.shaping: RewardShaping = RewardShaping(
            penalty, scale=reward_scaling, recompute_log_probs=recompute_log_probs
        )
        with warnings.catch_warnings():
            # Minibatches are whole episodes here: none is cut short by an uneven batch size.
            warnings.filterwarnings("ignore", "You have specified a mini-batch size of")
            super().__init__(
                policy,
                env,
                learning_rate=learning_rate,
                n_steps=n_steps,
                answers_per_rollout=answers_per_rollout,
                batch_size=batch_size,
                n_epochs=n_epochs,
                gamma=gamma,
                gae_lambda=gae_lambda,
                ent_coef=ent_coef,
                vf_coef=vf_coef,
                max_grad_norm=max_grad_norm,
                turn_gamma=turn_gamma,
                critic_gae_lambda=critic_gae_lambda,
                length_adaptive_alpha=length_adaptive_alpha,
                critic_warmup=critic_warmup,
                policy_kwargs=policy_kwargs,
                _init_setup_model=_init_setup_model,
                **kwargs,
            )

    def train(self) -> None:
        """As in Stable-Baselines3; also logs how far the very first ratio was from 1."""
        if self.is_warming_up:
            self._warm_up(self.batch_size, self.n_epochs)
            return
        old_log_prob = self._first_old_log_prob()
        tied = rows_alone(self.transformer.model)
        with self._telling_of_the_critic(), tied, self._watched_policy() as watched:
            super().train()
        check_losses(self.logger.name_to_value)
        if watched.norms:
            self.logger.record("train/grad_norm", float(np.mean(watched.norms)))
            clipped = float(np.mean(np.array(watched.norms) > self.max_grad_norm))
            self.logger.record("train/grad_clip_fraction", clipped)
        assert watched.first_log_prob is not None
        first = float(((watched.first_log_prob - old_log_prob).exp() - 1).abs().max())
        self.logger.record("train/first_ratio_deviation", first)
        self.logger.record("train/entropy", -self.logger.name_to_value["train/entropy_loss"])

    @contextmanager
    def _watched_policy(self) -> Iterator[_WatchedPolicy]:
        """Notes what Stable-Baselines3's update does not keep."""
        policy: Any = self.policy
        stand_in = _WatchedPolicy(policy, self.max_grad_norm)
        self.policy = stand_in  # type: ignore[assignment]
        try:
            yield stand_in
        finally:
            self.policy = policy

    def _first_old_log_prob(self) -> torch.Tensor:
        """Log-probabilities that the actions of the update's first minibatch had, float `(A,)`."""
        buffer = self.episodes
        order = buffer.rng.bit_generator.state
        samples = next(buffer.get(self.batch_size))
        buffer.rng.bit_generator.state = order  # `train` draws the same minibatch
        return samples.old_log_prob


class _WatchedPolicy:
    """A policy as Stable-Baselines3's update sees it, which asks for its parameters to clip them.

    They are clipped then, by the same function, and there is nothing left for it to clip: so the
    norm is known, and computed once.

    Attributes:
        norms: Of the gradients, before they are clipped.
        first_log_prob: Float `(A,)`, of the first minibatch, before anything is learnt.
    """

    def __init__(self, policy: TransformerActorCriticPolicy, max_norm: float) -> None:
        self._policy, self._max_norm = policy, max_norm
        self.norms: list[float] = []
        self.first_log_prob: torch.Tensor | None = None

    def __getattr__(self, name: str) -> Any:
        return getattr(self._policy, name)

    def evaluate_actions(self, *args: Any) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """As the policy's."""
        values, log_prob, entropy = self._policy.evaluate_actions(*args)
        if self.first_log_prob is None:
            self.first_log_prob = log_prob.detach()
        return values, log_prob, entropy

    def parameters(self) -> list[torch.nn.Parameter]:
        """None; see above."""
        policy = self._policy
        self.norms.append(clip_gradients(policy.optimizer, policy.parameters(), self._max_norm))
        return []
