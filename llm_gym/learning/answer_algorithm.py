"""What the algorithms that learn from whole answers have in common: sampling, and the descent."""

from __future__ import annotations

import warnings
from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import gymnasium as gym
import numpy as np
import torch
from numpy.typing import NDArray
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.type_aliases import GymEnv, MaybeCallback, Schedule
from stable_baselines3.common.utils import update_learning_rate
from stable_baselines3.common.vec_env import VecEnv

from llm_gym.files.ranges import check_choice, check_numbers
from llm_gym.language_models.divergence import check_step, clip_gradients
from llm_gym.language_models.packing import micro_batches
from llm_gym.learning.answers import GroupedAnswers
from llm_gym.learning.base import AnswerLearner, as_list
from llm_gym.learning.losses import answer_sums
from llm_gym.learning.minibatches import token_batches
from llm_gym.parallel import world
from llm_gym.policy import EpisodeBatch, TransformerActorCriticPolicy
from llm_gym.policy.sampling import pack_support
from llm_gym.policy.tied_gradients import rows_alone
from llm_gym.text.answer import Answer, pack_answers

# Answers whose log-probabilities are computed in one pass without gradients.
_ANSWERS_PER_PASS = 32


class _LearnFirst(BaseCallback):
    """Learns from what a checkpoint brought along, before anything is sampled."""

    model: AnswerAlgorithm

    def _on_training_start(self) -> None:
        has_some = bool(self.model.answers.finished)
        if self.model.is_turning_point() and world().any(has_some):
            self.model.dump_logs()  # the row of the rollout, which had not been written either
            self.model.train()

    def _on_step(self) -> bool:
        return True


