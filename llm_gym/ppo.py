"""PPO with defaults that fit language, and a penalty for leaving the reference model."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any, ClassVar

import gymnasium as gym
import numpy as np
import stable_baselines3
import torch
from stable_baselines3.common.buffers import RolloutBuffer
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.policies import BasePolicy
from stable_baselines3.common.type_aliases import GymEnv, Schedule
from stable_baselines3.common.vec_env import VecEnv

from llm_gym.buffer import EpisodeBuffer
from llm_gym.kl import AdaptiveKLController, FixedKLController, kl_estimate
from llm_gym.policy import TransformerActorCriticPolicy
from llm_gym.reference import ReferenceModel
from llm_gym.vec_env import GymVecEnv

# Tokens that one pass of the reference or of a recomputation holds at a time.
_TOKENS_PER_PASS = 4096


class PPO(stable_baselines3.PPO):
    """Stable-Baselines3's PPO on whole episodes, with a KL penalty in the reward.

    The loop and the loss are Stable-Baselines3's. What differs: whole-episode minibatches
    (:class:`llm_gym.EpisodeBuffer`), gamma 1, one rollout of one episode's length by default, and
    the per-token reward ``r_t - beta * (log pi - log pi_ref)``, with the reference's
    log-probabilities computed once a rollout.

    Args:
        policy: ``"TransformerPolicy"`` or a subclass of
            :class:`llm_gym.TransformerActorCriticPolicy`.
        env: A Gymnasium vector environment (wrapped in :class:`llm_gym.GymVecEnv`), or whatever
            Stable-Baselines3 takes.
        learning_rate: As in Stable-Baselines3.
        n_steps: Steps per environment and rollout; ``None`` is the most tokens an episode has.
        batch_size: Tokens per minibatch, filled with whole episodes.
        n_epochs: Passes over a rollout.
        gamma: Discount; 1.0, because the reward of a text is due to its first word as well.
        gae_lambda: See :func:`llm_gym.advantages.gae`.
        vf_coef: Weight of the value loss.
        max_grad_norm: Clipping of the gradient's norm.
        kl_coef: Penalty per nat of divergence from the reference (initial, if adaptive), to be
            weighed against the reward of one whole episode; 0 is no reference at all.
        kl_target: Nats per sequence that the coefficient steers to; ``None`` keeps it fixed.
        kl_horizon: See :class:`llm_gym.kl.AdaptiveKLController`.
        reference: Name or path of the reference model; ``None`` is the policy as it starts.
        reward_scaling: Divide rewards by a running estimate of the returns' standard deviation, so
            that a shared transformer hears the critic as loudly as the actor whatever the
            scorer's units. Logged rewards are not scaled.
        recompute_log_probs: Take the old log-probabilities from one pass over the finished rollout
            instead of from decoding. ``None`` does so in mixed precision, where the two differ
            by rounding and the ratio would not start at 1.
        policy_kwargs: ``dict(model=NAME_OR_PATH, ...)`` for the policy.
        **kwargs: Further arguments of ``stable_baselines3.PPO``, under the same names.

    Raises:
        ValueError: If an argument does not fit, naming it.
    """

    policy_aliases: ClassVar[dict[str, type[BasePolicy]]] = {
        "TransformerPolicy": TransformerActorCriticPolicy
    }

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
        vf_coef: float = 0.5,
        max_grad_norm: float = 1.0,
        kl_coef: float = 0.05,
        kl_target: float | None = None,
        kl_horizon: int = 10_000,
        reference: str | Path | None = None,
        reward_scaling: bool = True,
        recompute_log_probs: bool | None = None,
        policy_kwargs: dict[str, Any] | None = None,
        _init_setup_model: bool = True,
        **kwargs: Any,
    ) -> None:
        if isinstance(env, gym.vector.VectorEnv):
            env = GymVecEnv(env)
        elif isinstance(env, str):
            env = gym.make(env)
        if n_steps is None and env is not None:
            n_steps = _episode_length(env)
        self.kl_controller: FixedKLController | AdaptiveKLController = (
            FixedKLController(kl_coef)
            if kl_target is None
            else AdaptiveKLController(kl_coef, kl_target, kl_horizon)
        )
        self.reference_name = None if reference is None else str(reference)
        self.reward_scaling = reward_scaling
        self.return_statistics = RunningMoments()
        self.recompute_log_probs = recompute_log_probs
        self.reference: ReferenceModel | None = None
        self.rollout_statistics: dict[str, float] = {}
        kwargs.setdefault("rollout_buffer_class", EpisodeBuffer)
        with warnings.catch_warnings():
            # Minibatches are whole episodes here: none is cut short by an uneven batch size.
            warnings.filterwarnings("ignore", "You have specified a mini-batch size of")
            super().__init__(
                policy,
                env,
                learning_rate=learning_rate,
                n_steps=2 if n_steps is None else n_steps,  # `load` sets env and n_steps later
                batch_size=batch_size,
                n_epochs=n_epochs,
                gamma=gamma,
                gae_lambda=gae_lambda,
                vf_coef=vf_coef,
                max_grad_norm=max_grad_norm,
                policy_kwargs=policy_kwargs,
                _init_setup_model=_init_setup_model,
                **kwargs,
            )

    def _setup_model(self) -> None:
        super()._setup_model()
        if not isinstance(self.rollout_buffer, EpisodeBuffer):
            raise ValueError(
                f"rollout_buffer_class={type(self.rollout_buffer).__name__} must be "
                "llm_gym.EpisodeBuffer or a subclass; use stable_baselines3.PPO for other buffers"
            )
        if not isinstance(self.policy, TransformerActorCriticPolicy):
            raise ValueError(
                f"policy={type(self.policy).__name__} must be a TransformerActorCriticPolicy; "
                "use stable_baselines3.PPO for other policies"
            )
        if self.kl_controller.coef > 0 or self.reference_name is not None:
            self.reference = ReferenceModel.of(self.policy, self.reference_name)
        if self.recompute_log_probs is None:
            self.recompute_log_probs = self.policy.mixed_precision != "no"
        self.rollout_buffer.before_returns = self._shape_rewards

    def _excluded_save_params(self) -> list[str]:
        return [*super()._excluded_save_params(), "reference"]

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
        coef = self.kl_controller.coef
        buffer.rewards -= coef * log_ratio
        complete = [s for s in segments if buffer.complete(s)]
        self.rollout_statistics |= {
            "kl_coef": coef,
            "kl_per_token": float(log_ratio.mean()),
            "kl_k3_per_token": float(kl_estimate(log_ratio, "k3").mean()),
        }
        if complete:
            sums = [log_ratio[s.start : s.stop, s.env].sum() for s in complete]
            self.rollout_statistics["kl_per_sequence"] = float(np.mean(sums))
            self.kl_controller.update(float(np.mean(sums)), len(sums))

    def collect_rollouts(
        self,
        env: VecEnv,
        callback: BaseCallback,
        rollout_buffer: RolloutBuffer,
        n_rollout_steps: int,
    ) -> bool:
        """As in Stable-Baselines3, and logs what is known of the rollout."""
        goes_on = super().collect_rollouts(env, callback, rollout_buffer, n_rollout_steps)
        for name, value in self.rollout_statistics.items():
            self.logger.record(f"rollout/{name}", value)
        return goes_on

    def train(self) -> None:
        """As in Stable-Baselines3; also logs how far the very first ratio was from 1."""
        assert isinstance(self.policy, TransformerActorCriticPolicy)
        first: list[float] = []
        buffer = self.rollout_buffer
        assert isinstance(buffer, EpisodeBuffer)

        def note_first(log_prob: torch.Tensor) -> None:
            if not first:
                assert buffer.last_samples is not None
                ratio = (log_prob - buffer.last_samples.old_log_prob).exp()
                first.append(float((ratio - 1).abs().max()))

        self.policy.evaluation_observer = note_first
        try:
            super().train()
        finally:
            self.policy.evaluation_observer = None
        self.logger.record("train/first_ratio_deviation", first[0])
        self.logger.record("train/entropy", -self.logger.name_to_value["train/entropy_loss"])


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


def _episode_length(env: gym.Env | VecEnv) -> int:
    try:
        if isinstance(env, VecEnv):
            return int(env.get_attr("max_new_tokens")[0])
        return int(env.get_wrapper_attr("max_new_tokens"))
    except AttributeError as error:
        raise ValueError(
            "n_steps=None needs an environment with the attribute max_new_tokens; pass n_steps, "
            "the number of steps per environment and rollout"
        ) from error


def _chunks(segments: list[Any]) -> list[list[Any]]:
    """Groups of segments, similar in length, of a bounded number of padded tokens."""
    length = lambda s: len(s.prefix) + s.stop - s.start  # noqa: E731
    chunks: list[list[Any]] = []
    for segment in sorted(segments, key=length, reverse=True):
        if chunks and (len(chunks[-1]) + 1) * length(chunks[-1][0]) <= _TOKENS_PER_PASS:
            chunks[-1].append(segment)
        else:
            chunks.append([segment])
    return chunks
