"""What tasks need beyond the environment: the room for all their prompts, and a check of an id."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

import gymnasium as gym

from llm_gym.text.vector import TextGenerationVectorEnv

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


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
        unknown = "unexpected keyword argument" in str(error)
        if not unknown or "text environment" in str(error):  # which says what it knows
            raise
        raise ValueError(f"env={env!r} is no text environment ({error})") from error
    if not isinstance(made.unwrapped, TextGenerationVectorEnv):
        raise ValueError(f"env={env!r} is no text environment")
    return made


def longest_prompt(
    prompts: Iterable[str | Mapping[str, Any]],
    tokenizer: PreTrainedTokenizerBase,
    prompt_template: str,
    *,
    add_special_tokens: bool = True,
) -> int:
    """Tokens of the longest prompt of a task.

    As `max_prompt_tokens` it gives all splits of a task the same observation space.

    Args:
        prompts: Prompts of all splits: texts, or rows with a column "prompt" and others that the
            template names.
        tokenizer: The environment's tokenizer.
        prompt_template: Text around the prompt, with `{prompt}`.
        add_special_tokens: As the environment's.

    Returns:
        The number of tokens, the template's included.
    """
    rows = [{"prompt": row} if isinstance(row, str) else row for row in prompts]
    texts = [prompt_template.format(**row) for row in rows]
    encoded = tokenizer(texts, add_special_tokens=add_special_tokens, verbose=False)
    return max(map(len, encoded["input_ids"]))
