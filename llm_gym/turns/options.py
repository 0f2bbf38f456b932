"""The options of turn environments: their names, defaults and allowed values."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from llm_gym.files.ranges import check_choice, check_numbers, shown
from llm_gym.text.options import TextOptions, check_keywords, checked_stop_strings

if TYPE_CHECKING:
    from typing_extensions import TypedDict

    from llm_gym.text.options import AllowedTokens

    class TurnKeywords(TypedDict, total=False):
        """The keywords of `TurnOptions`, for type checkers."""

        max_turn_tokens: int
        max_turns: int | None
        turns_in_context: int | None
        context_length: int
        on_max_length: Literal["truncate", "terminate"]
        turn_template: str | None
        world_time_limit: float | None
        on_world_error: Literal["raise", "truncate"]
        prompt_template: str | None
        add_special_tokens: bool | None
        eos_token_id: int | Sequence[int] | None
        pad_token_id: int | None
        vocab_size: int | None
        stop_strings: Sequence[str]
        forbidden_token_ids: Sequence[int]
        min_new_tokens: int
        allowed_token_ids: AllowedTokens | None


@dataclass(frozen=True, kw_only=True)
class TurnOptions:
    """What a turn environment can be told beside its tokenizer and its world.

    Raises:
        TypeError: An option has the wrong type.
        ValueError: An option has a value that is not allowed.
    """

    max_turn_tokens: int = 64  # length budget of one turn of the agent
    max_turns: int | None = None  # turns of the agent; None: as many as there is room for
    turns_in_context: int | None = None  # after so many the context begins anew; None: never
    context_length: int = 512  # tokens of a whole conversation, L
    on_max_length: Literal["truncate", "terminate"] = "truncate"  # of conversations cut off
    turn_template: str | None = None  # None: the tokenizer's chat template, else "\n{text}\n"
    world_time_limit: float | None = 60.0  # seconds of each call; None: no limit
    on_world_error: Literal["raise", "truncate"] = "raise"
    prompt_template: str | None = None
    add_special_tokens: bool | None = None
    eos_token_id: int | Sequence[int] | None = None
    pad_token_id: int | None = None
    vocab_size: int | None = None
    stop_strings: Sequence[str] = ()
    forbidden_token_ids: Sequence[int] = ()
    min_new_tokens: int = 0  # of each turn
    allowed_token_ids: AllowedTokens | None = None

    def __post_init__(self) -> None:
        check_choice("on_max_length", self.on_max_length, ("truncate", "terminate"))
        check_choice("on_world_error", self.on_world_error, ("raise", "truncate"))
        check_numbers(max_turn_tokens=self.max_turn_tokens, context_length=self.context_length)
        if self.max_turns is not None:
            check_numbers(max_turns=self.max_turns)
        if self.turns_in_context is not None:
            check_numbers(turns_in_context=self.turns_in_context)
            if self.max_turns is None:
                raise ValueError(
                    f"turns_in_context={self.turns_in_context} leaves room for ever more turns: "
                    "say with max_turns how many a conversation may have"
                )
        if self.world_time_limit is not None:
            check_numbers(world_time_limit=self.world_time_limit)
        if self.context_length <= self.max_turn_tokens:
            raise ValueError(
                f"context_length={self.context_length} has no room for the world's text and a turn "
                f"of max_turn_tokens={self.max_turn_tokens}: raise it, or lower max_turn_tokens"
            )
        check_numbers(min_new_tokens=self.min_new_tokens)
        if self.min_new_tokens > self.max_turn_tokens:
            raise ValueError(
                f"min_new_tokens={self.min_new_tokens} is more than "
                f"max_turn_tokens={self.max_turn_tokens}"
            )
        object.__setattr__(self, "stop_strings", checked_stop_strings(self.stop_strings))
        self._check_template()

    def _check_template(self) -> None:
        if self.turn_template is None:
            return
        if not isinstance(self.turn_template, str):
            raise TypeError(
                f"turn_template={shown(self.turn_template)} must be a text with {{text}}, where "
                "the world's text stands"
            )
        if self.turn_template.count("{text}") != 1:
            raise ValueError(
                f"turn_template={self.turn_template!r} must have {{text}} once, where the world's "
                r'text stands, as in "\n{text}\n"'
            )

    @property
    def longest(self) -> int:
        """The most tokens that the agent can write in a conversation."""
        room = self.context_length - 1
        if self.max_turns is None:
            return room
        written = self.max_turns * self.max_turn_tokens
        return written if self.turns_in_context else min(written, room)

    def of_tokens(self) -> TextOptions:
        """What the agent's tokens are held to, for one turn."""
        shared = {field.name for field in dataclasses.fields(TextOptions)} - {"on_max_length"}
        values: dict[str, Any] = {
            field.name: getattr(self, field.name)
            for field in dataclasses.fields(self)
            if field.name in shared - {"context_length"}
        }
        return TextOptions(max_new_tokens=self.max_turn_tokens, **values)

    @classmethod
    def from_keywords(cls, keywords: TurnKeywords) -> TurnOptions:
        """Builds the options, with a helpful error for a keyword that does not exist."""
        check_keywords(cls, keywords)
        return cls(**keywords)
