"""One policy-gradient algorithm; its advantage, loss and place of the KL penalty are arguments."""

from __future__ import annotations

import dataclasses
import difflib
import inspect
from contextlib import nullcontext
from typing import Any, ClassVar, NamedTuple, TypeVar

import gymnasium as gym
import numpy as np
import torch
from gymnasium import spaces
from stable_baselines3.common.on_policy_algorithm import OnPolicyAlgorithm
from stable_baselines3.common.type_aliases import GymEnv, Schedule
from stable_baselines3.common.utils import explained_variance
from stable_baselines3.common.vec_env import VecEnv
from torch.nn import functional as F

from llm_gym.files.ranges import check_choice, check_numbers, shown
from llm_gym.files.schema import Check, number, record, whole
from llm_gym.language_models.divergence import check_step, clip_gradients
from llm_gym.language_models.packing import micro_batches
from llm_gym.learning import losses
from llm_gym.learning.advantages import ESTIMATORS, NEED_GROUPS, Rollout, assert_same_prompts
from llm_gym.learning.base import AnswerLearner, episode_length
from llm_gym.learning.buffer import EpisodeBuffer, Segment
from llm_gym.learning.objective import KLPenalty, Objective
from llm_gym.learning.shaping import RewardShaping
from llm_gym.parallel import world
from llm_gym.policy import EpisodeBatch, TransformerActorCriticPolicy
from llm_gym.policy.sampling import log_prob_and_entropy
from llm_gym.policy.tied_gradients import rows_alone

Part = TypeVar("Part", Objective, KLPenalty)


class _PartOfLoss(NamedTuple):
    """What a micro-batch adds to the loss of its minibatch.

    Attributes:
        loss: Its share, a scalar; the minibatch's loss is the sum of all shares.
        terms: Its shares in the terms of the loss, by name.
        entropy: float `(A,)`, of its tokens.
        log_ratio: float `(A,)` of its tokens or `(B,)` of its answers.
    """

    loss: torch.Tensor
    terms: dict[str, float]
    entropy: torch.Tensor
    log_ratio: torch.Tensor


class Minibatch(NamedTuple):
    """What the loss must know of a whole minibatch: that of all processes.

    Attributes:
        advantages: float `(A,)`, of its tokens.
        n_answers: How many answers it has.
    """

    advantages: torch.Tensor
    n_answers: int

    @classmethod
    def of_all(cls, buffer: EpisodeBuffer, batches: list[list[Segment]]) -> list[Minibatch]:
        """The minibatches of which this process has some members each."""
        own = [buffer.advantages[buffer.places(members)] for members in batches]
        advantages = map(buffer.to_torch, world().unions(own))
        n_answers = map(int, world().sums(*map(len, batches)))
        return [cls(*both) for both in zip(advantages, n_answers, strict=True)]


