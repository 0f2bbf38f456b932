"""How prompts are shown and answers end, as settings of every command that lets a model write."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

from llm_gym.files.ranges import check_choice, check_settings
from llm_gym.files.settings import AUTO_ON_OFF, setting
from llm_gym.language_models.chat import check_fields
from llm_gym.language_models.loading import DTYPES
from llm_gym.stages.by_name import PromptsConfig


@dataclass(frozen=True)
class AnswerConfig(PromptsConfig):
    """From a prompt to the end of an answer; None leaves a setting to the task and the model."""

    prompt_template: str | None = setting(
        None, "text around {prompt} (\"{prompt}\": none); default: the task's or the chat's"
    )
    add_special_tokens: bool | None = setting(
        None, "let the tokenizer add its BOS to prompts; default: unless the chat template does"
    )
    max_new_tokens: int | None = setting(None, "most tokens of an answer")
    min_new_tokens: int | None = setting(None, "least tokens of an answer: none ends before")
    eos_token_id: list[int] | None = setting(
        None, "token that ends an answer, may be given several times; default: the model's"
    )
    stop_strings: list[str] | None = setting(
        None, "text that ends an answer, may be given several times"
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        check_fields(self.prompt_template)

    def ending_options(self) -> dict[str, Any]:
        """Arguments of the environment, without those that say how prompts are read."""
        others = {each.name for each in fields(PromptsConfig)}
        names = [each.name for each in fields(AnswerConfig) if each.name not in others]
        values = {name: getattr(self, name) for name in names}
        return {name: value for name, value in values.items() if value not in (None, [])}


@dataclass(frozen=True)
class EpisodeConfig(AnswerConfig):
    """The same, and what becomes of answers that do not end."""

    on_max_length: str | None = setting(
        None, "what an answer without an end is: terminate (scored), truncate or penalise"
    )
    missing_eos_penalty: float | None = setting(
        None, 'reward of an unfinished answer under "penalise"'
    )
    scorer_time_limit: float | None = setting(None, "seconds that a call of the scorer may take")

    def episode_options(self) -> dict[str, Any]:
        """Arguments of the environment."""
        names = ("on_max_length", "missing_eos_penalty", "scorer_time_limit")
        values = {name: getattr(self, name) for name in names}
        ends = {name: value for name, value in values.items() if value is not None}
        return self.prompt_options() | self.ending_options() | ends


@dataclass(frozen=True)
class TurnConfig:
    """Conversations with a world; None leaves a setting to the environment."""

    world: str | None = setting(
        None, "world to talk to: module:NAME, path.py:NAME or an id; trains on llm_gym/Turns-v0"
    )
    world_kwargs: list[str] | None = setting(
        None, "NAME=VALUE, an argument of the world, may be given several times"
    )
    max_turn_tokens: int | None = setting(None, "most tokens of a turn")
    max_turns: int | None = setting(None, "most turns of a conversation")
    turns_in_context: int | None = setting(
        None, "turns after which the context begins anew with the world's last text"
    )
    context_length: int | None = setting(None, "most tokens of a conversation, of both sides")
    turn_template: str | None = setting(
        None, "all that stands between two turns, with {text}; default: the chat's"
    )
    world_time_limit: float | None = setting(
        None, "seconds that a world may take: made, begun or asked"
    )
    on_world_error: str | None = setting(None, "what a world's exception does: raise or truncate")

    def world_arguments(self) -> dict[str, Any]:
        """The world's arguments: numbers, lists and the like as JSON has them, all else as text.

        Raises:
            ValueError: One is no NAME=VALUE, or is there twice.
        """
        found: dict[str, Any] = {}
        for argument in self.world_kwargs or []:
            name, equals, value = argument.partition("=")
            if not equals or not name.isidentifier():
                raise ValueError(f"world_kwargs={argument!r} must be NAME=VALUE")
            if name in found:
                raise ValueError(
                    f"world_kwargs={argument!r}: {name} has been given already; leave one out"
                )
            try:
                found[name] = json.loads(value)
            except ValueError:
                found[name] = value
        return found

    def turn_options(self) -> dict[str, Any]:
        """Arguments of the environment."""
        names = [each.name for each in fields(TurnConfig) if each.name != "world_kwargs"]
        given = {name: getattr(self, name) for name in names}
        arguments = self.world_arguments()
        given["world_kwargs"] = arguments or None
        return {name: value for name, value in given.items() if value is not None}


_OF_ROWS = {"too_long": "error", "bad_rows": "error"}  # and what they are where nobody says
_OF_PROMPTS = (
    "scorer",
    "prompts",
    "eval_prompts",
    "prompt_column",
    "max_prompt_tokens",
    "max_new_tokens",
    "missing_eos_penalty",
    "scorer_time_limit",
    *_OF_ROWS,
)


def check_conversations(
    env: str, turns: TurnConfig, others: Mapping[str, Any], *, has_world: bool
) -> None:
    """Holds settings of worlds, and settings of prompts, against the environment they are for.

    Args:
        env: Its id.
        turns: The settings of worlds.
        others: All settings by name, those of prompts among them.
        has_world: Whether its episodes are conversations with one.

    Raises:
        ValueError: One is of the other kind.
    """
    turns.world_arguments()
    of_worlds = [*(each.name for each in fields(TurnConfig)), "eval_conversations"]
    for name in _OF_PROMPTS if has_world else of_worlds:
        if others.get(name) not in (None, _OF_ROWS.get(name)):
            raise ValueError(
                f"{name}={others[name]!r} is of prompts, but env={env!r} is a conversation with a "
                "world: leave it out (a turn has max_turn_tokens, and the world pays for it)"
                if has_world
                else f"{name}={others[name]!r} is of conversations, but env={env!r} has none: "
                "leave it out, or name a world"
            )


@dataclass(frozen=True)
class LoadingConfig:
    """How a language model is loaded.

    Raises:
        ValueError: There is no such type.
    """

    dtype: str = setting(
        "float32", "type of the weights: float32, bfloat16, ... or auto (the file's)"
    )
    attn_implementation: str | None = setting(
        None, "attention as in transformers: eager, sdpa, ...; default: transformers' choice"
    )

    def __post_init__(self) -> None:
        check_choice("dtype", self.dtype, DTYPES)

    def loading_options(self) -> dict[str, Any]:
        """Arguments of the policy."""
        return {"dtype": self.dtype, "attn_implementation": self.attn_implementation}


@dataclass(frozen=True)
class SamplingConfig:
    """How the model chooses its tokens.

    Raises:
        TypeError: A value has another type.
        ValueError: A value is out of range, or `prefix_cache` is none of the words.
    """

    temperature: float = setting(1.0, "temperature of the sampling")
    top_k: int = setting(0, "sample among the k most probable tokens (0: all)")
    top_p: float = setting(1.0, "sample from the nucleus of this probability (1: all)")
    prefix_cache: str = setting("auto", "decode from a cache: auto (where it is right), on or off")

    def __post_init__(self) -> None:
        check_settings(self)
        check_choice("prefix_cache", self.prefix_cache, AUTO_ON_OFF)

    def policy_options(self) -> dict[str, Any]:
        """Arguments of the policy."""
        return {
            "temperature": self.temperature,
            "top_k": self.top_k,
            "top_p": self.top_p,
            "prefix_cache": AUTO_ON_OFF[self.prefix_cache],
        }
