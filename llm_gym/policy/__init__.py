"""The transformer as a Stable-Baselines3 policy: actor and critic on one trunk, cached decoding."""

from llm_gym.policy.episode_batch import EpisodeBatch
from llm_gym.policy.transformer_policy import TransformerActorCriticPolicy

__all__ = ["EpisodeBatch", "TransformerActorCriticPolicy"]
