"""How prompts are shown and answers end, as settings of every command that lets a model write."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any

from llm_gym.files.ranges import check_choice, check_settings
from llm_gym.files.settings import setting
from llm_gym.language_models.chat import check_fields
from llm_gym.language_models.loading import DTYPES
from llm_gym.stages.by_name import PromptsConfig

AUTO_ON_OFF: dict[str, bool | str] = {"auto": "auto", "on": True, "off": False}
"""Values of some settings, and what the policy calls them."""


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
