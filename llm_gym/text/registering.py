"""Making registered text environments."""

from __future__ import annotations

from typing import Any

import gymnasium as gym

from llm_gym.text.vector import TextGenerationVectorEnv

__all__ = ["make_text_vector_env"]


def make_text_vector_env(env: str, **kwargs: Any) -> gym.vector.VectorEnv:
    """`gymnasium.make_vec`, for text environments only.

    Args:
        env: Registered id.
        **kwargs: Arguments of the environment, `num_envs` among them.

    Returns:
        The environment.

    Raises:
        ValueError: The environment is not one of text.
    """
    try:
        made = gym.make_vec(env, **kwargs)
    except TypeError as error:
        if "unexpected keyword argument" not in str(error):
            raise
        raise ValueError(f"env={env!r} is no text environment ({error})") from error
    if not isinstance(made.unwrapped, TextGenerationVectorEnv):
        raise ValueError(f"env={env!r} is no text environment")
    return made
