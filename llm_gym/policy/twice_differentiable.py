"""A policy whose gradient has a gradient, for trust-region methods."""

from __future__ import annotations

from typing import Any

from llm_gym.policy.transformer_policy import TransformerActorCriticPolicy


class TwiceDifferentiablePolicy(TransformerActorCriticPolicy):
    """A `TransformerActorCriticPolicy` for sb3-contrib's TRPO.

    Its natural gradient needs products with the divergence's Hessian, and PyTorch's fused attention
    has no second derivative. Here attention is plain products and a softmax: slower, equal to
    rounding. Everything else is the parent's, so

        TRPO(TwiceDifferentiablePolicy, GymVecEnv(env), rollout_buffer_class=EpisodeBuffer,
             policy_kwargs={"model": MODEL}, gamma=1.0)

    works as it is, with `sub_sampling_factor=1` (the default): whole episodes cannot be sliced.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        for model in filter(None, (self.model, self.critic)):
            model.config._attn_implementation = "eager"
