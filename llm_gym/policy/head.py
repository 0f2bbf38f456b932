"""From hidden states to logits, at chosen positions only, as the model itself would do it."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn


class LanguageModelHead:
    """Applies a causal LM's output layer to hidden states of any shape `(..., H)`.

    Models compute logits for whole sequences; a policy needs them where a token was chosen. What
    some architectures do to logits afterwards (soft-capping in Gemma 2, scaling in Cohere and
    Granite) is read from the configuration, and checked once against the model's own forward
    pass, so that a model which does something else is refused instead of being trained wrongly.

    Raises:
        ValueError: If the logits differ from the model's own.
    """

    def __init__(self, model: Any) -> None:
        self.linear: nn.Module = model.get_output_embeddings()
        config = model.config
        self.soft_cap: float | None = getattr(config, "final_logit_softcapping", None)
        self.scale: float = getattr(config, "logit_scale", None) or 1.0
        self.scale /= getattr(config, "logits_scaling", None) or 1.0
        self._check(model)

    def __call__(self, hidden: torch.Tensor) -> torch.Tensor:
        """Float `(..., H)` to float32 (or float64) logits `(..., V)`."""
        logits = self.linear(hidden)
        if self.scale != 1.0:
            logits = logits * self.scale
        if self.soft_cap is not None:
            logits = torch.tanh(logits / self.soft_cap) * self.soft_cap
        return logits.float() if logits.dtype in (torch.bfloat16, torch.float16) else logits

    @torch.no_grad()
    def _check(self, model: Any) -> None:
        ids = torch.arange(3, device=model.device)[None] % model.config.vocab_size
        expected = model(input_ids=ids, use_cache=False).logits
        hidden = model.base_model(input_ids=ids, use_cache=False).last_hidden_state
        if not torch.allclose(self(hidden), expected.to(self(hidden).dtype), atol=1e-3, rtol=1e-3):
            raise ValueError(
                f"the output head of {type(model).__name__} does more than a linear layer, a scale "
                "and a soft cap, so its logits cannot be computed at single positions; "
                "this architecture is not supported"
            )
