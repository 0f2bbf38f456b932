"""What llm_gym's own algorithms share: a reference, and a penalty in the rollout's rewards."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

import gymnasium as gym
import numpy as np
import torch
from stable_baselines3.common.buffers import RolloutBuffer
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.on_policy_algorithm import OnPolicyAlgorithm
from stable_baselines3.common.policies import BasePolicy
from stable_baselines3.common.type_aliases import GymEnv, Schedule
from stable_baselines3.common.vec_env import VecEnv

from llm_gym.learning.buffer import EpisodeBuffer, Segment
from llm_gym.learning.kl import (
    AdaptiveKLController,
    FixedKLController,
    ReferenceModel,
    ScheduledKLController,
    kl_estimate,
)
from llm_gym.learning.vec_env import GymVecEnv
from llm_gym.policy import TransformerActorCriticPolicy

# Tokens that one pass of the reference or of a recomputation holds at a time.
_TOKENS_PER_PASS = 4096


class PenalisedRewards(OnPolicyAlgorithm):
    """An on-policy algorithm whose rollouts pay for leaving the reference model.

    Comes before Stable-Baselines3's class among the bases. Call `_set_rewards` before
    `super().__init__`.

    Attributes:
        kl_controller: Holds the penalty's coefficient.
        reference: The reference model, or `None`.
        reference_log_probs: float32 `(T, N)`, its log-probabilities of the last rollout's tokens.
        rollout_statistics: What is known of the last rollout, logged as `rollout/NAME`.
    """

    policy_aliases: ClassVar[dict[str, type[BasePolicy]]] = {
        "TransformerPolicy": TransformerActorCriticPolicy
    }
    #: Stable-Baselines3's algorithm to use with other policies and buffers.
    _counterpart: ClassVar[str]
    #: The estimate subtracted from each token's reward; `None` leaves rewards alone.
    _reward_estimator: str | None = "k1"

    def _set_rewards(
        self,
        *,
        kl_coef: float | Schedule,
        kl_target: float | None,
        kl_horizon: int,
        reference: str | Path | None,
        reward_scaling: bool,
        recompute_log_probs: bool | None,
    ) -> None:
        """Takes the settings that `llm_gym.PPO` documents."""
        self.kl_controller = _kl_controller(kl_coef, kl_target, kl_horizon)
        self.reference_name = None if reference is None else str(reference)
        self.reward_scaling = reward_scaling
        self.return_statistics = RunningMoments()
        self.recompute_log_probs = recompute_log_probs
        self.reference: ReferenceModel | None = None
        self.reference_log_probs = np.zeros((0, 0), dtype=np.float32)
        self.rollout_statistics: dict[str, float] = {}

    def _setup_model(self) -> None:
        super()._setup_model()
        if not isinstance(self.rollout_buffer, EpisodeBuffer):
            raise ValueError(
                f"rollout_buffer_class={type(self.rollout_buffer).__name__} must be "
                f"llm_gym.EpisodeBuffer or a subclass; use {self._counterpart} for other buffers"
            )
        if not isinstance(self.policy, TransformerActorCriticPolicy):
            raise ValueError(
                f"policy={type(self.policy).__name__} must be a TransformerActorCriticPolicy; "
                f"use {self._counterpart} for other policies"
            )
        scheduled = isinstance(self.kl_controller, ScheduledKLController)  # may begin at 0
        if scheduled or self.kl_controller.coef > 0 or self.reference_name is not None:
            self.reference = ReferenceModel.of(self.policy, self.reference_name)
        if self.recompute_log_probs is None:
            self.recompute_log_probs = self.policy.mixed_precision != "no"
        self.rollout_buffer.before_returns = self._shape_rewards

    def _excluded_save_params(self) -> list[str]:
        return [*super()._excluded_save_params(), "reference", "reference_log_probs"]

    def collect_rollouts(
        self,
        env: VecEnv,
        callback: BaseCallback,
        rollout_buffer: RolloutBuffer,
        n_rollout_steps: int,
    ) -> bool:
        """As in Stable-Baselines3, and logs what is known of the rollout."""
        goes_on = super().collect_rollouts(env, callback, rollout_buffer, n_rollout_steps)
        self._log_rollout()
        return goes_on

    def _log_rollout(self) -> None:
        for name, value in self.rollout_statistics.items():
            self.logger.record(f"rollout/{name}", value)

    # ------------------------------------------------------------------ after a rollout

    def _shape_rewards(self, buffer: EpisodeBuffer) -> None:
        """Subtracts the KL penalty from, and scales, the rollout's rewards; notes statistics."""
        segments = buffer.segments()
        complete = [s for s in segments if buffer.complete(s)]
        self.rollout_statistics = {}
        if self.recompute_log_probs or self.reference is not None:
            self._penalise(buffer)
        if complete:
            returns = np.array([buffer.rewards[s.start : s.stop, s.env].sum() for s in complete])
            self.rollout_statistics["penalised_return_mean"] = float(returns.mean())
            if self.reward_scaling:
                self.return_statistics.update(returns)
        if self.reward_scaling:
            buffer.rewards /= self.return_statistics.std

    def _penalise(self, buffer: EpisodeBuffer) -> None:
        segments = buffer.segments()
        log_ratio = np.zeros_like(buffer.rewards)
        for members in _chunks(segments):
            batch = buffer.episode_batch(members)
            places = buffer.places(members)
            if self.recompute_log_probs:
                with torch.no_grad():
                    log_prob = self.policy.evaluate_actions(batch, batch.actions)[1]  # type: ignore[arg-type]
                buffer.log_probs[places] = log_prob.float().cpu().numpy()
            if self.reference is not None:
                reference = self.reference.log_probs(batch).float().cpu().numpy()
                log_ratio[places] = buffer.log_probs[places] - reference
        if self.reference is None:
            return
        self.reference_log_probs = buffer.log_probs - log_ratio
        if self._total_timesteps:  # of `learn`
            # As Stable-Baselines3 does next, for the learning rate of the same update.
            self._update_current_progress_remaining(self.num_timesteps, self._total_timesteps)
            self.kl_controller.advance(self._current_progress_remaining)
        coef = self.kl_controller.coef
        if self._reward_estimator is not None:
            buffer.rewards -= coef * kl_estimate(log_ratio, self._reward_estimator)
        complete = [s for s in segments if buffer.complete(s)]
        of_tokens = log_ratio[buffer.places(segments)]
        self.rollout_statistics |= {
            "kl_coef": coef,
            "kl_per_token": float(of_tokens.mean()),
            "kl_k3_per_token": float(kl_estimate(of_tokens, "k3").mean()),
        }
        if complete:
            sums = [log_ratio[s.start : s.stop, s.env].sum() for s in complete]
            self.rollout_statistics["kl_per_sequence"] = float(np.mean(sums))
            self.kl_controller.update(float(np.mean(sums)), len(sums))


