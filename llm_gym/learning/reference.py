"""The reference policy that a KL penalty keeps the trained one close to."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from llm_gym.policy.sampling import (
    EpisodeBatch,
    LanguageModelHead,
    log_prob_and_entropy,
    unpack_support,
)
from llm_gym.policy.trunk import Trunk

if TYPE_CHECKING:
    from llm_gym.policy import TransformerActorCriticPolicy


class ReferenceModel:
    """A frozen causal language model that scores the actions of whole episodes.

    It uses the policy's temperature, precision and, under top-k or top-p, the very tokens the
    policy could choose from: otherwise the divergence of a policy from itself would not be zero.

    Args:
        model: A Hugging Face causal language model; frozen here.
        temperature: The policy's temperature.
        mixed_precision: The policy's, `"no"` or `"bf16"`.
    """

    def __init__(
        self, model: Any, *, temperature: float = 1.0, mixed_precision: str = "no"
    ) -> None:
        self.model = model.eval().requires_grad_(False)
        self.temperature, self.mixed_precision = temperature, mixed_precision
        self._trunk = Trunk(self.model.base_model, use_cache=False)
        self._head = LanguageModelHead(self.model)

    @classmethod
    def of(
        cls, policy: TransformerActorCriticPolicy, model: str | Path | None = None
    ) -> ReferenceModel:
        """A frozen copy of the policy's model as it is now, or of another checkpoint.

        Args:
            policy: The policy whose distribution settings to follow.
            model: Name or path of another causal language model with the same vocabulary.

        Raises:
            ValueError: If the other model's vocabulary differs.
        """
        if model is None:
            frozen = copy.deepcopy(policy.model)
        else:
            from llm_gym.language_models.loading import load_causal_lm

            frozen = load_causal_lm(model, dtype=policy.dtype).to(policy.device)
            expected, found = policy.model.config.vocab_size, frozen.config.vocab_size
            if expected != found:
                raise ValueError(
                    f"reference={str(model)!r} has {found} tokens but the policy's model has "
                    f"{expected}; a divergence needs the same vocabulary"
                )
        return cls(frozen, temperature=policy.temperature, mixed_precision=policy.mixed_precision)

    @torch.no_grad()
    def logits(self, batch: EpisodeBatch) -> torch.Tensor:
        """Logits at a batch's actions, float `(A, V)`, `-inf` where the policy's are cut."""
        device = batch.input_ids.device
        enabled = self.mixed_precision == "bf16"
        with torch.autocast(device.type, dtype=torch.bfloat16, enabled=enabled):
            hidden = self._trunk.full(batch.context)  # (B, S - 1, H)
            logits = self._head(hidden[batch.action_rows, batch.action_slots - 1])  # (A, V)
        logits = logits / self.temperature
        if batch.support is not None:
            logits = logits.masked_fill(
                ~unpack_support(batch.support, logits.shape[-1]), -torch.inf
            )
        return logits

    @torch.no_grad()
    def log_probs(self, batch: EpisodeBatch) -> torch.Tensor:
        """Log-probabilities of a batch's actions, float `(A,)`, in nats."""
        return log_prob_and_entropy(self.logits(batch), batch.actions)[0]
