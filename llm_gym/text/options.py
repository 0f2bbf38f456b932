"""The options of the text environments: their names, defaults and allowed values."""

from __future__ import annotations

import dataclasses
import difflib
import math
import numbers
import operator
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from llm_gym.files.ranges import check_numbers
from llm_gym.files.rows import BAD_ROWS, TOO_LONG

if TYPE_CHECKING:
    from typing_extensions import TypedDict

    AllowedTokens = Sequence[int] | Callable[[list[int], list[int]], Sequence[int]]

    class OptionKeywords(TypedDict, total=False):
        """The keywords of `TextOptions`, for type checkers."""

        max_new_tokens: int
        max_prompt_tokens: int | None
        context_length: int | None
        too_long: Literal["error", "drop", "truncate"]
        prompt_column: str | None
        bad_rows: Literal["error", "skip"]
        prompt_template: str | None
        add_special_tokens: bool | None
        prompt_order: Literal["shuffled", "sequential"]
        shard: tuple[int, int]
        eos_token_id: int | Sequence[int] | None
        pad_token_id: int | None
        vocab_size: int | None
        stop_strings: Sequence[str]
        on_max_length: Literal["terminate", "truncate", "penalise"]
        missing_eos_penalty: float
        forbidden_token_ids: Sequence[int]
        min_new_tokens: int
        allowed_token_ids: AllowedTokens | None
        scorer_scope: Literal["episode", "token"]
        scorer_time_limit: float | None
        on_scorer_error: Literal["raise", "penalise"]
        scorer_error_penalty: float


# Arguments of `TextGenerationVectorEnv` alone.
_OF_THE_VECTOR_FORM = ("autoreset_mode", "group_size", "num_envs")
_CHOICES = {
    "prompt_order": ("shuffled", "sequential"),
    "on_max_length": ("terminate", "truncate", "penalise"),
    "on_scorer_error": ("raise", "penalise"),
    "scorer_scope": ("episode", "token"),
    "bad_rows": BAD_ROWS,
    "too_long": TOO_LONG,
}


def check_shard(shard: Any) -> tuple[int, int]:
    """A share of an environment's rows or prompts: (index, number of shards).

    Raises:
        ValueError: It is no such pair.
    """
    try:
        index, count = (operator.index(number) for number in shard)
    except (TypeError, ValueError):
        raise ValueError(f"shard={shard!r} must be a pair (index, number of shards)") from None
    if not 0 <= index < count:
        raise ValueError(f"shard={shard!r} needs 0 <= index < number of shards")
    return index, count


