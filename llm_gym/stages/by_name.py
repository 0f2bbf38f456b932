"""From names on a command line to environments."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any

from llm_gym.files.rows import DataWarning, LengthConfig, short_enough
from llm_gym.files.settings import setting
from llm_gym.parallel import world
from llm_gym.scorers.by_name import scorer_from_name

if TYPE_CHECKING:
    from gymnasium.vector import VectorEnv

    from llm_gym.language_models.chat import PromptFormat
    from llm_gym.text.prompts import PromptRow

TEXT_GENERATION = "llm_gym/TextGeneration-v0"  # the environment without a task
TURNS = "llm_gym/Turns-v0"  # that without a world


@dataclass(frozen=True)
class PromptsConfig(LengthConfig):
    """How a command reads a file of prompts.

    Raises:
        ValueError: A value is not allowed.
    """

    prompt_column: str | None = setting(
        None, "column of the file with the prompt; default: prompt, messages, instruction ..."
    )
    max_prompt_tokens: int | None = setting(
        None, "most tokens of a prompt; default: what the model's context leaves"
    )

    def prompt_options(self) -> dict[str, Any]:
        """The settings that differ from the defaults, as arguments of an environment."""
        return {
            field.name: getattr(self, field.name)
            for field in fields(PromptsConfig)
            if getattr(self, field.name) != field.default
        }

    def fitted_options(self) -> dict[str, Any]:
        """Those for prompts that `read` read and `fitting_prompts` returned."""
        too_long = "truncate" if self.too_long == "truncate" else "error"
        return {"max_prompt_tokens": self.max_prompt_tokens, "too_long": too_long}

    def read(self, path: str) -> list[PromptRow]:
        """Reads a file of prompts as the settings say."""
        from llm_gym.text.prompts import read_prompts

        rows = read_prompts(path, prompt_column=self.prompt_column, bad_rows=self.bad_rows)
        assert isinstance(rows, list)  # a path never gives a stream
        return rows


def no_score(prompts: list[str], completions: list[str]) -> list[float]:
    """The scorer of who wants answers and no scores: 0 for all."""
    return [0.0] * len(completions)


def prompt_format_of(
    model: str,
    prompt_template: str | PromptFormat | None = None,
    add_special_tokens: bool | None = None,
) -> PromptFormat:
    """How a model is shown its prompts; with its tokenizer, which is loaded here and once.

    Args:
        model: Name or path of the language model.
        prompt_template: Text around the prompt; None takes the tokenizer's chat template. A format
            that is ready is handed back.
        add_special_tokens: As the environment's.
    """
    from llm_gym.language_models import load_tokenizer
    from llm_gym.language_models.chat import PromptFormat

    if isinstance(prompt_template, PromptFormat):
        return prompt_template
    return PromptFormat(load_tokenizer(model), prompt_template, add_special_tokens)


def environment_kwargs(
    env: str,
    model: str,
    *,
    scorer: str | None = None,
    prompts: str | None = None,
    prompt_template: str | PromptFormat | None = None,
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
            the task, which takes the tokenizer's chat template if there is one. With a format
            that is ready the tokenizer is not loaded again.
        device: Where a scorer that is a model runs; the environment itself holds none.
        **options: Further arguments of the environment; None means not given.

    Returns:
        Keyword arguments for `gymnasium.make` or `gymnasium.make_vec`.
    """
    from llm_gym.language_models.architecture import context_length, vocabulary_size
    from llm_gym.language_models.generation import unheard_end_ids
    from llm_gym.language_models.loading import load_config

    shown = prompt_format_of(model, prompt_template)
    tokenizer = shown.tokenizer
    architecture = load_config(model)
    size, context = vocabulary_size(architecture), context_length(architecture)
    kwargs: dict[str, Any] = {"tokenizer": tokenizer, "vocab_size": size}
    if context is not None and not (has_turns(env) and _fits(env, context)):
        kwargs["context_length"] = context
    if tokenizer.pad_token_id is None and tokenizer.eos_token_id is not None:
        kwargs["pad_token_id"] = tokenizer.eos_token_id  # masks, not ids, say what is padding
    heard = shown.end_token_ids()
    unheard = unheard_end_ids(model, heard, size)
    if unheard:  # a tokenizer from a hub does not bring its model's generation config along
        kwargs["eos_token_id"] = [*heard, *unheard]
    if scorer is not None:
        kwargs["scorer"] = scorer_from_name(scorer, device)
    if prompts is not None:
        kwargs["prompts"] = prompts
    for name in ("prompt_template", "add_special_tokens"):
        if getattr(shown, name) is not None:
            kwargs[name] = getattr(shown, name)
    return kwargs | {name: value for name, value in options.items() if value is not None}


def has_turns(env: str) -> bool:
    """Whether episodes of a registered environment are conversations with a world of turns."""
    import gymnasium as gym
    from gymnasium.envs.registration import load_env_creator

    from llm_gym.turns import TurnVectorEnv

    entry: Any = gym.spec(env).vector_entry_point if env in gym.registry else None
    if isinstance(entry, str) and ".registration:" not in entry:  # which makes tasks
        try:
            entry = load_env_creator(entry)
        except (ImportError, AttributeError):  # said where it is made
            return False
    return isinstance(entry, type) and issubclass(entry, TurnVectorEnv)


def _fits(env: str, context: int) -> bool:
    """Whether a model can read conversations of the environment's own length."""
    import gymnasium as gym

    from llm_gym.turns.options import TurnOptions

    return context >= gym.spec(env).kwargs.get("context_length", TurnOptions.context_length)