class PolicyGradient(AnswerLearner):
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
        objective: Advantage, loss and weighing, as a `llm_gym.learning.objective.Objective`; or
            give its fields here, under their names: `advantage="rloo"`.
        penalty: What leaving the reference costs, as a `llm_gym.learning.objective.KLPenalty`; or
            give its fields here: `kl_coef=0.05`, `kl_in="reward"`, `reference=None`, ...
        learning_rate: As in Stable-Baselines3.
        n_steps: Steps per environment and rollout. With a critic answers are cut where a rollout
            ends; without, it must be a multiple of the most tokens an episode has, and that many
            episodes are played a row, each to its end. `None` cuts none.
        batch_size: Tokens per gradient step, filled with whole episodes; `None` is all of them.
        n_epochs: Passes over a rollout.
        keep_groups: Never part answers to one prompt of a group into different minibatches: the
            prompt is then read once for all of them (`llm_gym.policy.shared_rows`).
        gamma: Discount.
        ent_coef: Weight of the entropy bonus, or a schedule of it: see `llm_gym.PPO`.
        vf_coef: Weight of the value loss.
        max_grad_norm: Clipping of the gradient's norm.
        reward_scaling: See `llm_gym.PPO`; `None` scales where there is a critic to hear.
        recompute_log_probs: See `llm_gym.PPO`.
        critic_start: See `llm_gym.PPO`.
        answers_per_rollout: See `llm_gym.PPO`.
        turn_gamma: See `llm_gym.PPO`.
        critic_gae_lambda: See `llm_gym.PPO`; needs a critic, as the next two do.
        length_adaptive_alpha: See `llm_gym.PPO`.
        critic_warmup: See `llm_gym.PPO`.
        policy_kwargs: `dict(model=NAME_OR_PATH, ...)` for the policy.
        **settings: Fields of `objective` and of `penalty`, and further arguments of
            Stable-Baselines3's `OnPolicyAlgorithm`: `seed`, `device`, `verbose`, ...

    Raises:
        TypeError: If there is no such setting, or one is given twice.
        ValueError: If an argument, or a pair of them, does not fit, naming it.
    """

    #: Settings that a preset is made of, where no others are given.
    choices: ClassVar[dict[str, Any]] = {}
    #: The update sums the gradients of all processes itself.
    reduces_gradients = True

    def __init__(
        self,
        policy: str | type[TransformerActorCriticPolicy],
        env: GymEnv | gym.vector.VectorEnv | str,
        objective: Objective | None = None,
        penalty: KLPenalty | None = None,
        learning_rate: float | Schedule = 1e-4,
        n_steps: int | None = None,
        batch_size: int | None = None,
        n_epochs: int = 1,
        keep_groups: bool = False,
        gamma: float = 1.0,
        ent_coef: float | Schedule = 0.0,
        vf_coef: float = 0.5,
        max_grad_norm: float = 1.0,
        reward_scaling: bool | None = None,
        recompute_log_probs: bool | None = None,
        critic_start: bool = True,
        answers_per_rollout: int | None = None,
        turn_gamma: float | None = None,
        critic_gae_lambda: float | None = None,
        length_adaptive_alpha: float | None = None,
        critic_warmup: int = 0,
        policy_kwargs: dict[str, Any] | None = None,
        _init_setup_model: bool = True,
        **settings: Any,
    ) -> None:
        _check_names(type(self), settings)
        self.objective = _part(Objective, "objective", objective, self.choices, settings)
        check_numbers(n_epochs=n_epochs)
        check_choice("keep_groups", keep_groups, (True, False))
        check_choice("critic_start", critic_start, (True, False))
        self.critic_start = critic_start
        of_critic = {
            "critic_gae_lambda": critic_gae_lambda,
            "length_adaptive_alpha": length_adaptive_alpha,
            "critic_warmup": critic_warmup or None,
        }
        for setting, value in of_critic.items():
            if value is not None and not self.has_critic:
                raise ValueError(
                    f"{setting}={value!r} needs a critic, and advantage="
                    f"{self.objective.advantage!r} has none: leave it out, or pass advantage='gae'"
                )
        if batch_size is not None:
            check_numbers(batch_size=batch_size)
        self.objective.check_epochs(n_epochs)
        check_choice("reward_scaling", reward_scaling, (True, False, None))
        scale = self.has_critic if reward_scaling is None else reward_scaling
        self.shaping: RewardShaping = RewardShaping(
            _part(KLPenalty, "penalty", penalty, self.choices, settings),
            scale=scale,
            recompute_log_probs=recompute_log_probs,
        )
        self.clip_low, self.clip_high = self.objective.clip_bounds()
        self.batch_size, self.n_epochs, self.keep_groups = batch_size, n_epochs, keep_groups
        #: Of "moving_average": the average itself, before scaling, and how many rollouts are in it.
        self.baseline = {"mean": 0.0, "rollouts": 0}
        super().__init__(
            policy,
            env,
            learning_rate=learning_rate,
            n_steps=n_steps,
            answers_per_rollout=answers_per_rollout,
            gamma=gamma,
            gae_lambda=self.objective.gae_lambda,
            ent_coef=ent_coef,
            vf_coef=vf_coef,
            max_grad_norm=max_grad_norm,
            use_sde=False,
            sde_sample_freq=-1,
            turn_gamma=turn_gamma,
            critic_gae_lambda=critic_gae_lambda,
            length_adaptive_alpha=length_adaptive_alpha,
            critic_warmup=critic_warmup,
            policy_kwargs=self.objective.with_critic(policy_kwargs),
            _init_setup_model=_init_setup_model,
            **settings,
        )

    @property
    def has_critic(self) -> bool:
        """Whether the value head is learnt."""
        return self.objective.critic != "none"

    def _fit_to(self, env: VecEnv) -> None:
        advantage, name = self.objective.advantage, self._described()
        if not isinstance(env.action_space, spaces.Discrete):
            raise ValueError(
                f"{type(self).__name__} chooses tokens, so it needs a Discrete action space; env "
                f"has {env.action_space}"
            )
        if advantage in NEED_GROUPS and self.group_size < 2:
            raise ValueError(
                f"{name} compares answers to the same prompt, but env has "
                f"group_size={self.group_size}: make it with gymnasium.make_vec(..., group_size=4)"
            )
        if self.keep_groups and self.group_size < 2:
            raise ValueError(
                f"keep_groups=True keeps answers to the same prompt together, but env has "
                f"group_size={self.group_size}: make it with gymnasium.make_vec(..., group_size=4)"
            )
        self._greedy_first = advantage == "remax"
        super()._fit_to(env)
        self._longest_episode = episode_length(env)

    def _plays_whole_answers(self) -> bool:
        return not self.has_critic or super()._plays_whole_answers()

    def _described(self) -> str:
        return f"{type(self).__name__} (advantage={self.objective.advantage!r})"

    def get_state(self) -> dict[str, Any]:
        """As the parent's, and the average of the rollouts before."""
        return {**super().get_state(), "baseline": dict(self.baseline)}

    def set_state(self, state: dict[str, Any]) -> None:
        """Continues from a state of `get_state`; `ValueError` if it is none."""
        super().set_state(state)
        self.baseline.update(state["baseline"])

    def state_checks(self) -> dict[str, Check]:
        """As the parent's, and the average of the rollouts before."""
        baseline = record({"mean": number(), "rollouts": whole()})
        return {**super().state_checks(), "baseline": baseline}

    # ------------------------------------------------------------------ advantages

    def fill_advantages(self, buffer: EpisodeBuffer, starts: list[int]) -> None:
        """Writes the advantages of a rollout of whole episodes into the buffer."""
        if self.has_critic:
            super().fill_advantages(buffer, starts)
            return
        assert self.collector is not None
        segments = buffer.segments()
        rollout = Rollout.of(
            buffer,
            starts,
            group_size=self.group_size,
            gamma=buffer.discounts(),
            one_action=self.objective.ratio == "answer",
            greedy=self.collector.greedy_scores,
            average=self.baseline["mean"] / self.shaping.divisor,
        )
        if self.objective.advantage in NEED_GROUPS:
            assert_same_prompts(segments, rollout.groups)
        buffer.advantages[buffer.places(segments)] = ESTIMATORS[self.objective.advantage](rollout)
        self._update_baseline(float(rollout.all_scores.mean()) * self.shaping.divisor)

    def _update_baseline(self, mean: float) -> None:
        """The average after this rollout, corrected for having started at nothing."""
        decay, rollouts = self.objective.baseline_decay, self.baseline["rollouts"]
        weight = (1 - decay) / (1 - decay ** (rollouts + 1))
        self.baseline["mean"] += weight * (mean - self.baseline["mean"])
        self.baseline["rollouts"] = rollouts + 1

    # ------------------------------------------------------------------ the update

    def train(self) -> None:
        """Updates the policy from the rollout."""
        if self.is_warming_up:
            self._warm_up(self.batch_size, self.n_epochs)
            return
        telling = self._telling_of_the_critic() if self.has_critic else nullcontext()
        with telling, rows_alone(self.transformer.model):
            self._descend()
        if self.has_critic:
            places = self.episodes.places(self.episodes.segments())
            of_tokens = self.episodes.values[places], self.episodes.returns[places]
            self.logger.record("train/explained_variance", float(explained_variance(*of_tokens)))

    def _descend(self) -> None:
        """The gradient steps, and the figures of them."""
        policy, buffer, processes = self.transformer, self.episodes, world()
        buffer.group_size = self.group_size if self.keep_groups else 1
        policy.set_training_mode(True)
        self._update_learning_rate(policy.optimizer)
        figures: dict[str, list[float]] = {}
        for _ in range(self.n_epochs):
            batches = buffer.minibatches(self.batch_size)
            for members, minibatch in zip(batches, Minibatch.of_all(buffer, batches), strict=True):
                policy.optimizer.zero_grad()
                parts = []
                for micro_batch in micro_batches(members, policy.micro_batch_size):
                    part = self._part_of_loss(policy, buffer, micro_batch, minibatch)
                    part.loss.backward()
                    parts.append(part._replace(loss=part.loss.detach()))
                loss, step_figures = self._sum(parts)
                names = list(parts[0].terms)
                loss_of_all, *sums = processes.reduce_gradients(
                    list(policy.parameters()),
                    figures=[loss.item(), *(step_figures[name] for name in names)],
                )
                step_figures |= dict(zip(names, sums, strict=True))
                norm = clip_gradients(policy.optimizer, policy.parameters(), self.max_grad_norm)
                check_step(loss_of_all, norm)
                policy.optimizer.step()
                step_figures |= {"grad_norm": norm, "grad_clip_fraction": norm > self.max_grad_norm}
                for name, value in step_figures.items():
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
        (minibatch,) = Minibatch.of_all(buffer, [members])
        return self._sum([self._part_of_loss(policy, buffer, members, minibatch)])

    def _sum(self, parts: list[_PartOfLoss]) -> tuple[torch.Tensor, dict[str, float]]:
        """The loss of a minibatch, and figures of it, from those of its micro-batches."""
        figures = {name: sum(part.terms[name] for part in parts) for name in parts[0].terms}
        figures["entropy"] = torch.cat([part.entropy for part in parts]).mean().item()
        log_ratio = torch.cat([part.log_ratio for part in parts])
        loss = torch.stack([part.loss for part in parts]).sum()
        return loss, figures | losses.ratio_figures(log_ratio, self.clip_low, self.clip_high)

    def _part_of_loss(
        self,
        policy: TransformerActorCriticPolicy,
        buffer: EpisodeBuffer,
        micro_batch: list[Segment],
        minibatch: Minibatch,
    ) -> _PartOfLoss:
        """What some segments add to the loss of the minibatch that they are part of."""
        batch, places = buffer.episode_batch(micro_batch), buffer.places(micro_batch)
        advantages = buffer.to_torch(buffer.advantages[places])  # (A,)
        old_log_prob = buffer.to_torch(buffer.log_probs[places])
        exact = self._kl_in_loss and self.shaping.penalty.kl_estimator == "exact"
        logits = None
        if exact:
            values, logits = policy.values_and_logits(batch)
            log_prob, entropy = log_prob_and_entropy(logits, batch.actions)
        else:
            values, log_prob, entropy = policy.evaluate_actions(batch, batch.actions)
        whole = minibatch.advantages
        if self.objective.normalize_advantage and len(whole) > 1:
            advantages = (advantages - whole.mean()) / (whole.std() + 1e-8)
        of_tokens = len(advantages) / len(whole)
        of_answers = len(micro_batch) / minibatch.n_answers
        share = of_tokens if self.objective.aggregation == "token_mean" else of_answers
        per_token = self._policy_loss(log_prob, old_log_prob, advantages, batch.action_rows)
        loss = share * self._aggregate(per_token, batch)
        terms = {"policy_loss": loss.item()}
        if self.ent_coef:
            loss = loss - self.ent_coef * share * self._aggregate(entropy, batch)
        if self.has_critic:
            value_loss = F.mse_loss(buffer.to_torch(buffer.returns[places]), values.flatten())
            loss = loss + self.vf_coef * of_tokens * value_loss
            terms["value_loss"] = of_tokens * value_loss.item()
        if self._kl_in_loss:
            divergence = self._kl_of_tokens(batch, places, logits, log_prob)
            kl_loss = share * self._aggregate(divergence, batch)
            loss = loss + self.shaping.scaled_coef * kl_loss
            terms["kl_loss"] = kl_loss.item()
        log_ratio = log_prob.detach() - old_log_prob
        if self.objective.ratio == "answer":
            log_ratio = losses.answer_sums(log_ratio, batch.action_rows)
        return _PartOfLoss(loss, terms, entropy.detach(), log_ratio)

    @property
    def _kl_in_loss(self) -> bool:
        return self.shaping.penalty.kl_in == "loss" and self.reference is not None

    def _policy_loss(
        self,
        log_prob: torch.Tensor,
        old_log_prob: torch.Tensor,
        advantages: torch.Tensor,
        rows: torch.Tensor,
    ) -> torch.Tensor:
        if self.objective.loss == "policy_gradient":
            return losses.policy_gradient_loss(log_prob, advantages)
        clip = self.clip_low, self.clip_high
        if self.objective.ratio == "answer":
            return losses.clipped_answer_loss(log_prob, old_log_prob, advantages, rows, *clip)
        return losses.clipped_surrogate_loss(log_prob, old_log_prob, advantages, *clip)

    def _aggregate(self, per_token: torch.Tensor, batch: EpisodeBatch) -> torch.Tensor:
        how = self.objective.aggregation
        constant = self.objective.aggregation_constant or float(self._longest_episode)
        return losses.aggregate(per_token, batch.action_rows, how, constant=constant)

    def _kl_of_tokens(
        self, batch: EpisodeBatch, places: Any, logits: torch.Tensor | None, log_prob: torch.Tensor
    ) -> torch.Tensor:
        """Of each token; exact with the policy's logits `(A, V)`, else estimated."""
        estimator = self.shaping.penalty.kl_estimator
        assert self.reference is not None
        assert estimator is not None
        if logits is not None:
            return losses.exact_kl(logits, self.reference.logits(batch))
        reference = self.episodes.to_torch(self.shaping.reference_log_probs[places])
        return losses.kl_loss(log_prob, reference, estimator)