class AnswerAlgorithm(AnswerLearner):
    """Samples groups of answers as Stable-Baselines3 samples rollouts, and learns from them.

    A subclass says in `fit` what it learns from finished groups. In several processes each has its
    own, and may have none at all while another has some. Rollouts, callbacks,
    logging and checkpoints are those of every on-policy algorithm; the state values that such
    rollouts predict are not used and the value head is not trained.

    Args:
        policy: `"TransformerPolicy"` or a subclass of
            `llm_gym.TransformerActorCriticPolicy`.
        env: A text vector environment with `group_size`, or an id, or what Stable-Baselines3
            takes.
        learning_rate: As in Stable-Baselines3. With `sample_once` a schedule runs over the
            gradient steps, because sampling is over when they begin.
        n_steps: Steps per environment and rollout; `None` is the most tokens an answer has.
        batch_size: Tokens per minibatch, filled with whole answers.
        n_epochs: Passes over what is learnt from.
        max_grad_norm: Clipping of the gradient's norm.
        sample_once: Only sample until `total_timesteps` are reached, then learn from everything
            at once; otherwise sample and learn in turns.
        policy_kwargs: `dict(model=NAME_OR_PATH, ...)` for the policy.
        **kwargs: `seed`, `device`, `verbose`, ... as in Stable-Baselines3.

    Raises:
        ValueError: If an argument or the environment does not fit, naming it.
    """

    def __init__(
        self,
        policy: str | type[TransformerActorCriticPolicy],
        env: GymEnv | gym.vector.VectorEnv | str,
        learning_rate: float | Schedule,
        n_steps: int | None,
        batch_size: int,
        n_epochs: int,
        max_grad_norm: float,
        sample_once: bool,
        policy_kwargs: dict[str, Any] | None,
        _init_setup_model: bool = True,
        **kwargs: Any,
    ) -> None:
        check_numbers(batch_size=batch_size, n_epochs=n_epochs)
        check_choice("sample_once", sample_once, (True, False))
        self.batch_size, self.n_epochs, self.sample_once = batch_size, n_epochs, sample_once
        super().__init__(
            policy,
            env,
            learning_rate=learning_rate,
            n_steps=n_steps,
            gamma=1.0,
            gae_lambda=1.0,
            ent_coef=0.0,
            vf_coef=0.0,
            max_grad_norm=max_grad_norm,
            use_sde=False,
            sde_sample_freq=-1,
            policy_kwargs=policy_kwargs,
            _init_setup_model=_init_setup_model,
            **kwargs,
        )

    #: The update sums the gradients of all processes itself.
    reduces_gradients = True

    def _plays_whole_answers(self) -> bool:
        return False  # `GroupedAnswers` keeps what a rollout's end would cut

    @staticmethod
    def _wrap_env(
        env: GymEnv | gym.vector.VectorEnv | str, verbose: int = 0, monitor_wrapper: bool = True
    ) -> VecEnv:
        wrapped = AnswerLearner._wrap_env(env, verbose, monitor_wrapper)
        return wrapped if isinstance(wrapped, GroupedAnswers) else GroupedAnswers(wrapped)

    def _fit_to(self, env: VecEnv) -> None:
        space = env.observation_space
        is_text = isinstance(space, gym.spaces.Dict) and "completion_mask" in space.spaces
        if not is_text or not isinstance(env.action_space, gym.spaces.Discrete):
            raise ValueError(
                f"env: {type(self).__name__} needs a text environment (Dict observations with "
                f"'completion_mask', Discrete actions), got {space} and {env.action_space}"
            )
        super()._fit_to(env)
        if self.seed is None:
            env.seed()  # unseeded rows of a group would draw different prompts

    @property
    def has_critic(self) -> bool:
        """Whether the value head is learnt."""
        return False

    @property
    def tells_endings(self) -> bool:
        """Not where a run may go on from its turning point, without having seen them end."""
        return not self.sample_once

    def is_turning_point(self) -> bool:
        """Whether everything is sampled, and learning from all of it begins."""
        return self.sample_once and self.has_sampled

    @property
    def answers(self) -> GroupedAnswers:
        """The environment, as the keeper of the answers sampled so far."""
        assert isinstance(self.env, GroupedAnswers)
        return self.env

    # ------------------------------------------------------------------ learning

    @property
    def has_sampled(self) -> bool:
        """Whether `total_timesteps` are reached."""
        return self.num_timesteps >= self._total_timesteps

    def _init_callback(self, callback: MaybeCallback, progress_bar: bool = False) -> BaseCallback:
        # Last, so that the others have begun when learning does.
        return super()._init_callback([*as_list(callback), _LearnFirst()], progress_bar)

    def train(self) -> None:
        """Learns from the groups that have been finished since the last time, if it is time to."""
        if self.sample_once and not self.has_sampled:
            waiting = world().sums(len(self.answers.finished))[0]
            self.logger.record("rollout/groups_waiting", int(waiting))
            return
        groups = [group for group in self.answers.take() if group]
        n_groups = int(world().sums(len(groups))[0])
        self.logger.record("rollout/groups", n_groups)
        if not n_groups:
            if self.sample_once:
                raise ValueError(
                    f"total_timesteps={self._total_timesteps} is too few to finish and score a "
                    f"single group of {self.answers.group_size} answers; sample more"
                )
            return
        scores = [answer.score for group in groups for answer in group if answer.score is not None]
        self.logger.record("rollout/score_mean", float(world().union(np.array(scores)).mean()))
        self.policy.set_training_mode(True)
        self.fit(groups)

    @abstractmethod
    def fit(self, groups: list[list[Answer]]) -> None:
        """Learns from finished groups of scored answers, none of them empty.

        There is at least one group, though in several processes perhaps in another.
        """

    def warn_if_all_for_nothing(self, reason: str) -> None:
        """Warns that nothing was learnt, where there is no next iteration that could make it good.

        Args:
            reason: What kept all answers from being learnt from.
        """
        if self.sample_once:
            warnings.warn(f"{type(self).__name__} has learnt nothing: {reason}", stacklevel=3)

    def descend(
        self,
        lengths: Sequence[int],
        loss_of: Callable[[NDArray[np.int64]], tuple[torch.Tensor, Mapping[str, float]]],
        *,
        weights: Sequence[float] | None = None,
        answers_per_item: int = 1,
    ) -> dict[str, float]:
        """Takes gradient steps on minibatches of items, `n_epochs` times through all of them.

        Args:
            lengths: Tokens of each item.
            loss_of: Scalar loss of the items of these numbers, and statistics of them (means).
            weights: Of each item in the mean that is the loss; `None` weighs all alike.
            answers_per_item: What an item counts in the policy's `micro_batch_size`.

        Returns:
            Means of the statistics over the items of the last epoch.
        """
        epochs = [
            token_batches(lengths, self.batch_size, self.episodes.rng) for _ in range(self.n_epochs)
        ]
        n_steps, step, processes = sum(map(len, epochs)), 0, world()
        self._update_learning_rate(self.policy.optimizer)
        means: dict[str, float] = {}
        size = self.transformer.micro_batch_size
        size = None if size is None else max(1, size // answers_per_item)
        weight = np.ones(len(lengths)) if weights is None else np.asarray(weights, dtype=float)
        for batches in epochs:
            means.clear()
            weights_of_all = processes.sums(*(float(weight[members].sum()) for members in batches))
            for members, weight_of_all in zip(batches, weights_of_all, strict=True):
                if self.sample_once:
                    rate = self.lr_schedule(1 - step / n_steps)
                    update_learning_rate(self.policy.optimizer, rate)
                self.policy.optimizer.zero_grad()
                statistics = {"loss": 0.0}
                for part in micro_batches(members, size) if len(members) else ():
                    with rows_alone(self.transformer.model):
                        loss, of_part = loss_of(part)
                        loss = loss * (float(weight[part].sum()) / weight_of_all)
                        loss.backward()
                    statistics["loss"] += loss.item()
                    for name, value in of_part.items():
                        share = len(part) / len(members)
                        statistics[name] = statistics.get(name, 0.0) + share * value
                (loss_of_all,) = processes.reduce_gradients(
                    list(self.policy.parameters()), figures=[statistics["loss"]]
                )
                statistics = processes.means(statistics, len(members)) | {"loss": loss_of_all}
                norm = clip_gradients(
                    self.policy.optimizer, self.policy.parameters(), self.max_grad_norm
                )
                check_step(statistics["loss"], norm)
                self.policy.optimizer.step()
                step += 1
                for name, value in statistics.items():
                    share = len(members) / len(lengths) if len(lengths) else 1 / len(batches)
                    means[name] = means.get(name, 0.0) + share * value
        self._n_updates += self.n_epochs
        self.logger.record("train/n_updates", self._n_updates, exclude="tensorboard")
        return means

    # ------------------------------------------------------------------ likelihoods

    def log_probs(self, answers: Sequence[Answer]) -> tuple[torch.Tensor, torch.Tensor]:
        """Log-probabilities under the policy: float `(B,)` of answers, `(A,)` of tokens."""
        batch = self._batch(answers)
        log_probs = self.transformer.evaluate_actions(batch, batch.actions)[1]
        return answer_sums(log_probs, batch.action_rows), log_probs

    @torch.no_grad()
    def reference_log_probs(self, answers: Sequence[Answer]) -> torch.Tensor:
        """Log-probabilities of answers under the reference: float `(B,)`."""
        assert self.reference is not None
        parts = []
        for start in range(0, len(answers), _ANSWERS_PER_PASS):
            batch = self._batch(answers[start : start + _ANSWERS_PER_PASS])
            log_probs = self.reference.log_probs(batch)
            parts.append(answer_sums(log_probs, batch.action_rows))
        return torch.cat(parts) if parts else torch.zeros(0, device=self.device)

    @torch.no_grad()
    def policy_log_probs(self, answers: Sequence[Answer]) -> torch.Tensor:
        """Log-probabilities of any number of answers, without gradients: float `(B,)`."""
        starts = range(0, len(answers), _ANSWERS_PER_PASS)
        parts = [self.log_probs(answers[k : k + _ANSWERS_PER_PASS])[0] for k in starts]
        return torch.cat(parts) if parts else torch.zeros(0, device=self.device)

    def _batch(self, answers: Sequence[Answer]) -> EpisodeBatch:
        n_tokens = int(self.action_space.n) if self.transformer.truncates else None  # type: ignore[attr-defined]
        return answer_batch(answers, self.device, n_tokens=n_tokens)


def answer_batch(
    answers: Sequence[Answer], device: torch.device | str, *, n_tokens: int | None = None
) -> EpisodeBatch:
    """Answers as one batch for `policy.evaluate_actions` and `ReferenceModel.log_probs`.

    Args:
        answers: B answers.
        device: Where the batch goes.
        n_tokens: V, for a policy that truncates (top-k, top-p): its log-probabilities are then
            those of the whole distribution, which is what a likelihood is, however the answers were
            sampled.

    Returns:
        The batch; its actions are the answers' tokens, answer after answer.
    """
    batch = pack_answers(answers, device=device)
    if n_tokens is None:
        return EpisodeBatch.of(batch)
    everything = pack_support(torch.ones(1, n_tokens, dtype=torch.bool, device=device))
    return EpisodeBatch.of(batch, everything.expand(len(batch.answer_rows), -1))
