"""What llm_gym's algorithms share: environments, checks, a reference, and shaped rewards."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import gymnasium as gym
import numpy as np
import torch
from numpy.typing import NDArray
from stable_baselines3.common.buffers import RolloutBuffer
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.on_policy_algorithm import OnPolicyAlgorithm
from stable_baselines3.common.policies import BasePolicy
from stable_baselines3.common.type_aliases import GymEnv
from stable_baselines3.common.vec_env import VecEnv

from llm_gym.learning.buffer import EpisodeBuffer, Segment
from llm_gym.learning.kl import ReferenceModel, kl_estimate
from llm_gym.learning.vec_env import GymVecEnv
from llm_gym.policy import TransformerActorCriticPolicy
from llm_gym.policy.setup import check_setup, class_named

if TYPE_CHECKING:
    from llm_gym.learning.objective import KLPenalty
    from llm_gym.learning.rounds import Rounds

# Tokens that one pass of the reference or of a recomputation holds at a time.
_TOKENS_PER_PASS = 4096


class AnswerLearner(OnPolicyAlgorithm):
    """An on-policy algorithm that learns from answers of a language model.

    Where an algorithm of Stable-Baselines3 is a base as well, this class comes before it. Its parts
    say what a rollout is (`collector`) and what its rewards become (`shaping`); a subclass says how
    it learns, in `train`.

    Args:
        policy: `"TransformerPolicy"` or a subclass of `llm_gym.TransformerActorCriticPolicy`.
        env: A Gymnasium vector environment (wrapped in `llm_gym.GymVecEnv`), an id, or whatever
            Stable-Baselines3 takes.
        n_steps: Steps per environment and rollout; `None` is the most tokens an episode has.
        **kwargs: Arguments of Stable-Baselines3's algorithm.

    Attributes:
        group_size: Rows `k*G .. k*G + G-1` of the environment answer the same prompt; 1 where it
            does not say.
        reference: The reference model, or `None`.
        shaping: What a rollout's rewards become, or `None` if they stay what they are.
        collector: Plays rollouts of whole episodes; `None` leaves them to Stable-Baselines3.

    Raises:
        ValueError: If an argument or the environment does not fit, naming it.
    """

    #: What the policy must be, and what "TransformerPolicy" is short for.
    policy_type: ClassVar[type[TransformerActorCriticPolicy]] = TransformerActorCriticPolicy
    policy_aliases: ClassVar[dict[str, type[BasePolicy]]] = {
        "TransformerPolicy": TransformerActorCriticPolicy
    }
    #: Stable-Baselines3's algorithm to use with other policies and buffers.
    _counterpart: ClassVar[str] = "an algorithm of stable_baselines3"

    group_size = 1
    shaping: RewardShaping | None = None
    collector: Rounds | None = None

    def __init__(
        self,
        policy: str | type[TransformerActorCriticPolicy],
        env: GymEnv | gym.vector.VectorEnv | str,
        *,
        n_steps: int | None,
        **kwargs: Any,
    ) -> None:
        self.reference: ReferenceModel | None = None
        self._whole_episode_steps = n_steps is None
        kwargs.setdefault("rollout_buffer_class", EpisodeBuffer)
        super().__init__(
            policy,
            gym.make(env) if isinstance(env, str) else env,  # type: ignore[arg-type]
            n_steps=2 if n_steps is None else n_steps,  # found in the environment below
            **kwargs,
        )

    @staticmethod
    def _wrap_env(
        env: GymEnv | gym.vector.VectorEnv | str, verbose: int = 0, monitor_wrapper: bool = True
    ) -> VecEnv:
        if isinstance(env, gym.vector.VectorEnv):
            env = GymVecEnv(env)
        if isinstance(env, str):
            env = gym.make(env)
        return OnPolicyAlgorithm._wrap_env(env, verbose, monitor_wrapper)

    def set_env(self, env: GymEnv | gym.vector.VectorEnv | str, force_reset: bool = True) -> None:
        """As in Stable-Baselines3, for whatever the constructor takes.

        Args:
            env: The environment; lengths and groups are its own from now on.
            force_reset: Begin new episodes.

        Raises:
            ValueError: It has other spaces or another number of rows, or the algorithm cannot run
                on it.
        """
        super().set_env(env, force_reset)  # type: ignore[arg-type]
        assert self.env is not None
        check_setup(self)
        self.group_size = group_size_of(self.env)
        self._fit_to(self.env)
        if self.rollout_buffer.buffer_size != self.n_steps:
            self.rollout_buffer.buffer_size = self.n_steps
            self.rollout_buffer.reset()

    def _setup_model(self) -> None:
        if self.env is not None:  # Stable-Baselines3's `load` may do without
            self.group_size = group_size_of(self.env)
            self._fit_to(self.env)
        if isinstance(self.rollout_buffer_class, str):
            self.rollout_buffer_class = class_named(
                "rollout_buffer_class", self.rollout_buffer_class
            )
        name = getattr(self.rollout_buffer_class, "__name__", self.rollout_buffer_class)
        if not (self.rollout_buffer_class and issubclass(self.rollout_buffer_class, EpisodeBuffer)):
            raise ValueError(
                f"rollout_buffer_class={name} must be llm_gym.EpisodeBuffer or a subclass; use "
                f"{self._counterpart} for other buffers"
            )
        if not issubclass(self.policy_class, self.policy_type):
            raise ValueError(
                f"policy={self.policy_class.__name__} must be a {self.policy_type.__name__}; use "
                f"{self._counterpart} for other policies"
            )
        super()._setup_model()
        if self._needs_reference():
            self.reference = ReferenceModel.of(self.transformer, self._reference_name())
        if self.shaping is not None:
            self.shaping.start(self.transformer)
            self.episodes.before_returns = self._shape_rewards

    def _fit_to(self, env: VecEnv) -> None:
        """Checks that the algorithm can run on an environment, and takes its lengths from it.

        Raises:
            ValueError: If it cannot, naming what is missing.
        """
        if self._whole_episode_steps:
            self.n_steps = episode_length(env)

    def _needs_reference(self) -> bool:
        return self.shaping is not None and self.shaping.penalty.needs_reference

    def _reference_name(self) -> str | Path | None:
        return None if self.shaping is None else self.shaping.penalty.reference

    def _excluded_save_params(self) -> list[str]:
        return [*super()._excluded_save_params(), "reference"]

    @property
    def transformer(self) -> TransformerActorCriticPolicy:
        """The policy."""
        assert isinstance(self.policy, TransformerActorCriticPolicy)
        return self.policy

    @property
    def episodes(self) -> EpisodeBuffer:
        """The rollout."""
        assert isinstance(self.rollout_buffer, EpisodeBuffer)
        return self.rollout_buffer

    # ------------------------------------------------------------------ rollouts

    def collect_rollouts(
        self,
        env: VecEnv,
        callback: BaseCallback,
        rollout_buffer: RolloutBuffer,
        n_rollout_steps: int,
    ) -> bool:
        """As in Stable-Baselines3, or as the collector does; logs what is known of the rollout."""
        if self.collector is None:
            goes_on = super().collect_rollouts(env, callback, rollout_buffer, n_rollout_steps)
        else:
            goes_on = self.collector.collect(self, env, callback, n_rollout_steps)
        for name, value in self.rollout_statistics.items():
            self.logger.record(f"rollout/{name}", value)
        return goes_on

    @property
    def rollout_statistics(self) -> dict[str, float]:
        """What is known of the last rollout, logged as `rollout/NAME`."""
        return {} if self.shaping is None else self.shaping.statistics

    def fill_advantages(self, buffer: EpisodeBuffer, starts: list[int]) -> None:
        """Writes the advantages of a collector's rollout into the buffer.

        Args:
            buffer: The finished rollout of whole episodes, penalties already in its rewards.
            starts: First step of each round.
        """
        raise NotImplementedError

    def _shape_rewards(self, buffer: EpisodeBuffer) -> None:
        assert self.shaping is not None
        progress = None
        if self._total_timesteps:  # of `learn`
            # As Stable-Baselines3 does next, for the learning rate of the same update.
            self._update_current_progress_remaining(self.num_timesteps, self._total_timesteps)
            progress = self._current_progress_remaining
        self.shaping.shape(buffer, self.transformer, self.reference, progress)

    # ------------------------------------------------------------------ what callbacks may ask

    @property
    def has_critic(self) -> bool:
        """Whether the value head is learnt."""
        return True

    def is_turning_point(self) -> bool:
        """Whether to save a checkpoint before the rollout that has ended is learnt from."""
        return False

    def get_state(self) -> dict[str, Any]:
        """What the algorithm carries to the next rollout beyond Stable-Baselines3's: JSON-able."""
        return {} if self.shaping is None else self.shaping.get_state()

    def set_state(self, state: dict[str, Any]) -> None:
        """Continues from a state of `get_state`."""
        if self.shaping is not None:
            self.shaping.set_state(state)