def _kl_controller(
    kl_coef: float | Schedule, kl_target: float | None, kl_horizon: int
) -> FixedKLController:
    if callable(kl_coef):
        if kl_target is not None:
            raise ValueError(
                f"kl_target={kl_target} steers the coefficient and so does a schedule in kl_coef: "
                "pass a number as kl_coef, or kl_target=None"
            )
        return ScheduledKLController(kl_coef)
    if kl_target is None:
        return FixedKLController(kl_coef)
    return AdaptiveKLController(kl_coef, kl_target, kl_horizon)


class RunningMoments:
    """Mean and variance of everything seen (Chan et al., 1979, parallel form)."""

    def __init__(self) -> None:
        self.mean, self.var, self.count = 0.0, 1.0, 0

    @property
    def std(self) -> float:
        """Standard deviation; 1 while nothing, or nothing but equal values, was seen."""
        return float(np.sqrt(self.var)) if self.count and self.var > 1e-12 else 1.0

    def update(self, values: np.ndarray) -> None:
        """Takes in a batch of values."""
        mean, var, n = float(values.mean()), float(values.var()), len(values)
        delta, total = mean - self.mean, self.count + n
        squares = (self.var * self.count if self.count else 0.0) + var * n
        squares += delta**2 * self.count * n / total
        self.mean += delta * n / total
        self.var, self.count = squares / total, total


def as_vec_env(env: GymEnv | gym.vector.VectorEnv | str) -> GymEnv:
    """What Stable-Baselines3 can train on: vector environments wrapped, ids made."""
    if isinstance(env, gym.vector.VectorEnv):
        return GymVecEnv(env)
    return gym.make(env) if isinstance(env, str) else env


def episode_length(env: gym.Env | VecEnv) -> int:
    """The most tokens an episode has.

    Raises:
        ValueError: If the environment does not say.
    """
    try:
        if isinstance(env, VecEnv):
            return int(env.get_attr("max_new_tokens")[0])
        return int(env.get_wrapper_attr("max_new_tokens"))
    except AttributeError as error:
        raise ValueError(
            "n_steps=None needs an environment with the attribute max_new_tokens; pass n_steps, "
            "the number of steps per environment and rollout"
        ) from error


def _chunks(segments: list[Segment]) -> list[list[Segment]]:
    """Groups of segments, similar in length, of a bounded number of padded tokens."""
    length = lambda s: len(s.prefix) + s.stop - s.start  # noqa: E731
    chunks: list[list[Segment]] = []
    for segment in sorted(segments, key=length, reverse=True):
        if chunks and (len(chunks[-1]) + 1) * length(chunks[-1][0]) <= _TOKENS_PER_PASS:
            chunks[-1].append(segment)
        else:
            chunks.append([segment])
    return chunks
