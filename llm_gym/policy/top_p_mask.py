"""A policy that chooses among the tokens an earlier copy of itself finds probable (NLPO)."""

from __future__ import annotations

import copy
from typing import Any

import torch
from gymnasium import spaces
from stable_baselines3.common.type_aliases import Schedule

from llm_gym.policy.episode_batch import EpisodeBatch
from llm_gym.policy.head import LanguageModelHead
from llm_gym.policy.sampling import truncated_support
from llm_gym.policy.transformer_policy import Observation, TransformerActorCriticPolicy
from llm_gym.policy.trunk import Trunk


class TopPMaskedPolicy(TransformerActorCriticPolicy):
    """The policy restricted to the nucleus of a *mask policy*, a copy of it that lags behind.

    Ramamurthy et al. (2022, arXiv 2210.01241, section 4.2). Probabilities are those of the
    restricted and renormalised distribution, in sampling and in updates: the tokens that could be
    chosen are stored with each action. The mask policy reads every token too, so decoding costs
    twice as much. It is part of the policy's `state_dict`, and of no optimizer.
    `save_pretrained` writes the language model alone, without the mask.

    Args:
        observation_space: See `TransformerActorCriticPolicy`.
        action_space: See `TransformerActorCriticPolicy`.
        lr_schedule: See `TransformerActorCriticPolicy`.
        mask_top_p: Probability of the mask policy's nucleus; 1 masks nothing.
        **kwargs: Further arguments of `TransformerActorCriticPolicy`.

    Raises:
        ValueError: If an argument does not fit, naming it.
    """

    def __init__(
        self,
        observation_space: spaces.Space,
        action_space: spaces.Space,
        lr_schedule: Schedule,
        *,
        mask_top_p: float = 0.9,
        **kwargs: Any,
    ) -> None:
        if not 0 < mask_top_p <= 1:
            raise ValueError(f"mask_top_p={mask_top_p!r} must lie in (0, 1] (1 masks nothing)")
        super().__init__(observation_space, action_space, lr_schedule, **kwargs)
        self.mask_top_p = float(mask_top_p)
        self.mask_model = copy.deepcopy(self.model).requires_grad_(False)
        self.mask_trunk = Trunk(self.mask_model.base_model, use_cache=self.prefix_cache)
        self.mask_head = LanguageModelHead(self.mask_model)

    @property
    def truncates(self) -> bool:
        """Whether anything cuts the distribution."""
        return self.mask_top_p < 1.0 or super().truncates

    def _support(self, obs: Observation, logits: torch.Tensor) -> torch.Tensor | None:
        if isinstance(obs, EpisodeBatch) or self.mask_top_p == 1.0:
            return super()._support(obs, logits)
        with torch.no_grad():
            hidden = self._trunk_hidden(self.mask_trunk, obs, keep_others=True)
            mask_logits = self.mask_head(hidden) / self.temperature
        nucleus = truncated_support(mask_logits, 0, self.mask_top_p)
        assert nucleus is not None
        own = truncated_support(logits.masked_fill(~nucleus, -torch.inf), self.top_k, self.top_p)
        return nucleus if own is None else nucleus & own

    def refresh_mask(self) -> None:
        """Makes the mask policy what the policy is now."""
        self.mask_model.load_state_dict(self.model.state_dict())

    def train(self, mode: bool = True) -> TopPMaskedPolicy:
        """As the parent's, for the mask policy's memory too."""
        super().train(mode)
        if hasattr(self, "mask_trunk"):
            self.mask_trunk.forget()
        return self

    def _get_constructor_parameters(self) -> dict[str, Any]:
        return {**super()._get_constructor_parameters(), "mask_top_p": self.mask_top_p}
