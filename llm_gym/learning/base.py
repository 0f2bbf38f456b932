"""What llm_gym's algorithms share: environments, checks, a reference, and shaped rewards."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
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
from stable_baselines3.common.type_aliases import GymEnv, MaybeCallback
from stable_baselines3.common.utils import obs_as_tensor
from stable_baselines3.common.vec_env import VecEnv

from llm_gym.files.ranges import (
    COUNT,
    Range,
    check_arguments,
    check_numbers,
    shown,
)
from llm_gym.files.schema import Check, record, whole
from llm_gym.language_models.memory import REFERENCE_COPIES
from llm_gym.learning.buffer import EpisodeBuffer
from llm_gym.learning.critic_start import start_critic
from llm_gym.learning.critic_warmup import train_critic
from llm_gym.learning.divergence import explained
from llm_gym.learning.endings import Endings
from llm_gym.learning.heap import kept, trim
from llm_gym.learning.joined import joined
from llm_gym.learning.kl import ReferenceModel
from llm_gym.learning.progress import TokenBar, as_list
from llm_gym.learning.rounds import Rounds
from llm_gym.learning.schedules import ScheduledLearner
from llm_gym.learning.shaping import RewardShaping
from llm_gym.learning.vec_env import GymVecEnv
from llm_gym.parallel import world
from llm_gym.policy import TransformerActorCriticPolicy
from llm_gym.policy.sampling import widened
from llm_gym.policy.setup import check_setup, class_named

if TYPE_CHECKING:
    from typing_extensions import Self


class AnswerLearner(ScheduledLearner):
    """An on-policy algorithm that learns from answers of a language model.

    Where an algorithm of Stable-Baselines3 is a base as well, this class comes before it. Its parts
    say what a rollout is (`collector`) and what its rewards become (`shaping`); a subclass says how
    it learns, in `train`.

    Args:
        policy: `"TransformerPolicy"` or a subclass of `llm_gym.TransformerActorCriticPolicy`.
        env: A Gymnasium vector environment (wrapped in `llm_gym.GymVecEnv`), an id, or whatever
            Stable-Baselines3 takes.
        n_steps: Steps per environment and rollout, as in Stable-Baselines3: answers are cut where a
            rollout ends. `None` cuts none.
        answers_per_rollout: Answers of a rollout without `n_steps`, a multiple of the environment's
            rows; `None` is one a row.
        turn_gamma: Discount at the end of a turn, where `gamma` is that of all other steps; `None`
            is `gamma`. Inside a turn `gamma` should be 1.
        critic_gae_lambda: Lambda of the returns that the critic learns, where `gae_lambda` is that
            of the actor's advantages; `None` is `gae_lambda`. 1 hands the reward of the last token
            to the first one whole ("decoupled GAE", VC-PPO, arXiv 2503.01491, section 4.2).
        length_adaptive_alpha: Has the actor's lambda follow from each answer's length
            (`llm_gym.learning.advantages.length_adaptive_lambda`), in place of `gae_lambda`. Not
            with `n_steps`, which cuts answers.
        critic_warmup: Rollouts at the beginning from which the critic learns alone
            (`llm_gym.learning.critic_warmup`).
        **kwargs: Arguments of Stable-Baselines3's algorithm; its `ent_coef` may be a schedule.

    Attributes:
        group_size: Rows `k*G .. k*G + G-1` of the environment answer the same prompt; 1 where it
            does not say.
        reference: The reference model, or `None`.
        shaping: What a rollout's rewards become, or `None` if they stay what they are.
        collector: Plays rollouts of whole episodes; `None` leaves them to Stable-Baselines3.
        critic_warmups: Rollouts from which the critic has learnt alone.

    Raises:
        TypeError: If an argument is no number where one is needed, naming it.
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
    _tokens_before = 0  # this rollout
    shaping: RewardShaping | None = None
    collector: Rounds | None = None
    #: Whether a value head that is still zero starts at the level of the first returns.
    critic_start = False
    critic_warmup = critic_warmups = 0
    _endings: Endings  # of this rollout

    def __init__(
        self,
        policy: str | type[TransformerActorCriticPolicy],
        env: GymEnv | gym.vector.VectorEnv | str,
        *,
        n_steps: int | None,
        answers_per_rollout: int | None = None,
        turn_gamma: float | None = None,
        critic_gae_lambda: float | None = None,
        length_adaptive_alpha: float | None = None,
        critic_warmup: int = 0,
        **kwargs: Any,
    ) -> None:
        if isinstance(kwargs.get("verbose"), bool):  # which Stable-Baselines3 takes
            kwargs["verbose"] = int(kwargs["verbose"])
        check_arguments(**kwargs)
        known = policy if isinstance(policy, type) else policy in self.policy_aliases
        if not known:
            raise ValueError(
                f"policy={shown(policy)} must be 'TransformerPolicy' or a subclass of "
                f"{self.policy_type.__name__}; use {self._counterpart} for other policies"
            )
        if env is None and kwargs.get("_init_setup_model", True):
            raise ValueError("env=None is no environment: pass one, or its id")
        log = kwargs.get("tensorboard_log")
        if not isinstance(log, str | Path | None):
            raise TypeError(f"tensorboard_log={shown(log)} must be the path of a directory")
        # Stable-Baselines3 and `random` take Python's own numbers only.
        kwargs = {
            name: value.item() if isinstance(value, np.generic) else value
            for name, value in kwargs.items()
        }
        if callable(bonus := kwargs.get("ent_coef")):
            self.ent_coef_schedule, kwargs["ent_coef"] = bonus, float(bonus(1.0))
        optional = {
            "turn_gamma": turn_gamma,
            "critic_gae_lambda": critic_gae_lambda,
            "length_adaptive_alpha": length_adaptive_alpha,
        }
        check_numbers(**{name: value for name, value in optional.items() if value is not None})
        check_numbers(critic_warmup=critic_warmup)
        self.turn_gamma, self.critic_warmup = turn_gamma, critic_warmup
        self.critic_gae_lambda = critic_gae_lambda
        self.length_adaptive_alpha = length_adaptive_alpha
        if length_adaptive_alpha is not None and n_steps is not None:
            raise ValueError(
                f"length_adaptive_alpha={length_adaptive_alpha} follows from the length of whole "
                f"answers, and n_steps={n_steps} cuts them: pass answers_per_rollout instead"
            )
        if n_steps is not None:
            check_numbers(n_steps=n_steps)
        if answers_per_rollout is not None:
            check_numbers(answers_per_rollout=answers_per_rollout)
            if n_steps is not None:
                raise ValueError(
                    f"n_steps={n_steps} and answers_per_rollout={answers_per_rollout} both say how "
                    "long a rollout is: leave one out (n_steps cuts answers where a rollout ends)"
                )
        self.answers_per_rollout = answers_per_rollout
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
        buffer = self.rollout_buffer_class
        name = getattr(buffer, "__name__", buffer)
        if not (isinstance(buffer, type) and issubclass(buffer, EpisodeBuffer)):
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
            self.reference = ReferenceModel.of(self.transformer, *self._reference_source())
        self.episodes.turn_gamma = self.turn_gamma
        self.episodes.critic_gae_lambda = self.critic_gae_lambda
        self.episodes.length_adaptive_alpha = self.length_adaptive_alpha
        if self.shaping is not None:
            self.shaping.start(self.transformer)
            self.episodes.before_returns = self._shape_rewards

    def _fit_to(self, env: VecEnv) -> None:
        """Checks that the algorithm can run on an environment, and takes its lengths from it.

        Raises:
            ValueError: If it cannot, naming what is missing.
        """
        if self.turn_gamma is not None and not env.has_attr("max_turn_tokens"):
            raise ValueError(
                f"turn_gamma={self.turn_gamma} discounts turns, but env has none: make it with "
                "gymnasium.make_vec('llm_gym/Turns-v0', ...), or pass gamma"
            )
        rows = env.num_envs
        if self._whole_episode_steps:
            answers = self.answers_per_rollout or rows
            if answers % rows:
                raise ValueError(
                    f"answers_per_rollout={answers} must be a multiple of the {rows} rows of env, "
                    f"each of which plays as many: pass {max(answers // rows, 1) * rows}"
                )
            self.n_steps = answers // rows * episode_length(env)
        if self._plays_whole_answers():
            self.collector = Rounds(
                env,
                self.n_steps,
                episode_length(env),
                group_size=self.group_size,
                learner=self._described(),
                critic=self.has_critic,
                greedy_first=self._greedy_first,
            )

    #: Whether the first row of each group decodes greedily and is a baseline.
    _greedy_first = False

    def _plays_whole_answers(self) -> bool:
        """Whether rollouts are answers and not steps."""
        return self._whole_episode_steps

    def _described(self) -> str:
        """The algorithm in messages."""
        return type(self).__name__

    def _needs_reference(self) -> bool:
        return self.shaping is not None and self.shaping.penalty.needs_reference

    def _reference_source(self) -> tuple[str | Path | None, str]:
        """Name of the reference, `None` for the policy as it starts, and where its weights are."""
        assert self.shaping is not None
        return self.shaping.penalty.reference, self.shaping.penalty.reference_weights

    @property
    def reference_copies(self) -> float:
        """What the reference holds in memory beside the policy, in models of its size."""
        if not self._needs_reference():
            return 0.0
        model, weights = self._reference_source()
        own = model is None  # another's may be mapped from its files, which take no memory for sure
        return REFERENCE_COPIES[weights] if own else 0.0

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

    def learn(self, total_timesteps: int, *args: Any, **kwargs: Any) -> Self:
        """As in Stable-Baselines3; in processes of `torchrun` from the rollouts of all of them.

        Raises:
            TypeError: An argument is no number, or no callback.
            ValueError: A number is out of range.
            DivergenceError: A loss, a gradient or a probability is no number any more. The weights
                are those before that gradient step.
        """
        total: Any = total_timesteps
        if isinstance(total, float) and total.is_integer():
            total = int(total)  # 1e6, as people write it
        # A run that goes on behind its end has less than nothing left.
        Range(whole=True).check("total_timesteps", total)
        if kwargs.get("log_interval") is not None:
            COUNT.check("log_interval", kwargs["log_interval"])
        heap = nullcontext() if self._spares_memory else kept(self.policy)
        with joined(self), explained(self), heap:
            return super().learn(int(total), *args, **kwargs)

    def _init_callback(self, callback: MaybeCallback, progress_bar: bool = False) -> BaseCallback:
        callbacks = as_list(callback)
        if progress_bar and world().rank == 0:
            callbacks.append(TokenBar())
        return super()._init_callback(callbacks)

    def collect_rollouts(
        self,
        env: VecEnv,
        callback: BaseCallback,
        rollout_buffer: RolloutBuffer,
        n_rollout_steps: int,
    ) -> bool:
        """As in Stable-Baselines3, or as the collector does; logs what is known of the rollout."""
        # The last step's gradients, as large as the weights: the reference needs room for its own.
        self.policy.optimizer.zero_grad(set_to_none=True)
        if self._spares_memory:
            trim(self.policy)
        self._tokens_before = self.num_timesteps
        self._endings = Endings(env, self.group_size if self.collector else 1)
        if self.collector is None:
            goes_on = super().collect_rollouts(env, callback, rollout_buffer, n_rollout_steps)
        else:
            goes_on = self.collector.collect(self, env, callback, n_rollout_steps)
        if not goes_on and self.shaping is not None:
            self.shaping.unfinished.clear()
        if goes_on and self.critic_start and self.has_critic:
            start_critic(self.episodes, self.transformer)
        tells = goes_on and self.tells_endings
        known = self._endings.figures(self.episodes) if tells else {}
        for name, value in {**self.rollout_statistics, **known}.items():
            self.logger.record(f"rollout/{name}", value)
        self.transformer.forget()  # what was read with weights that are about to change
        if self._spares_memory:
            trim(self.policy)
        return goes_on

    @property
    def _spares_memory(self) -> bool:
        """Whether free memory goes back to the system between rollout and update.

        Where all weights are learnt and the reference is beside them, the update takes as much
        again at once.
        """
        elsewhere = self._needs_reference() and self._reference_source()[1] != "memory"
        return elsewhere or not all(p.requires_grad for p in self.transformer.model.parameters())

    def _update_info_buffer(
        self, infos: list[dict[str, Any]], dones: NDArray[Any] | None = None
    ) -> None:
        """As in Stable-Baselines3; keeps the values of truncated episodes' rests for the buffer.

        Stable-Baselines3 would add them to the rewards next. They are the critic's, in the units of
        *shaped* rewards, and no part of what the environment paid: shaping must not see them.
        """
        super()._update_info_buffer(infos, dones)
        for row in np.flatnonzero([] if dones is None else dones):
            self._endings.note(int(row), infos[row])
        turn_ends = np.array(["turn" in info for info in infos])
        self.episodes.turn_ends[self.episodes.pos] = turn_ends
        rows = [row for row, info in enumerate(infos) if info.get("TimeLimit.truncated", False)]
        final = {row: infos[row].pop("terminal_observation", None) for row in rows}
        rows = [row for row in rows if final[row] is not None]
        if not rows:
            return
        stacked = {key: np.stack([final[row][key] for row in rows]) for key in final[rows[0]]}
        observed = obs_as_tensor(stacked, self.device)
        assert isinstance(observed, dict)
        with torch.no_grad():
            values = self.transformer.predict_values(observed)
        gamma: Any = self.gamma
        if self.turn_gamma is not None:
            gamma = np.where(turn_ends[rows], self.turn_gamma, self.gamma)
        rest = gamma * widened(values).cpu().numpy().reshape(-1)
        self.episodes.bootstraps[self.episodes.pos, rows] = rest
        self.episodes.truncated[self.episodes.pos, rows] = True

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
        buffer.fill_advantages(np.zeros(buffer.n_envs, dtype=np.float32))  # every episode has ended

    def _shape_rewards(self, buffer: EpisodeBuffer) -> None:
        assert self.shaping is not None
        progress = None
        if self._total_timesteps:  # of `learn`
            # As Stable-Baselines3 does next, for the learning rate of the same update.
            played = world().sums(self.num_timesteps - self._tokens_before)[0]
            self._update_current_progress_remaining(
                self._tokens_before + int(played), self._total_timesteps
            )
            progress = self._current_progress_remaining
        self.shaping.shape(buffer, self.transformer, self.reference, progress)

    @property
    def is_warming_up(self) -> bool:
        """Whether the critic alone learns from the next rollout."""
        return self.critic_warmups < self.critic_warmup

    @contextmanager
    def _telling_of_the_critic(self) -> Iterator[None]:
        """Has an update tell how far it moved the value head: one that is frozen stays."""
        head = list(self.transformer.value_head.parameters())
        before = [parameter.detach().clone() for parameter in head]
        yield
        steps = [(new.detach() - old).flatten() for new, old in zip(head, before, strict=True)]
        self.logger.record("train/value_head_step", float(torch.cat(steps).norm()))

    def _warm_up(self, batch_size: int | None, n_epochs: int) -> None:
        """What `train` does instead while the critic learns alone."""
        self._update_learning_rate(self.policy.optimizer)
        figures = train_critic(
            self.transformer,
            self.episodes,
            batch_size=batch_size,
            n_epochs=n_epochs,
            vf_coef=self.vf_coef,
            max_grad_norm=self.max_grad_norm,
        )
        self.critic_warmups += 1
        for name, value in {**figures, "critic_warmups": self.critic_warmups}.items():
            self.logger.record(f"train/{name}", value)

    # ------------------------------------------------------------------ what callbacks may ask

    @property
    def has_critic(self) -> bool:
        """Whether the value head is learnt."""
        return True

    @property
    def tells_endings(self) -> bool:
        """Whether what is known of the answers that ended in a rollout is logged."""
        return True

    def is_turning_point(self) -> bool:
        """Whether to save a checkpoint before the rollout that has ended is learnt from."""
        return False

    def get_state(self) -> dict[str, Any]:
        """What the algorithm carries to the next rollout beyond Stable-Baselines3's: JSON-able."""
        state = {} if self.shaping is None else self.shaping.get_state()
        if self.critic_warmup:
            state["critic_warmups"] = self.critic_warmups
        return state

    def set_state(self, state: dict[str, Any]) -> None:
        """Continues from a state of `get_state`; `ValueError` if it is none."""
        record(self.state_checks())("the state", state)
        if self.shaping is not None:
            self.shaping.set_state({key: state[key] for key in self.shaping.state_checks()})
        self.critic_warmups = state.get("critic_warmups", 0)

    def state_checks(self) -> dict[str, Check]:
        """What the entries of a state must be."""
        checks = {} if self.shaping is None else self.shaping.state_checks()
        if self.critic_warmup:
            checks["critic_warmups"] = whole()
        return checks


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