@dataclass(frozen=True, kw_only=True)
class TextOptions:
    """What a text environment can be told beside its tokenizer, prompts and scorer.

    Raises:
        TypeError: An option has the wrong type.
        ValueError: An option has a value that is not allowed.
    """

    max_new_tokens: int = 64  # length budget of the completion
    max_prompt_tokens: int | None = None  # None: the longest prompt of a finite list
    context_length: int | None = None  # of the model; prompts must leave room for an answer
    too_long: Literal["error", "drop", "truncate"] = "error"  # of longer prompts
    prompt_column: str | None = None  # of rows that are tables; None: found by its name
    bad_rows: Literal["error", "skip"] = "error"  # what becomes of rows that cannot be read
    prompt_template: str | None = None  # None: the tokenizer's chat template, else "{prompt}"
    add_special_tokens: bool | None = None  # None: True, unless the chat template is used
    prompt_order: Literal["shuffled", "sequential"] = "shuffled"
    shard: tuple[int, int] = (0, 1)  # (index, number of shards): every n-th prompt
    eos_token_id: int | Sequence[int] | None = None  # None: all the model has; (): none
    pad_token_id: int | None = None  # None: the tokenizer's
    vocab_size: int | None = None  # None: len(tokenizer)
    stop_strings: Sequence[str] = ()
    on_max_length: Literal["terminate", "truncate", "penalise"] = "terminate"
    missing_eos_penalty: float = -1.0  # reward of on_max_length="penalise"
    forbidden_token_ids: Sequence[int] = ()
    min_new_tokens: int = 0  # EOS is masked before this many tokens
    allowed_token_ids: AllowedTokens | None = None
    scorer_scope: Literal["episode", "token"] = "episode"  # or asked after every token
    scorer_time_limit: float | None = None  # seconds a call of the scorer may take; None: no limit
    on_scorer_error: Literal["raise", "penalise"] = "raise"
    scorer_error_penalty: float = 0.0

    def __post_init__(self) -> None:
        for name, choices in _CHOICES.items():
            if getattr(self, name) not in choices:
                raise ValueError(f"{name}={getattr(self, name)!r} is not one of {choices}")
        _check_integer("max_new_tokens", self.max_new_tokens, minimum=1)
        if self.max_prompt_tokens is not None:
            _check_integer("max_prompt_tokens", self.max_prompt_tokens, minimum=1)
        if self.context_length is not None:
            _check_integer("context_length", self.context_length, minimum=2)
            if self.max_new_tokens >= self.context_length:
                raise ValueError(
                    f"max_new_tokens={self.max_new_tokens} leaves no room for a prompt in "
                    f"context_length={self.context_length}; lower max_new_tokens"
                )
        if self.vocab_size is not None:
            _check_integer("vocab_size", self.vocab_size, minimum=2)
        if self.pad_token_id is not None:
            _check_integer("pad_token_id", self.pad_token_id, minimum=0)
        _check_integer("min_new_tokens", self.min_new_tokens, minimum=0)
        if self.min_new_tokens > self.max_new_tokens:
            raise ValueError(
                f"min_new_tokens={self.min_new_tokens} is more than "
                f"max_new_tokens={self.max_new_tokens}"
            )
        _check_finite("missing_eos_penalty", self.missing_eos_penalty)
        _check_finite("scorer_error_penalty", self.scorer_error_penalty)
        if self.scorer_time_limit is not None:
            check_numbers(scorer_time_limit=self.scorer_time_limit)
        object.__setattr__(self, "stop_strings", checked_stop_strings(self.stop_strings))
        if self.prompt_column is not None and not isinstance(self.prompt_column, str):
            raise TypeError(f"prompt_column={self.prompt_column!r} must be the name of a column")
        check_shard(self.shard)

    def prompt_limit(self) -> tuple[int | None, str]:
        """The most tokens that a prompt may have, and which option says so."""
        limits = []
        if self.max_prompt_tokens is not None:
            limits.append((self.max_prompt_tokens, f"max_prompt_tokens={self.max_prompt_tokens}"))
        if self.context_length is not None:
            left = self.context_length - self.max_new_tokens
            because = (
                f"the {left} that the model's context of {self.context_length} leaves beside "
                f"max_new_tokens={self.max_new_tokens}"
            )
            limits.append((left, because))
        return min(limits, default=(None, ""))

    @classmethod
    def from_keywords(cls, keywords: OptionKeywords) -> TextOptions:
        """Builds the options, with a helpful error for a keyword that does not exist.

        Args:
            keywords: Options by name.

        Returns:
            The checked options.

        Raises:
            TypeError: A keyword is unknown.
        """
        check_keywords(cls, keywords)
        return cls(**keywords)


def checked_stop_strings(stop_strings: Any) -> tuple[str, ...]:
    """The strings that end an answer, however they were listed.

    Raises:
        TypeError: They are no list.
        ValueError: One is empty, or no string.
    """
    if isinstance(stop_strings, str):
        raise TypeError(
            f"stop_strings={stop_strings!r} is a single string; "
            f"pass a list of strings: [{stop_strings!r}]"
        )
    if not isinstance(stop_strings, Iterable):
        raise TypeError(f"stop_strings={stop_strings!r} must be a list of strings")
    checked = tuple(stop_strings)  # what can be read only once is read here
    for stop in checked:
        if not isinstance(stop, str) or not stop:
            raise ValueError(f"stop_strings contains {stop!r}; each must be a non-empty string")
    return checked


def check_keywords(options: type[Any], keywords: Mapping[str, Any]) -> None:
    """Raises `TypeError` for a keyword that is no field of a dataclass of options, with a hint."""
    known = [field.name for field in dataclasses.fields(options)]
    for name in keywords:
        if name not in known:
            # Python's own phrase comes first: Stable-Baselines3, TorchRL and Gymnasium look for it
            # to find out which of their own options an environment does not take.
            raise TypeError(
                f"the text environment got an unexpected keyword argument {name!r}; "
                f"{_hint(name, known)}"
            )


def _hint(name: str, known: Sequence[str]) -> str:
    if name in _OF_THE_VECTOR_FORM:
        return (
            f"{name} is one of gymnasium.make_vec(id, num_envs, {name}=...); in its modes 'sync' "
            "and 'async' the autoreset mode goes into vector_kwargs={'autoreset_mode': ...}, and "
            "there are no groups"
        )
    near = difflib.get_close_matches(name, known, n=1)
    return f"did you mean {near[0]!r}?" if near else f"known are {list(known)}"


def _check_integer(name: str, value: Any, *, minimum: int) -> None:
    if isinstance(value, bool) or not isinstance(value, numbers.Integral):
        raise TypeError(f"{name}={value!r} must be an integer")
    if value < minimum:
        raise ValueError(f"{name}={value} must be at least {minimum}")


def _check_finite(name: str, value: Any) -> None:
    if isinstance(value, bool) or not isinstance(value, numbers.Real):
        raise TypeError(f"{name}={value!r} must be a number")
    if not math.isfinite(value):
        raise ValueError(f"{name}={value} must be finite")
