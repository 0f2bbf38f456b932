"""Policies that one algorithm needs: TRPO's, NLPO's and MaskablePPO's."""

from __future__ import annotations

from collections.abc import Iterator
from importlib import import_module
from typing import Any

import numpy as np
import torch
from gymnasium import spaces
from numpy.typing import NDArray
from stable_baselines3.common.type_aliases import Schedule
from torch import nn

from llm_gym.files.ranges import check_numbers
from llm_gym.language_models.adapters import frozen_twin
from llm_gym.language_models.architecture import decoder_of
from llm_gym.policy.sampling import EpisodeBatch, LanguageModelHead, truncated_support
from llm_gym.policy.transformer_policy import Observation, TransformerActorCriticPolicy
from llm_gym.policy.trunk import Lock, Trunk

_MASKS = "masks of single transitions"


class TwiceDifferentiablePolicy(TransformerActorCriticPolicy):
    """A `TransformerActorCriticPolicy` for sb3-contrib's TRPO.

    Its natural gradient needs products with the divergence's Hessian, and PyTorch's fused attention
    has no second derivative. Here attention is plain products and a softmax: slower, equal to
    rounding. Everything else is the parent's, so

        TRPO(TwiceDifferentiablePolicy, GymVecEnv(env), rollout_buffer_class=EpisodeBuffer,
             policy_kwargs={"model": MODEL}, gamma=1.0)

    works as it is, with `sub_sampling_factor=1` (the default): whole episodes cannot be sliced.
    For the same reason there are no micro-batches, and all logits of a minibatch are in memory.

    Raises:
        ValueError: If `micro_batch_size` is given.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        if kwargs.get("micro_batch_size") is not None:
            raise ValueError(
                f"micro_batch_size={kwargs['micro_batch_size']} is nothing for TRPO, which "
                "differentiates the distribution of a whole minibatch twice; leave it out, and "
                "lower batch_size or set gradient_checkpointing=True"
            )
        super().__init__(*args, **{**kwargs, "attn_implementation": "eager"})

    def named_parameters(self, *args: Any, **kwargs: Any) -> Iterator[tuple[str, nn.Parameter]]:
        """Those that learn: TRPO asks for the gradient of each that it finds."""
        for name, parameter in super().named_parameters(*args, **kwargs):
            if parameter.requires_grad:
                yield name, parameter


class TopPMaskedPolicy(TransformerActorCriticPolicy):
    """The policy restricted to the nucleus of a *mask policy*, a copy of it that lags behind.

    Ramamurthy et al. (2022, arXiv 2210.01241, section 4.2). Probabilities are those of the
    restricted and renormalised distribution, in sampling and in updates: the tokens that could be
    chosen are stored with each action. The mask policy reads every token too, so decoding costs
    twice as much; what is frozen, such as the base of a LoRA adapter, both have in common. It is
    part of the policy's `state_dict`, and of no optimizer. `save_pretrained` writes the language
    model alone, without the mask.

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
        check_numbers(mask_top_p=mask_top_p)
        super().__init__(observation_space, action_space, lr_schedule, **kwargs)
        self.mask_top_p = float(mask_top_p)
        self.mask_model = frozen_twin(self.model)
        self.mask_trunk = Trunk(decoder_of(self.mask_model))
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
        kept = truncated_support(logits.masked_fill(~nucleus, -torch.inf), self.top_k, self.top_p)
        return nucleus if kept is None else nucleus & kept

    def refresh_mask(self) -> None:
        """Makes the mask policy what the policy is now."""
        theirs = self.mask_model.state_dict()
        for name, tensor in self.model.state_dict().items():
            if tensor.data_ptr() != theirs[name].data_ptr():  # else it is the same one
                theirs[name].copy_(tensor)

    def _trunks(self) -> list[Trunk]:
        return [*super()._trunks(), self.mask_trunk]

    def _get_constructor_parameters(self) -> dict[str, Any]:
        return {**super()._get_constructor_parameters(), "mask_top_p": self.mask_top_p}


