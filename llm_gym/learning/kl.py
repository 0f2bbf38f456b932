"""Divergence from a reference policy: the reference, estimators, and the penalty's coefficient.

Everything is in nats. With `log_ratio = log pi(a|s) - log pi_ref(a|s)` of a sampled token, the
penalised reward is `r_t - beta * log_ratio_t`: raising the probability of a token above the
reference's *lowers* its reward. The divergence of an episode is the *sum* over its tokens.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray

from llm_gym.files.ranges import AT_LEAST_0, POSITIVE, Range, check_choice
from llm_gym.language_models.adapters import (
    adapter_of,
    frozen_twin,
    share_weights,
    without_adapter,
)
from llm_gym.language_models.architecture import decoder_of, vocabulary_size
from llm_gym.language_models.mapped import MappedWeights
from llm_gym.language_models.model_objects import ModelLike, named
from llm_gym.policy.chunked_likelihood import (
    autocast,
    autocast_dtype,
    log_prob_and_entropy_of_hidden,
)
from llm_gym.policy.sampling import EpisodeBatch, LanguageModelHead, policy_logits
from llm_gym.policy.trunk import Trunk

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from llm_gym.policy import TransformerActorCriticPolicy

Array = TypeVar("Array", torch.Tensor, NDArray[np.floating])


def kl_estimate(log_ratio: Array, estimator: str = "k1") -> Array:
    """Single-sample estimates of `KL(pi || pi_ref)` from samples of `pi`.

    J. Schulman, "Approximating KL divergence", http://joschu.net/blog/kl-approx.html, writes
    `r = pi_ref / pi`; here `log_ratio = -log r`.

    Args:
        log_ratio: `log pi - log pi_ref` of the sampled tokens, any shape.
        estimator: `"k1"` (unbiased, may be negative): `log_ratio`; `"k2"` (biased, low
            variance): `log_ratio^2 / 2`; `"k3"` (unbiased, never negative):
            `exp(-log_ratio) - 1 + log_ratio`.

    Returns:
        Estimates of the same shape.

    Raises:
        ValueError: If the estimator is unknown.
    """
    if estimator == "k1":
        return log_ratio
    if estimator == "k2":
        return log_ratio**2 / 2
    if estimator == "k3":
        exp = np.exp if isinstance(log_ratio, np.ndarray) else type(log_ratio).exp
        return exp(-log_ratio) - 1 + log_ratio
    raise ValueError(f"estimator={estimator!r} must be 'k1', 'k2' or 'k3'")


class FixedKLController:
    """A penalty coefficient that stays what it is.

    Args:
        coef: The coefficient beta, >= 0.

    Attributes:
        coef: What a rollout pays per nat.

    Raises:
        ValueError: If the coefficient is negative or not finite.
    """

    def __init__(self, coef: float) -> None:
        self.coef = _checked("kl_coef", coef, AT_LEAST_0)

    def advance(self, progress_remaining: float) -> None:
        """Leaves the coefficient alone."""

    def update(self, kl_per_sequence: float, n_episodes: int) -> None:
        """Leaves the coefficient alone."""


class ScheduledKLController(FixedKLController):
    """A penalty coefficient that follows a schedule, as a learning rate does.

    Falling to beta from several times as much keeps the policy near the reference while little is
    known of the rewards, so that it finds more of what pays before it gives anything up
    (`docs/algorithms.md` has what that is worth).

    Args:
        schedule: Function of the share of training that remains, from 1 to 0, such as
            `lambda remaining: 0.1 + 0.4 * max(0.0, 2 * remaining - 1)`.

    Raises:
        ValueError: If it returns something negative or not finite.
    """

    def __init__(self, schedule: Callable[[float], float]) -> None:
        super().__init__(schedule(1.0))
        self.schedule = schedule

    def advance(self, progress_remaining: float) -> None:
        """Takes the coefficient of the rollout that has just ended from the schedule.

        Args:
            progress_remaining: From 1 (the beginning of training) to 0.
        """
        self.coef = _checked("kl_coef", self.schedule(progress_remaining), AT_LEAST_0)


class AdaptiveKLController(FixedKLController):
    """A penalty coefficient that steers the divergence to a target.

    Ziegler et al. (2019), arXiv 1909.08593, section 2.2: `e = clip(KL / target - 1, -0.2, 0.2)`
    and `beta *= 1 + e * n_episodes / horizon`; their code starts at 0.15 with target 6 nats
    and horizon 10,000 episodes.

    Args:
        coef: Initial coefficient, > 0 (a product never leaves zero).
        target: Target divergence in nats *per sequence*.
        horizon: Episodes over which a clipped error of 1 would double the coefficient.

    Raises:
        ValueError: If an argument is not positive and finite.
    """

    def __init__(self, coef: float, target: float, horizon: int = 10_000) -> None:
        super().__init__(_checked("kl_coef", coef, POSITIVE))
        self.target = _checked("kl_target", target, POSITIVE)
        self.horizon = _checked("kl_horizon", horizon, POSITIVE)

    def update(self, kl_per_sequence: float, n_episodes: int) -> None:
        """Moves the coefficient after a batch.

        Args:
            kl_per_sequence: Mean over episodes of the summed log-ratios, in nats.
            n_episodes: Number of episodes in the batch.
        """
        error = min(max(kl_per_sequence / self.target - 1.0, -0.2), 0.2)
        self.coef *= 1.0 + error * n_episodes / self.horizon


def _checked(name: str, value: float, range_: Range) -> float:
    range_.check(name, value)
    return float(value)


# ------------------------------------------------------------------ the reference


REFERENCE_WEIGHTS = ("memory", "bfloat16", "disk")


class ReferenceModel:
    """A frozen causal language model that scores the actions of whole episodes.

    It uses the policy's temperature, precision and, under top-k or top-p, the very tokens the
    policy could choose from: otherwise the divergence of a policy from itself would not be zero.

    Args:
        model: A Hugging Face causal language model; frozen here.
        temperature: The policy's temperature.
        mixed_precision: The policy's, `"no"` or `"bf16"`.
        shared_prompts: The policy's.
    """

    def __init__(
        self,
        model: Any,
        *,
        temperature: float = 1.0,
        mixed_precision: str = "no",
        shared_prompts: bool | str = "auto",
    ) -> None:
        self.model = model.eval().requires_grad_(False)
        self.temperature, self.mixed_precision = temperature, mixed_precision
        self._trunk = Trunk(decoder_of(self.model), use_cache=False, shared_prompts=shared_prompts)
        self._head = LanguageModelHead(self.model)
        self._parameters = list(self.model.parameters())
        self._mapped: MappedWeights | None = None

    @classmethod
    def of(
        cls,
        policy: TransformerActorCriticPolicy,
        model: ModelLike | None = None,
        weights: str = "memory",
    ) -> ReferenceModel:
        """A frozen copy of the policy's model as it is now, or of another checkpoint.

        What is frozen in the policy's model is not copied: the reference has the same tensors. Of a
        policy with a new LoRA adapter the reference is the base without it, and of one that started
        from a saved adapter the base with a copy of that.

        Args:
            policy: The policy whose distribution settings to follow.
            model: Another causal language model with the same vocabulary, as for a policy.
            weights: Where those are that are not the policy's own: in `"memory"`, there as
                `"bfloat16"`, or on the `"disk"` (`llm_gym.language_models.mapped`), from which
                they are read for each pass, to the same bits.

        Raises:
            ValueError: If the other model's vocabulary differs, or the reference has no weights of
                its own, or they are on a GPU and to be on the disk.
        """
        check_choice("reference_weights", weights, REFERENCE_WEIGHTS)
        if weights != "memory" and model is None and adapter_of(policy.model) is not None:
            raise ValueError(
                f"reference_weights={weights!r} saves nothing beside an adapter, whose reference "
                "has the policy's own base: leave it out"
            )
        reference = cls(
            cls._model_of(policy, model, torch.bfloat16 if weights == "bfloat16" else None),
            temperature=policy.temperature,
            mixed_precision=policy.mixed_precision,
            shared_prompts=policy.shared_prompts,
        )
        if weights == "disk":
            of_policy = {p.data_ptr() for p in policy.model.parameters()}
            own = [p for p in reference._parameters if p.data_ptr() not in of_policy]
            reference._mapped = MappedWeights(own)
        return reference

    @staticmethod
    def _model_of(
        policy: TransformerActorCriticPolicy,
        model: ModelLike | None,
        dtype: torch.dtype | None,
    ) -> PreTrainedModel:
        """The frozen model, in the policy's type where no other is asked for."""
        if model is None and dtype is not None:
            # Not a twin: what it shared with the policy would change its type there, too.
            frozen = copy.deepcopy(policy.model).requires_grad_(False).to(dtype)
        elif model is None:
            frozen = frozen_twin(policy.model)
            adapter = adapter_of(frozen)
            if adapter is not None and adapter.directory is None:
                without_adapter(frozen)
        else:
            from llm_gym.language_models.loading import load_causal_lm

            model = named(model, "reference")
            frozen = load_causal_lm(model, dtype=dtype or policy.dtype).to(policy.device)
            expected, n_tokens = vocabulary_size(policy.model), vocabulary_size(frozen)
            if expected != n_tokens:
                raise ValueError(
                    f"reference={str(model)!r} has {n_tokens} tokens but the policy's model has "
                    f"{expected}; a divergence needs the same vocabulary"
                )
            share_weights(frozen, policy.model)
        return frozen

    @contextmanager
    def reading(self) -> Iterator[None]:
        """While this is open the weights may be in memory; after it those on the disk are not."""
        try:
            yield
        finally:
            if self._mapped is not None:
                self._mapped.release()

    @torch.no_grad()
    def logits(self, batch: EpisodeBatch) -> torch.Tensor:
        """Logits at a batch's actions, float `(A, V)`, `-inf` where the policy's are cut."""
        with self.reading(), autocast(batch.input_ids.device, self.mixed_precision):
            logits = self._head(self._hidden(batch))  # (A, V)
        return policy_logits(logits, self.temperature, batch.support)

    @torch.no_grad()
    def log_probs(self, batch: EpisodeBatch) -> torch.Tensor:
        """Log-probabilities of a batch's actions, float `(A,)`, in nats."""
        with self.reading():
            return log_prob_and_entropy_of_hidden(
                self._hidden(batch),
                self._head,
                batch.actions,
                temperature=self.temperature,
                support=batch.support,
                autocast_dtype=autocast_dtype(self.mixed_precision),
            )[0]

    def _hidden(self, batch: EpisodeBatch) -> torch.Tensor:
        """Hidden states that the actions were chosen from, float `(A, H)`."""
        if any(parameter.requires_grad for parameter in self._parameters):
            raise ValueError(
                "parameters that the reference shares with the policy were unfrozen, and would "
                "take it along: freeze them again, or make the algorithm after unfreezing"
            )
        with autocast(batch.input_ids.device, self.mixed_precision):
            return self._trunk.of_episodes(batch)
