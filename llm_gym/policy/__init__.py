"""The transformer as a Stable-Baselines3 policy: actor and critic on one trunk, cached decoding."""

from typing import TYPE_CHECKING

from llm_gym._submodules import submodule_getter
from llm_gym.policy.sampling import EpisodeBatch
from llm_gym.policy.transformer_policy import TransformerActorCriticPolicy
from llm_gym.policy.variants import (
    MaskableTransformerPolicy,
    TopPMaskedPolicy,
    TwiceDifferentiablePolicy,
)

__all__ = [
    "EpisodeBatch",
    "MaskableTransformerPolicy",
    "TopPMaskedPolicy",
    "TransformerActorCriticPolicy",
    "TwiceDifferentiablePolicy",
]

if not TYPE_CHECKING:  # type checkers know the submodules
    __getattr__ = submodule_getter(__name__)
