"""The transformer as a Stable-Baselines3 policy: actor and critic on one trunk, cached decoding."""

from llm_gym.policy.episode_batch import EpisodeBatch
from llm_gym.policy.top_p_mask import TopPMaskedPolicy
from llm_gym.policy.transformer_policy import TransformerActorCriticPolicy
from llm_gym.policy.twice_differentiable import TwiceDifferentiablePolicy

__all__ = [
    "EpisodeBatch",
    "TopPMaskedPolicy",
    "TransformerActorCriticPolicy",
    "TwiceDifferentiablePolicy",
]
