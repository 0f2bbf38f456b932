"""From names on a command line to environments."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from llm_gym.scorers.by_name import scorer_from_name

if TYPE_CHECKING:
    from gymnasium.vector import VectorEnv

TEXT_GENERATION = "llm_gym/TextGeneration-v0"  # the environment without a task


def no_score(prompts: list[str], completions: list[str]) -> list[float]:
    """The scorer of who wants answers and no scores: 0 for all."""
    return [0.0] * len(completions)


def environment_kwargs(
    env: str,
    model: str,
    *,
    scorer: str | None = None,
    prompts: str | None = None,
    prompt_template: str | None = None,
    device: str = "cpu",
    **options: Any,
) -> dict[str, Any]:
    """Arguments of a text environment that fit a model.

    Args:
        env: Id of the environment.
        model: Name or path of the language model; its tokenizer and vocabulary are used.
        scorer: Name of a scorer; None leaves it to the task.
        prompts: Path of a file of prompts; None leaves them to the task.
        prompt_template: Text around the prompt ("{prompt}" is the bare prompt). None leaves it to
            the task, which takes the tokenizer's chat template if there is one.
        device: Where a scorer that is a model runs; the environment itself holds none.
        **options: Further arguments of the environment; None means not given.

    Returns:
        Keyword arguments for `gymnasium.make` or `gymnasium.make_vec`.
    """
    from llm_gym.language_models import load_tokenizer
    from llm_gym.language_models.architecture import vocabulary_size
    from llm_gym.language_models.chat import PromptFormat
    from llm_gym.language_models.generation import unheard_end_ids
    from llm_gym.language_models.loading import load_config

    tokenizer = load_tokenizer(model)
    size = vocabulary_size(load_config(model))
    kwargs: dict[str, Any] = {"tokenizer": tokenizer, "vocab_size": size}
    if tokenizer.pad_token_id is None and tokenizer.eos_token_id is not None:
        kwargs["pad_token_id"] = tokenizer.eos_token_id  # masks, not ids, say what is padding
    heard = PromptFormat(tokenizer, prompt_template).end_token_ids()
    unheard = unheard_end_ids(model, heard, size)
    if unheard:  # a tokenizer from a hub does not bring its model's generation config along
        kwargs["eos_token_id"] = [*heard, *unheard]
    if scorer is not None:
        kwargs["scorer"] = scorer_from_name(scorer, device)
    if prompts is not None:
        kwargs["prompts"] = prompts
    if prompt_template is not None:
        kwargs["prompt_template"] = prompt_template
    return kwargs | {name: value for name, value in options.items() if value is not None}


def room_for_answers(
    model: str,
    prompts: Iterable[Mapping[str, Any]],
    most: int,
    prompt_template: str | None = None,
) -> int:
    """Most tokens of an answer, where nobody has said how many: `most`, if the model reads so far.

    Says so, once, where the model's context leaves less beside the longest prompt.

    Args:
        model: Name or path of the language model.
        prompts: Rows with a "prompt", and columns that the template names.
        most: The tokens that are wanted.
        prompt_template: Text around the prompt; None takes the tokenizer's chat template.

    Raises:
        ValueError: A prompt alone fills the context.
    """
    rooms = context_left(model, prompts, prompt_template)
    room = min((left for left in rooms if left is not None), default=most)
    if room < 1:
        raise ValueError(
            f"a prompt fills the context of {model}, which leaves no room for an answer"
        )
    if room < most:
        print(
            f"llm-gym: answers have at most {room} tokens, which is what the context of {model} "
            "leaves beside the longest prompt",
            file=sys.stderr,
        )
    return min(room, most)


def context_left(
    model: str, prompts: Iterable[Mapping[str, Any]], prompt_template: str | None = None
) -> list[int | None]:
    """Tokens that a model's context leaves beside each prompt; None where it has no end.

    Args:
        model: Name or path of the language model.
        prompts: Rows with a "prompt", and columns that the template names.
        prompt_template: Text around the prompt; None takes the tokenizer's chat template.
    """
    from llm_gym.language_models import load_tokenizer
    from llm_gym.language_models.architecture import context_length
    from llm_gym.language_models.loading import load_config
    from llm_gym.text.tasks import longest_prompt

    tokenizer = load_tokenizer(model)
    context = context_length(load_config(model))
    if context is None:
        return [None for _ in prompts]
    return [context - longest_prompt([row], tokenizer, prompt_template) for row in prompts]


def make_vector_env(env: str, num_envs: int, kwargs: dict[str, Any]) -> VectorEnv:
    """Makes a vector environment to train on.

    Args:
        env: Registered id.
        num_envs: Number of rows.
        kwargs: From `environment_kwargs`.

    Returns:
        The environment; its rows are reset in the step that ends them, as training needs it.

    Raises:
        ValueError: The task needs prompts or a scorer and there are none, or `env` is not text.
    """
    from llm_gym.text.tasks import make_text_vector_env

    check_task(env, kwargs)
    return make_text_vector_env(env, num_envs=num_envs, autoreset_mode="SameStep", **kwargs)


def check_task(env: str, kwargs: dict[str, Any]) -> None:
    """Raises `ValueError` if a task that comes without prompts or scorer was given none."""
    if env == TEXT_GENERATION:
        for needed in ("prompts", "scorer"):
            if needed not in kwargs:
                raise ValueError(f"{env} needs {needed}: give --{needed}, or another --env")