class MaskableTransformerPolicy(TransformerActorCriticPolicy):
    """A `TransformerActorCriticPolicy` whose methods take `action_masks`.

    With it and the buffer that stores what it says, sb3-contrib's MaskablePPO trains on text with
    forbidden tokens as it is:

        MaskablePPO(MaskableTransformerPolicy, GymVecEnv(env), gamma=1.0,
                    rollout_buffer_class=MaskableEpisodeBuffer, policy_kwargs={"model": MODEL})

    A masked token has probability zero, in sampling and in updates. Top-k and top-p apply to what
    the mask leaves. The masks are stored with the actions, as the tokens that top-k and top-p leave
    are elsewhere, so minibatches are whole episodes here as well.
    """

    _masks: torch.Tensor | None = None

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        register_with_contrib("policies", "MaskableActorCriticPolicy", MaskableTransformerPolicy)
        self.masks_lock = Lock()
        super().__init__(*args, **kwargs)

    def _support(self, obs: Observation, logits: torch.Tensor) -> torch.Tensor | None:
        masks = None if isinstance(obs, EpisodeBatch) else obs.get(_MASKS, self._masks)
        if masks is None:
            return super()._support(obs, logits)
        allowed = logits.masked_fill(~masks, -torch.inf)
        kept = truncated_support(allowed, self.top_k, self.top_p)
        return masks if kept is None else masks & kept

    def _stored_support(self, obs: EpisodeBatch) -> torch.Tensor | None:
        return obs.support

    def _with_masks(self, action_masks: Any) -> _Masked:
        return _Masked(self, None if action_masks is None else self._as_masks(action_masks))

    def _as_masks(self, action_masks: Any) -> torch.Tensor:
        masks = torch.as_tensor(np.asarray(action_masks), device=self.device).bool()
        return masks.reshape(-1, masks.shape[-1])  # (N, V)

    def forward(  # type: ignore[override]
        self, obs: Observation, deterministic: bool = False, action_masks: Any = None
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """As the parent's, among the tokens that bool `(N, V)` masks allow."""
        with self._with_masks(action_masks):
            return super().forward(obs, deterministic)

    def evaluate_actions(  # type: ignore[override]
        self, obs: Observation, actions: torch.Tensor, action_masks: Any = None
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """As the parent's; an `EpisodeBatch` brings its masks along."""
        if action_masks is not None and not isinstance(obs, EpisodeBatch):
            # Beside the observations, so that parts of these have their own masks, also when a
            # backward pass evaluates them again.
            obs = {**obs, _MASKS: self._as_masks(action_masks)}
        return super().evaluate_actions(obs, actions)

    def get_distribution(self, obs: Observation, action_masks: Any = None) -> Any:  # type: ignore[override]
        """As the parent's, among the tokens that bool `(N, V)` masks allow."""
        with self._with_masks(action_masks):
            return super().get_distribution(obs)

    def predict(
        self,
        observation: Any,
        state: tuple[NDArray[Any], ...] | None = None,
        episode_start: NDArray[Any] | None = None,
        deterministic: bool = False,
        action_masks: Any = None,
    ) -> tuple[NDArray[Any], tuple[NDArray[Any], ...] | None]:
        """As Stable-Baselines3's, among the tokens that bool `(N, V)` masks allow."""
        with self._with_masks(action_masks):
            return super().predict(observation, state, episode_start, deterministic)


class _Masked:
    """Gives a policy masks for as long as the block lasts."""

    def __init__(self, policy: MaskableTransformerPolicy, masks: torch.Tensor | None) -> None:
        self._policy, self._new = policy, masks

    def __enter__(self) -> None:
        self._policy.masks_lock.__enter__()  # another thread's masks wait for their turn
        self._old = self._policy._masks
        # `predict` comes back through `forward`, which is given none: the outer ones stay.
        self._policy._masks = self._old if self._new is None else self._new

    def __exit__(self, *_: object) -> None:
        self._policy._masks = self._old
        self._policy.masks_lock.__exit__()


def register_with_contrib(module: str, name: str, ours: type) -> None:
    """Makes a class pass MaskablePPO's check for one of sb3-contrib's own.

    It does what that class does, but inherits nothing from it: contrib's policy builds networks of
    its own, its buffer stores an observation a transition.

    Args:
        module: Module of contrib's class in `sb3_contrib.common.maskable`.
        name: Its name.
        ours: The class that takes its place.

    Raises:
        ImportError: If sb3-contrib is not installed.
    """
    try:
        theirs = getattr(import_module(f"sb3_contrib.common.maskable.{module}"), name)
    except ImportError as error:
        raise ImportError(
            "masked policies need sb3-contrib: pip install 'llm-gym[contrib]'"
        ) from error
    theirs.register(ours)
