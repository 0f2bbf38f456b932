"""What sb3-contrib's MaskablePPO needs, as it is, to train on text with forbidden tokens.

    from sb3_contrib import MaskablePPO

    MaskablePPO(
        MaskableTransformerPolicy,
        GymVecEnv(env),
        rollout_buffer_class=MaskableEpisodeBuffer,
        policy_kwargs={"model": MODEL},
        gamma=1.0,
    )

The masks of the environment are what top-k and top-p are elsewhere: the tokens there were to choose
from. They are stored with the actions, so minibatches are whole episodes here as well.
"""

from __future__ import annotations

from collections.abc import Generator, Mapping
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from llm_gym.learning.buffer import EpisodeBuffer
from llm_gym.policy.episode_batch import EpisodeBatch, unpack_support
from llm_gym.policy.sampling import truncated_support
from llm_gym.policy.transformer_policy import Observation, TransformerActorCriticPolicy


class MaskableTransformerPolicy(TransformerActorCriticPolicy):
    """A `TransformerActorCriticPolicy` whose methods take `action_masks`.

    A masked token has probability zero, in sampling and in updates. Top-k and top-p apply to what
    the mask leaves.
    """

    _masks: torch.Tensor | None = None

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        _register_with_contrib()
        super().__init__(*args, **kwargs)

    def _support(self, obs: Observation, logits: torch.Tensor) -> torch.Tensor | None:
        if isinstance(obs, EpisodeBatch):
            return None if obs.support is None else unpack_support(obs.support, logits.shape[-1])
        if self._masks is None:
            return truncated_support(logits, self.top_k, self.top_p)
        allowed = logits.masked_fill(~self._masks, -torch.inf)
        kept = truncated_support(allowed, self.top_k, self.top_p)
        return self._masks if kept is None else self._masks & kept

    def _with_masks(self, action_masks: Any) -> _Masked:
        masks = None
        if action_masks is not None:
            masks = torch.as_tensor(np.asarray(action_masks), device=self.device).bool()
            masks = masks.reshape(-1, masks.shape[-1])  # (N, V)
        return _Masked(self, masks)

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
        with self._with_masks(action_masks):
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
        self._policy, self._new, self._old = policy, masks, policy._masks

    def __enter__(self) -> None:
        # `predict` comes back through `forward`, which is given none: the outer ones stay.
        self._policy._masks = self._old if self._new is None else self._new

    def __exit__(self, *_: object) -> None:
        self._policy._masks = self._old


class MaskableSamples(NamedTuple):
    """What MaskablePPO reads of a minibatch; the masks are in the observations."""

    observations: EpisodeBatch
    actions: torch.Tensor
    old_values: torch.Tensor
    old_log_prob: torch.Tensor
    advantages: torch.Tensor
    returns: torch.Tensor
    action_masks: None = None


class MaskableEpisodeBuffer(EpisodeBuffer):
    """An `llm_gym.EpisodeBuffer` that MaskablePPO accepts."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        _register_with_contrib()
        super().__init__(*args, **kwargs)

    def add(  # type: ignore[override]
        self,
        obs: Mapping[str, NDArray[Any]],
        *args: Any,
        action_masks: NDArray[Any] | None = None,
        **kwargs: Any,
    ) -> None:
        """As the parent's: the log-probabilities carry the masks already."""
        super().add(obs, *args, **kwargs)

    def get(self, batch_size: int | None = None) -> Generator[Any, None, None]:
        """As the parent's, with the field MaskablePPO looks for."""
        for samples in super().get(batch_size):
            yield MaskableSamples(*samples[:6])  # type: ignore[arg-type]


def _register_with_contrib() -> None:
    """Makes the two classes pass MaskablePPO's checks.

    They do what its own classes do, but inherit nothing from them: its policy builds networks of
    its own, its buffer stores an observation a transition.

    Raises:
        ImportError: If sb3-contrib is not installed.
    """
    try:
        from sb3_contrib.common.maskable.buffers import MaskableDictRolloutBuffer
        from sb3_contrib.common.maskable.policies import MaskableActorCriticPolicy
    except ImportError as error:
        raise ImportError(
            "masked policies need sb3-contrib: pip install 'llm-gym[contrib]'"
        ) from error
    MaskableActorCriticPolicy.register(MaskableTransformerPolicy)
    MaskableDictRolloutBuffer.register(MaskableEpisodeBuffer)
