"""The transformer as a Stable-Baselines3 policy: actor and critic on one trunk, cached decoding."""

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
