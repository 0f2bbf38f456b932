"""One policy-gradient algorithm; its advantage, loss and place of the KL penalty are arguments."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import torch
from stable_baselines3.common.type_aliases import GymEnv, Schedule
from torch.nn import functional as F

from llm_gym.learning import losses
from llm_gym.learning.advantages import ESTIMATORS, NEED_GROUPS, Rollout, assert_same_prompts
from llm_gym.learning.buffer import EpisodeBuffer, Segment
from llm_gym.learning.choices import (
    check_choices,
    check_environment,
    check_whole_episodes,
    clip_bounds,
    group_size_of,
    with_critic,
)
from llm_gym.learning.penalised import as_vec_env, episode_length
from llm_gym.learning.whole_episodes import WholeEpisodes
from llm_gym.policy import TransformerActorCriticPolicy
from llm_gym.policy.sampling import EpisodeBatch, log_prob_and_entropy


class PolicyGradient(WholeEpisodes):
    """Policy gradients on whole answers.

    An algorithm is a choice: of an advantage (what was better than expected), of a loss, of how
    tokens are weighed against answers, and of where the KL penalty goes. `docs/algorithms.md` has
    the equations; `llm_gym.learning.presets` has the choices that have names (`RLOO`,
    `GRPO`, `A2C`, ...). All else is Stable-Baselines3's spelling.

    Args:
        policy: `"TransformerPolicy"` or a subclass of
            `llm_gym.TransformerActorCriticPolicy`.
        env: A Gymnasium vector environment, or whatever Stable-Baselines3 takes. Advantages that
            compare answers to one prompt need `group_size` of
            `llm_gym.TextGenerationVectorEnv`.
        advantage: `"gae"` (with a critic), or without: `"reinforce"` (no baseline),
            `"batch_mean"`, `"moving_average"`, `"rloo"`, `"grpo"`, `"dr_grpo"`,
            `"reinforce_plus_plus"` or `"remax"` (the first row of each group is greedy).
        loss: `"policy_gradient"` or `"clipped"`.
        learning_rate: As in Stable-Baselines3.
        n_steps: Steps per environment and rollout. `None` is the most tokens an episode has;
            without a critic a multiple of it plays that many episodes a row, each to its end.
        batch_size: Tokens per gradient step, filled with whole episodes; `None` is all of them.
        n_epochs: Passes over a rollout.
        gamma: Discount.
        gae_lambda: Gae lambda of `"gae"`; 1 is the Monte-Carlo return minus the value.
        clip_range: Clip range of `"clipped"`: one number, or `(low, high)`.
        ratio: Ratio of `"clipped"`: what has a ratio `pi / pi_old` and a clip, each `"token"`, as
            in PPO and GRPO, or each `"answer"`, as one action whose ratio is its tokens' product
            (TRL's RLOO; see `llm_gym.learning.losses.clipped_answer_loss`). The advantage
            of an answer is that of its whole return, KL penalties in the reward included, so
            `"gae"` and `"reinforce_plus_plus"` have none. On a small task with 4 epochs,
            clipping answers learnt more from each batch (`docs/side_by_side.md`).
        aggregation: See `llm_gym.learning.losses.aggregate`.
        aggregation_constant: Aggregation constant of `"constant"`; `None` is the most tokens an
            episode has.
        normalize_advantage: Whiten the advantages of each minibatch, as PPO does.
        baseline_decay: Baseline decay of `"moving_average"`: weight of the average so far.
        ent_coef: Weight of the entropy bonus.
        vf_coef: Weight of the value loss.
        max_grad_norm: Clipping of the gradient's norm.
        critic: `"none"`, `"shared"` (value head on the actor's transformer), `"separate"`
            (a transformer of its own) or `"detached"` (shared, but its loss moves the head
            alone). `None` is `"shared"` for `"gae"` and `"none"` for all else.
        kl_in: Whether the KL penalty is part of the `"reward"` or of the `"loss"`.
        kl_estimator: `"k1"`, `"k2"`, `"k3"` or `"exact"` (over the whole vocabulary, in the
            loss only). `None` is k1 in the reward and k2 in the loss: the ones whose gradient is
            the divergence's (see `llm_gym.learning.losses.kl_loss`).
        kl_coef: Penalty per nat, or a schedule of it (see `llm_gym.PPO`); 0 is no reference
            at all.
        kl_target: See `llm_gym.PPO`.
        kl_horizon: See `llm_gym.PPO`.
        reference: See `llm_gym.PPO`.
        reward_scaling: See `llm_gym.PPO`; `None` scales where there is a critic to hear.
        recompute_log_probs: See `llm_gym.PPO`.
        policy_kwargs: `dict(model=NAME_OR_PATH, ...)` for the policy.
        **kwargs: Further arguments of Stable-Baselines3's `OnPolicyAlgorithm`.

    Raises:
        ValueError: If an argument, or a pair of them, does not fit, naming it.
    """

    _counterpart = "an algorithm of stable_baselines3"

    def __init__(
        self,
        policy: str | type[TransformerActorCriticPolicy],
        env: GymEnv | gym.vector.VectorEnv | str,
        advantage: str = "rloo",
        loss: str = "policy_gradient",
        learning_rate: float | Schedule = 1e-4,
        n_steps: int | None = None,
        batch_size: int | None = None,
        n_epochs: int = 1,
        gamma: float = 1.0,
        gae_lambda: float = 0.95,
        clip_range: float | tuple[float, float] = 0.2,
        ratio: str = "token",
        aggregation: str = "token_mean",
        aggregation_constant: float | None = None,
        normalize_advantage: bool = False,
        baseline_decay: float = 0.9,
        ent_coef: float = 0.0,
        vf_coef: float = 0.5,
        max_grad_norm: float = 1.0,
        critic: str | None = None,
        kl_in: str = "reward",
        kl_estimator: str | None = None,
        kl_coef: float | Schedule = 0.05,
        kl_target: float | None = None,
        kl_horizon: int = 10_000,
        reference: str | Path | None = None,
        reward_scaling: bool | None = None,
        recompute_log_probs: bool | None = None,
        policy_kwargs: dict[str, Any] | None = None,
        _init_setup_model: bool = True,
        **kwargs: Any,
    ) -> None:
        critic = critic or ("shared" if advantage == "gae" else "none")
        kl_estimator = kl_estimator or ("k1" if kl_in == "reward" else "k2")
        check_choices(
            advantage=advantage,
            loss=loss,
            ratio=ratio,
            aggregation=aggregation,
            critic=critic,
            kl_in=kl_in,
            kl_estimator=kl_estimator,
            n_epochs=n_epochs,
        )
        self.advantage, self.loss, self.critic = advantage, loss, critic
        self.ratio = ratio
        self.kl_in, self.kl_estimator = kl_in, kl_estimator
        self._reward_estimator = kl_estimator if kl_in == "reward" else None
        self.aggregation, self.aggregation_constant = aggregation, aggregation_constant
        self.clip_low, self.clip_high = clip_bounds(clip_range)
        self.batch_size, self.n_epochs = batch_size, n_epochs
        self.normalize_advantage = normalize_advantage
        self.baseline_decay = baseline_decay
        #: Of "moving_average": the average itself, and how many rollouts are in it.
        self.baseline = {"mean": 0.0, "rollouts": 0}
        self.whole_episodes = advantage != "gae"
        env = as_vec_env(env)
        self._set_rewards(
            kl_coef=kl_coef,
            kl_target=kl_target,
            kl_horizon=kl_horizon,
            reference=reference,
            reward_scaling=critic != "none" if reward_scaling is None else reward_scaling,
            recompute_log_probs=recompute_log_probs,
        )
        if env is not None:
            group_size = group_size_of(env)
            check_environment(type(self).__name__, advantage, env.action_space, group_size)
            n_steps = episode_length(env) if n_steps is None else n_steps
            self.group_size = group_size
        kwargs.setdefault("rollout_buffer_class", EpisodeBuffer)
        super().__init__(
            policy,
            env,
            learning_rate=learning_rate,
            n_steps=2 if n_steps is None else n_steps,  # `load` sets env and n_steps later
            gamma=gamma,
            gae_lambda=gae_lambda,
            ent_coef=ent_coef,
            vf_coef=vf_coef,
            max_grad_norm=max_grad_norm,
            use_sde=False,
            sde_sample_freq=-1,
            policy_kwargs=with_critic(policy_kwargs, critic),
            _init_setup_model=_init_setup_model,
            **kwargs,
        )

    def _setup_model(self) -> None:
        if self.env is not None:
            self._longest_episode = episode_length(self.env)
            if self.whole_episodes:
                check_whole_episodes(self.advantage, self.n_steps, self._longest_episode)
            if self.advantage == "remax":
                self.greedy_rows = np.arange(self.n_envs) % self.group_size == 0
        super()._setup_model()

    @property
    def longest_episode(self) -> int:
        """Steps that every episode needs at most."""
        return self._longest_episode

    # ------------------------------------------------------------------ advantages

    def fill_advantages(self, buffer: EpisodeBuffer, starts: list[int]) -> None:
        """Writes the advantages of a rollout of whole episodes into the buffer.

        Args:
            buffer: The finished rollout, penalties already in its rewards.
            starts: First step of each round.
        """
        segments = buffer.segments()
        rollout = Rollout.of(
            buffer,
            starts,
            group_size=self.group_size,
            gamma=self.gamma,
            one_action=self.ratio == "answer",
            greedy=self.greedy_scores,
            average=self.baseline["mean"],
        )
        if self.advantage in NEED_GROUPS:
            assert_same_prompts(segments, rollout.groups)
        buffer.advantages[buffer.places(segments)] = ESTIMATORS[self.advantage](rollout)
        self._update_baseline(float(rollout.scores.mean()))

    def _update_baseline(self, mean: float) -> None:
        """The average after this rollout, corrected for having started at nothing."""
        decay, rollouts = self.baseline_decay, self.baseline["rollouts"]
        weight = (1 - decay) / (1 - decay ** (rollouts + 1))
        self.baseline["mean"] += weight * (mean - self.baseline["mean"])
        self.baseline["rollouts"] = rollouts + 1

    # ------------------------------------------------------------------ the update

    def train(self) -> None:
        """Updates the policy from the rollout."""
        policy, buffer = self.policy, self.rollout_buffer
        assert isinstance(policy, TransformerActorCriticPolicy)
        assert isinstance(buffer, EpisodeBuffer)
        policy.set_training_mode(True)
        self._update_learning_rate(policy.optimizer)
        figures: dict[str, list[float]] = {}
        for _ in range(self.n_epochs):
            for members in buffer.minibatches(self.batch_size):
                loss, step_figures = self._loss(policy, buffer, members)
                policy.optimizer.zero_grad()
                loss.backward()
                norm = torch.nn.utils.clip_grad_norm_(policy.parameters(), self.max_grad_norm)
                policy.optimizer.step()
                for name, value in {**step_figures, "grad_norm": float(norm)}.items():
                    figures.setdefault(name, []).append(value)
            self._n_updates += 1
        first = figures.pop("ratio_deviation")[0]
        self.logger.record("train/first_ratio_deviation", first)
        for name, values in figures.items():
            self.logger.record(f"train/{name}", float(np.mean(values)))
        self.logger.record("train/n_updates", self._n_updates, exclude="tensorboard")

    def _loss(
        self, policy: TransformerActorCriticPolicy, buffer: EpisodeBuffer, members: list[Segment]
    ) -> tuple[torch.Tensor, dict[str, float]]:
        """The loss of a minibatch, and figures of it."""
        batch, places = buffer.episode_batch(members), buffer.places(members)
        advantages = buffer.to_torch(buffer.advantages[places])  # (A,)
        old_log_prob = buffer.to_torch(buffer.log_probs[places])
        values, logits = policy.values_and_logits(batch)
        log_prob, entropy = log_prob_and_entropy(logits, batch.actions)
        if self.normalize_advantage and len(advantages) > 1:
            advantages = (advantages - advantages.mean()) / (advantages.std() + 1e-8)
        per_token = self._policy_loss(log_prob, old_log_prob, advantages, batch.action_rows)
        policy_loss = self._aggregate(per_token, batch)
        loss = policy_loss
        figures = {"policy_loss": policy_loss.item(), "entropy": entropy.mean().item()}
        if self.ent_coef:
            loss = loss - self.ent_coef * self._aggregate(entropy, batch)
        if self.critic != "none":
            value_loss = F.mse_loss(buffer.to_torch(buffer.returns[places]), values.flatten())
            loss = loss + self.vf_coef * value_loss
            figures["value_loss"] = value_loss.item()
        if self.kl_in == "loss" and self.reference is not None:
            kl_loss = self._aggregate(self._kl_of_tokens(batch, places, logits, log_prob), batch)
            loss = loss + self._loss_kl_coef * kl_loss
            figures["kl_loss"] = kl_loss.item()
        log_ratio = log_prob.detach() - old_log_prob
        if self.ratio == "answer":
            log_ratio = losses.answer_sums(log_ratio, batch.action_rows)
        return loss, figures | losses.ratio_figures(log_ratio, self.clip_low, self.clip_high)

    def _policy_loss(
        self,
        log_prob: torch.Tensor,
        old_log_prob: torch.Tensor,
        advantages: torch.Tensor,
        rows: torch.Tensor,
    ) -> torch.Tensor:
        if self.loss == "policy_gradient":
            return losses.policy_gradient_loss(log_prob, advantages)
        clip = self.clip_low, self.clip_high
        if self.ratio == "answer":
            return losses.clipped_answer_loss(log_prob, old_log_prob, advantages, rows, *clip)
        return losses.clipped_surrogate_loss(log_prob, old_log_prob, advantages, *clip)

    def _aggregate(self, per_token: torch.Tensor, batch: EpisodeBatch) -> torch.Tensor:
        constant = self.aggregation_constant or float(self._longest_episode)
        return losses.aggregate(per_token, batch.action_rows, self.aggregation, constant=constant)

    @property
    def _loss_kl_coef(self) -> float:
        """The penalty per nat, in the units of the (scaled) rewards that advantages have."""
        scale = self.return_statistics.std if self.reward_scaling else 1.0
        return self.rollout_statistics["kl_coef"] / scale

    def _kl_of_tokens(
        self, batch: EpisodeBatch, places: Any, logits: torch.Tensor, log_prob: torch.Tensor
    ) -> torch.Tensor:
        assert self.reference is not None
        if self.kl_estimator == "exact":
            return losses.exact_kl(logits, self.reference.logits(batch))
        reference = self.rollout_buffer.to_torch(self.reference_log_probs[places])
        return losses.kl_loss(log_prob, reference, self.kl_estimator)
