"""Where prompts come from, as the environment sees it: a source, and a cursor for each row."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    import numpy as np

    from llm_gym.text.prompt_encoding import Prompt


class PromptCursor(Protocol):
    """The walk of one row through the prompts."""

    def next(self, rng: np.random.Generator) -> Prompt:
        """Moves on and return the prompt of the next episode."""

    def restart(self) -> None:
        """Begins again, as a seeded reset does."""

    def get_state(self) -> dict[str, Any]:
        """Where the walk is, as JSON-able values."""

    def set_state(self, state: Mapping[str, Any]) -> None:
        """Continues where `get_state` was called."""


class PromptSource(Protocol):
    """Prompts, and cursors that walk them."""

    column_names: frozenset[str]
    num_prompts: int | None

    def get(self, index: int) -> Prompt:
        """The prompt at an index."""

    def cursors(self, num_rows: int, group_size: int) -> list[PromptCursor]:
        """One cursor a row; rows of a group get the same sequence."""

    def save(self, prompt: Prompt) -> dict[str, Any]:
        """A prompt of a running episode as JSON-able values, as far as its columns are."""

    def load(self, saved: Mapping[str, Any]) -> Prompt:
        """The inverse of `save`."""

    def get_state(self) -> dict[str, Any]:
        """What the rows share, as JSON-able values."""

    def set_state(self, state: Mapping[str, Any]) -> None:
        """Continues where `get_state` was called."""