def _part(
    kind: type[Part],
    name: str,
    value: Part | None,
    choices: dict[str, Any],
    settings: dict[str, Any],
) -> Part:
    """A part of the algorithm: as it is given, or made of the settings, which lose what it takes.

    Raises:
        TypeError: If both are given, or it is something else.
    """
    fields = {field.name for field in dataclasses.fields(kind)}
    flat = {key: settings.pop(key) for key in fields & settings.keys()}
    if value is None:
        return kind(**{key: choices[key] for key in fields & choices.keys()} | flat)
    if not isinstance(value, kind):
        raise TypeError(
            f"{name}={shown(value)} must be a {kind.__name__}; or give its fields as arguments"
        )
    if flat:
        raise TypeError(
            f"{', '.join(sorted(flat))} and {name} are both given: say it in the {kind.__name__}"
        )
    return value


def _check_names(algorithm: type[PolicyGradient], settings: dict[str, Any]) -> None:
    """Checks that every setting is one of the objective, the penalty or Stable-Baselines3.

    Raises:
        TypeError: Naming the first that is not, and what is nearest.
    """
    parts = [field.name for kind in (Objective, KLPenalty) for field in dataclasses.fields(kind)]
    ours, preset, theirs = (
        inspect.signature(kind.__init__).parameters
        for kind in (PolicyGradient, algorithm, OnPolicyAlgorithm)
    )
    known = {*parts, *theirs} - {*ours, "use_sde", "sde_sample_freq"}
    for name in settings:
        if name not in known:
            near = difflib.get_close_matches(
                name, {*known, *ours, *preset} - {"self", "settings"}, n=1
            )
            hint = f"; did you mean {near[0]!r}?" if near else ""
            raise TypeError(f"{algorithm.__name__} has no argument {name!r}{hint}")