def fitting_prompts(
    model: str,
    prompts: Sequence[PromptRow],
    config: PromptsConfig,
    max_new_tokens: int | None,
    default: int,
    prompt_template: str | PromptFormat | None = None,
) -> tuple[list[PromptRow], int]:
    """Prompts beside which the model's context has room for an answer, and the room.

    Where nobody has said how long answers may be, and too long prompts are an error, answers are as
    long as the longest prompt lets them; that is said once.

    Args:
        model: Name or path of the language model.
        prompts: The prompts.
        config: `max_prompt_tokens` and `too_long` are used. Prompts to be truncated are cut by the
            environment, again and again where it is made again, so it is said here and once (see
            `said_already`).
        max_new_tokens: Most tokens of an answer; None leaves it to the context.
        default: What it is where the context holds it.
        prompt_template: Text around the prompt; None takes the tokenizer's chat template.

    Returns:
        The prompts that are not to be left out, and the most tokens of an answer.

    Raises:
        ValueError: A prompt is too long, by its place; or all are.
    """
    from llm_gym.text.options import TextOptions

    texts = [{**row.columns, "prompt": row.text} for row in prompts]
    lengths, context = _lengths(model, texts, prompt_template)
    if context is None:
        max_new_tokens = max_new_tokens or default
    elif max_new_tokens is None and config.too_long == "error":
        max_new_tokens = _room(model, context - max(lengths), default)
    elif max_new_tokens is None:
        max_new_tokens = min(default, context // 2)
    options = TextOptions(
        max_new_tokens=max_new_tokens,
        max_prompt_tokens=config.max_prompt_tokens,
        context_length=context,
    )
    rows = zip(prompts, lengths, strict=True)
    kept = short_enough(
        [(row.place or "a prompt", row, length) for row, length in rows],
        *options.prompt_limit(),
        "prompts",
        too_long=config.too_long,
    )
    return kept, max_new_tokens


def _room(model: str, left: int, default: int) -> int:
    room = max(1, min(left, default))
    if 1 <= left < default:
        print(
            f"llm-gym: answers have at most {room} tokens, which is what the context of {model} "
            "leaves beside the longest prompt",
            file=sys.stderr,
        )
    return room


@contextmanager
def said_already() -> Iterator[None]:
    """Keeps environments from saying once more which prompts they cut."""
    with warnings.catch_warnings():
        cut = r"\d+ of \d+ prompts are too long and are cut"
        warnings.filterwarnings("ignore", cut, DataWarning)
        yield


def context_left(
    model: str,
    prompts: Iterable[Mapping[str, Any]],
    prompt_template: str | PromptFormat | None = None,
) -> list[int | None]:
    """Tokens that a model's context leaves beside each prompt; None where it has no end.

    Args:
        model: Name or path of the language model.
        prompts: Rows with a "prompt", and columns that the template names.
        prompt_template: Text around the prompt; None takes the tokenizer's chat template.
    """
    lengths, context = _lengths(model, prompts, prompt_template)
    return [None if context is None else context - length for length in lengths]


def _lengths(
    model: str, prompts: Iterable[Mapping[str, Any]], prompt_template: str | PromptFormat | None
) -> tuple[list[int], int | None]:
    """Tokens of each prompt, and those that the model can read."""
    from llm_gym.language_models.architecture import context_length
    from llm_gym.language_models.loading import load_config
    from llm_gym.text.tasks import prompt_lengths

    shown = prompt_format_of(model, prompt_template)
    return prompt_lengths(prompts, shown), context_length(load_config(model))


def say_prompt_format(shown: PromptFormat) -> None:
    """Says on standard error how a model is shown its prompts."""
    print(f"prompts are shown as {shown}", file=sys.stderr)


def make_vector_env(env: str, num_envs: int, kwargs: dict[str, Any]) -> VectorEnv:
    """Makes a vector environment to train on, with this process's share of rows and prompts.

    Args:
        env: Registered id.
        num_envs: Number of rows, of all processes together.
        kwargs: From `environment_kwargs`.

    Returns:
        The environment; its rows are reset in the step that ends them, as training needs it.

    Raises:
        ValueError: The task needs prompts or a scorer and there are none, `env` is not text, or the
            rows cannot be shared out.
    """
    from llm_gym.text.tasks import make_text_vector_env

    check_task(env, kwargs)
    processes = world()
    if processes.size > 1:
        check_shared_rows(num_envs, kwargs.get("group_size", 1), processes.size)
        num_envs //= processes.size
        kwargs = {**kwargs, "shard": (processes.rank, processes.size)}
    return make_text_vector_env(env, num_envs=num_envs, autoreset_mode="SameStep", **kwargs)


def check_shared_rows(num_envs: int, group_size: int, processes: int) -> None:
    """Raises `ValueError` for rows that so many processes cannot share in whole groups."""
    if processes > 1 and num_envs % (processes * group_size):
        raise ValueError(
            f"num_envs={num_envs} cannot be shared out among {processes} processes in groups of "
            f"group_size={group_size}: it must be a multiple of {processes * group_size}"
        )


def check_task(env: str, kwargs: dict[str, Any]) -> None:
    """Raises `ValueError` if a task that comes without prompts or scorer, or world, has none."""
    if env == TURNS and "world" not in kwargs:
        raise ValueError(f"{env} needs world: give --world, or another --env")
    if env == TEXT_GENERATION:
        for needed in ("prompts", "scorer"):
            if needed not in kwargs:
                raise ValueError(f"{env} needs {needed}: give --{needed}, or another --env")