class RewardShaping:
    """What a rollout's rewards become before anything is learnt from them.

    Each token pays for leaving the reference model, and all rewards are divided by a running
    estimate of the returns' standard deviation.

    Args:
        penalty: The price.
        scale: Whether rewards are divided.
        recompute_log_probs: Take the old log-probabilities from one pass over the finished rollout
            instead of from decoding. `None` does so in mixed precision, where the two differ
            by rounding and the ratio would not start at 1.

    Attributes:
        controller: Holds the penalty's coefficient.
        returns: Mean and variance of the returns so far.
        reference_log_probs: float32 `(T, N)`, the reference's, of the last rollout's tokens.
        statistics: What is known of the last rollout.
    """

    def __init__(
        self, penalty: KLPenalty, *, scale: bool, recompute_log_probs: bool | None
    ) -> None:
        self.penalty, self.scale = penalty, scale
        self.recompute_log_probs = recompute_log_probs
        self.controller = penalty.controller()
        self.returns = RunningMoments()
        self.reference_log_probs = np.zeros((0, 0), dtype=np.float32)
        self.statistics: dict[str, float] = {}

    def start(self, policy: TransformerActorCriticPolicy) -> None:
        """Settles what depends on the policy."""
        if self.recompute_log_probs is None:
            self.recompute_log_probs = policy.mixed_precision != "no"

    def __getstate__(self) -> dict[str, Any]:
        return {**vars(self), "reference_log_probs": np.zeros((0, 0), dtype=np.float32)}

    def get_state(self) -> dict[str, Any]:
        """What the next rollout depends on: JSON-able."""
        return {"kl_coef": self.controller.coef, "return_statistics": dict(vars(self.returns))}

    def set_state(self, state: dict[str, Any]) -> None:
        """Continues from a state of `get_state`."""
        self.controller.coef = state["kl_coef"]
        vars(self.returns).update(state["return_statistics"])

    @property
    def scaled_coef(self) -> float:
        """The last rollout's penalty per nat, in the units of its (scaled) rewards."""
        return self.statistics["kl_coef"] / (self.returns.std if self.scale else 1.0)

    def shape(
        self,
        buffer: EpisodeBuffer,
        policy: TransformerActorCriticPolicy,
        reference: ReferenceModel | None,
        progress_remaining: float | None = None,
    ) -> None:
        """Subtracts the KL penalty from, and scales, a rollout's rewards; notes statistics.

        Args:
            buffer: The finished rollout.
            policy: The policy that played it.
            reference: The reference model, if there is one.
            progress_remaining: From 1 (the beginning of training) to 0; `None` outside of it.
        """
        self.statistics = {}
        complete = [s for s in buffer.segments() if buffer.complete(s)]
        if self.recompute_log_probs or reference is not None:
            log_ratio = self._log_ratio(buffer, policy, reference)
            if reference is not None:
                self.reference_log_probs = buffer.log_probs - log_ratio
                if progress_remaining is not None:
                    self.controller.advance(progress_remaining)
                self._penalise(buffer, log_ratio, complete)
        if complete:
            returns = np.array([buffer.rewards[s.start : s.stop, s.env].sum() for s in complete])
            self.statistics["penalised_return_mean"] = float(returns.mean())
            if self.scale:
                self.returns.update(returns)
        if self.scale:
            buffer.rewards /= self.returns.std

    def _log_ratio(
        self,
        buffer: EpisodeBuffer,
        policy: TransformerActorCriticPolicy,
        reference: ReferenceModel | None,
    ) -> NDArray[np.float32]:
        """`log pi - log pi_ref` of every token, float32 `(T, N)`, zero without a reference."""
        log_ratio = np.zeros_like(buffer.rewards)
        for members in _chunks(buffer.segments()):
            batch = buffer.episode_batch(members)
            places = buffer.places(members)
            if self.recompute_log_probs:
                with torch.no_grad():
                    log_prob = policy.evaluate_actions(batch, batch.actions)[1]
                buffer.log_probs[places] = log_prob.float().cpu().numpy()
            if reference is not None:
                reference_log_prob = reference.log_probs(batch).float().cpu().numpy()
                log_ratio[places] = buffer.log_probs[places] - reference_log_prob
        return log_ratio

    def _penalise(
        self, buffer: EpisodeBuffer, log_ratio: NDArray[np.float32], complete: list[Segment]
    ) -> None:
        coef = self.controller.coef
        if self.penalty.kl_in == "reward":
            assert self.penalty.kl_estimator is not None
            buffer.rewards -= coef * kl_estimate(log_ratio, self.penalty.kl_estimator)
        of_tokens = log_ratio[buffer.places(buffer.segments())]  # (A,)
        self.statistics |= {
            "kl_coef": coef,
            "kl_per_token": float(of_tokens.mean()),
            "kl_k3_per_token": float(kl_estimate(of_tokens, "k3").mean()),
        }
        if complete:
            sums = [log_ratio[s.start : s.stop, s.env].sum() for s in complete]
            self.statistics["kl_per_sequence"] = float(np.mean(sums))
            self.controller.update(float(np.mean(sums)), len(sums))


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


def group_size_of(env: VecEnv) -> int:
    """How many rows of an environment answer the same prompt; 1 where it does not say."""
    try:
        return int(env.get_attr("group_size")[0])
    except AttributeError:
        return 1


def episode_length(env: VecEnv) -> int:
    """The most tokens an episode has.

    Raises:
        ValueError: If the environment does not say.
    """
    try:
        return int(env.get_attr("max_new_tokens")[0])
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
