"""What an algorithm optimises, as settings: the objective, and the price of leaving a reference.

Both are checked when they are made: every name, and that the choices go together. A field is called
what the argument of an algorithm is called, so an error says what was written.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from llm_gym.files.ranges import check_choice, check_settings
from llm_gym.language_models.model_objects import ModelLike, named
from llm_gym.learning.advantages import ESTIMATORS, OF_TOKENS
from llm_gym.learning.kl import (
    REFERENCE_WEIGHTS,
    AdaptiveKLController,
    FixedKLController,
    ScheduledKLController,
)
from llm_gym.learning.losses import AGGREGATIONS

LOSSES = ("policy_gradient", "clipped")
RATIOS = ("token", "answer")
CRITICS = ("none", "shared", "separate", "detached")
KL_PLACES = ("reward", "loss")
KL_ESTIMATORS = ("k1", "k2", "k3", "exact")


@dataclass(frozen=True)
class Objective:
    """What `llm_gym.PolicyGradient` learns from a rollout.

    Args:
        advantage: `"gae"` (with a critic), or without: `"reinforce"` (no baseline),
            `"batch_mean"`, `"moving_average"`, `"rloo"`, `"grpo"`, `"dr_grpo"`,
            `"reinforce_plus_plus"` or `"remax"` (the first row of each group is greedy).
        loss: `"policy_gradient"` or `"clipped"`.
        ratio: Ratio of `"clipped"`: what has a ratio `pi / pi_old` and a clip, each `"token"`, as
            in PPO and GRPO, or each `"answer"`, as one action whose ratio is its tokens' product
            (TRL's RLOO; see `llm_gym.learning.losses.clipped_answer_loss`). The advantage
            of an answer is that of its whole return, KL penalties in the reward included, so
            `"gae"` and `"reinforce_plus_plus"` have none. On a small task with 4 epochs,
            clipping answers learnt more from each batch (`docs/side_by_side.md`).
        clip_range: Clip range of `"clipped"`: one number, or `(low, high)`.
        aggregation: See `llm_gym.learning.losses.aggregate`.
        aggregation_constant: Aggregation constant of `"constant"`; `None` is the most tokens an
            episode has.
        normalize_advantage: Whiten the advantages of each minibatch, as PPO does.
        gae_lambda: Gae lambda of `"gae"`; 1 is the Monte-Carlo return minus the value.
        baseline_decay: Baseline decay of `"moving_average"`: weight of the average so far.
        critic: `"none"`, `"shared"` (value head on the actor's transformer), `"separate"`
            (a transformer of its own) or `"detached"` (shared, but its loss moves the head
            alone). `None` is `"shared"` for `"gae"` and `"none"` for all else.

    Raises:
        ValueError: If a choice, or a pair of them, does not fit, naming it.
    """

    advantage: str = "rloo"
    loss: str = "policy_gradient"
    ratio: str = "token"
    clip_range: float | tuple[float, float] = 0.2
    aggregation: str = "token_mean"
    aggregation_constant: float | None = None
    normalize_advantage: bool = False
    gae_lambda: float = 0.95
    baseline_decay: float = 0.9
    critic: str | None = None

    def __post_init__(self) -> None:
        if self.critic is None:
            object.__setattr__(self, "critic", "shared" if self.advantage == "gae" else "none")
        check_settings(self)
        check_choice("advantage", self.advantage, ("gae", *ESTIMATORS))
        check_choice("loss", self.loss, LOSSES)
        check_choice("ratio", self.ratio, RATIOS)
        check_choice("aggregation", self.aggregation, AGGREGATIONS)
        check_choice("critic", self.critic, CRITICS)
        self.clip_bounds()
        if self.advantage == "gae" and self.critic == "none":
            raise ValueError(
                "critic='none' but advantage='gae' needs values: pass critic='shared', 'separate' "
                "or 'detached', or another advantage"
            )
        if self.advantage != "gae" and self.critic != "none":
            raise ValueError(
                f"critic={self.critic!r} but advantage={self.advantage!r} uses no values: pass "
                "critic='none', or advantage='gae' (with gae_lambda=1 for a learnt baseline of "
                "Monte-Carlo returns)"
            )
        if self.ratio == "answer" and self.loss == "policy_gradient":
            raise ValueError(
                "ratio='answer' but loss='policy_gradient' has no ratio: pass loss='clipped', or "
                "leave ratio out"
            )
        if self.ratio == "answer" and self.advantage in OF_TOKENS:
            raise ValueError(
                f"ratio='answer' but advantage={self.advantage!r} differs between the tokens of an "
                "answer: pass ratio='token', or another advantage, such as 'rloo'"
            )

    def clip_bounds(self) -> tuple[float, float]:
        """Lower and upper clip range.

        Raises:
            ValueError: If they are not one or two positive numbers, the lower at most 1.
        """
        clip = self.clip_range
        bounds = clip if isinstance(clip, (tuple, list)) else (clip, clip)
        if len(bounds) != 2 or bounds[0] > 1:
            raise ValueError(
                f"clip_range={clip!r} must be one number > 0, or (low, high) with low at most 1"
            )
        return float(bounds[0]), float(bounds[1])

    def check_epochs(self, n_epochs: int) -> None:
        """Checks that the loss may learn more than once from a sample, if it is to.

        Raises:
            ValueError: If it may not.
        """
        if self.loss == "policy_gradient" and n_epochs > 1:
            raise ValueError(
                f"n_epochs={n_epochs} with loss='policy_gradient' learns from samples of an older "
                "policy without saying so: pass n_epochs=1, or loss='clipped'"
            )

    def with_critic(self, policy_kwargs: Mapping[str, Any] | None) -> dict[str, Any]:
        """Arguments of the policy that give it this critic.

        Raises:
            ValueError: If they say something else already.
        """
        kwargs = dict(policy_kwargs or {})
        for name, kind in (("separate_critic", "separate"), ("detach_value", "detached")):
            value = self.critic == kind
            if kwargs.setdefault(name, value) != value:
                raise ValueError(
                    f"policy_kwargs {name}={kwargs[name]} contradicts critic={self.critic!r}"
                )
        return kwargs


@dataclass(frozen=True)
class KLPenalty:
    """What leaving the reference model costs.

    Args:
        kl_coef: Penalty per nat of divergence from the reference (initial, if adaptive), to be
            weighed against the reward of one whole episode; 0 is no reference at all. A schedule,
            as for `learning_rate`: a function of the share of training that remains
            (`llm_gym.learning.kl.ScheduledKLController`).
        kl_target: Nats per sequence that the coefficient steers to; `None` keeps it fixed.
        kl_horizon: See `llm_gym.learning.kl.AdaptiveKLController`.
        kl_in: Whether the KL penalty is part of the `"reward"` or of the `"loss"`.
        kl_estimator: `"k1"`, `"k2"`, `"k3"` or `"exact"` (over the whole vocabulary, in the
            loss only). `None` is k1 in the reward and k2 in the loss: the ones whose gradient is
            the divergence's (see `llm_gym.learning.losses.kl_loss`).
        reference: The reference model, as a policy's `model`; `None` is the policy as it
            starts.
        reference_weights: Where the reference's weights are: in `"memory"`, there as `"bfloat16"`,
            or on the `"disk"` and in memory only while it reads (see
            `llm_gym.learning.kl.ReferenceModel.of`).

    Raises:
        ValueError: If a choice, or a pair of them, does not fit, naming it.
    """

    kl_coef: float | Callable[[float], float] = 0.05
    kl_target: float | None = None
    kl_horizon: int = 10_000
    kl_in: str = "reward"
    kl_estimator: str | None = None
    reference: ModelLike | None = None
    reference_weights: str = "memory"

    def __post_init__(self) -> None:
        object.__setattr__(self, "reference", named(self.reference, "reference"))
        if self.kl_estimator is None:
            object.__setattr__(self, "kl_estimator", "k1" if self.kl_in == "reward" else "k2")
        check_settings(self, schedules=True)
        check_choice("kl_in", self.kl_in, KL_PLACES)
        check_choice("kl_estimator", self.kl_estimator, KL_ESTIMATORS)
        check_choice("reference_weights", self.reference_weights, REFERENCE_WEIGHTS)
        if self.kl_in == "reward" and self.kl_estimator == "exact":
            raise ValueError(
                "kl_estimator='exact' with kl_in='reward' has no gradient at the token it is paid "
                "for (it does not depend on the token chosen): use 'k1', or kl_in='loss'"
            )
        if self.kl_in == "loss" and self.kl_estimator == "k1":
            warnings.warn(
                "kl_estimator='k1' with kl_in='loss' has an expected gradient of zero: it "
                "penalises nothing and adds noise; use 'k2', or kl_in='reward'",
                stacklevel=3,
            )
        self.controller()

    def controller(self) -> FixedKLController:
        """What holds the coefficient from one rollout to the next.

        Raises:
            ValueError: If the coefficient, target or horizon does not fit.
        """
        if callable(self.kl_coef):
            if self.kl_target is not None:
                raise ValueError(
                    f"kl_target={self.kl_target} steers the coefficient and so does a schedule in "
                    "kl_coef: pass a number as kl_coef, or kl_target=None"
                )
            return ScheduledKLController(self.kl_coef)
        if self.kl_target is None:
            return FixedKLController(self.kl_coef)
        return AdaptiveKLController(self.kl_coef, self.kl_target, self.kl_horizon)

    @property
    def needs_reference(self) -> bool:
        """Whether there is a divergence to measure; a schedule may begin at 0."""
        return callable(self.kl_coef) or self.kl_coef > 0 or self.reference is not None
