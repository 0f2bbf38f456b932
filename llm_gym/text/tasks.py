"""What tasks need beyond the environment: the room for all their prompts, and a check of an id."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

import gymnasium as gym

from llm_gym.language_models.chat import PromptFormat
from llm_gym.text.token_vector import TokenVectorEnv

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
    if not env.strip():
        raise ValueError(f"env={env!r} is no id; `llm-gym envs` lists those that there are")
    try:
        made = gym.make_vec(env, **kwargs)
    except TypeError as error:
        unknown = "unexpected keyword argument" in str(error)
        # A text environment says what it knows, and what a world of its does not know has a cause.
        if not unknown or "text environment" in str(error) or error.__cause__ is not None:
            raise
        raise ValueError(f"env={env!r} is no text environment ({error})") from error
    if not isinstance(made.unwrapped, TokenVectorEnv):
        raise ValueError(f"env={env!r} is no text environment")
    return made


def longest_prompt(
    prompts: Iterable[str | Mapping[str, Any]],
    tokenizer: PreTrainedTokenizerBase,
    prompt_template: str | None = None,
    *,
    add_special_tokens: bool | None = None,
) -> int:
    """Tokens of the longest prompt of a task.

    As `max_prompt_tokens` it gives all splits of a task the same observation space.

    Args:
        prompts: Prompts of all splits: texts, or rows with a column "prompt" and others that the
            template names.
        tokenizer: The environment's tokenizer.
        prompt_template: As the environment's.
        add_special_tokens: As the environment's.

    Returns:
        The number of tokens, the template's included.
    """
    shown = PromptFormat(tokenizer, prompt_template, add_special_tokens)
    return max(prompt_lengths(prompts, shown))


def prompt_lengths(
    prompts: Iterable[str | Mapping[str, Any]], prompt_format: PromptFormat
) -> list[int]:
    """Tokens of each prompt, the template's included.

    Args:
        prompts: Texts, or rows with a column "prompt" and others that the template names.
        prompt_format: How the model is shown its prompts.
    """
    rows = [{"prompt": row} if isinstance(row, str) else row for row in prompts]
    texts = [prompt_format.render(row["prompt"], row) for row in rows]
    return [len(ids) for ids in prompt_format.encode(texts)]
