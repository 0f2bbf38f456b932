"""Prompts from an iterator: each can be had only once."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from llm_gym.text.prompt_encoding import Prompt, PromptEncoder, prompt_from_state, prompt_to_state
from llm_gym.text.prompt_rows import as_row

if TYPE_CHECKING:
    from llm_gym.text.prompt_source import PromptCursor


class PromptStream:
    """Prompts that come one after the other and cannot be asked for again."""

    column_names: frozenset[str] = frozenset()
    num_prompts: int | None = None

    def __init__(self, iterator: Iterator[Any], encoder: PromptEncoder) -> None:
        self._iterator = iterator
        self._encoder = encoder
        self._pulled = 0

    def get(self, index: int) -> Prompt:
        """A stream has no indices: always a `ValueError`."""
        raise ValueError(f"prompt_index={index} needs a list of prompts, but prompts is a stream")

    def pull(self) -> Prompt:
        """The next prompt of the stream; `ValueError` when it has come to its end."""
        name = f"prompt {self._pulled} of the stream"
        try:
            item = next(self._iterator)
        except StopIteration:
            raise ValueError(
                f"the stream of prompts ended after {self._pulled} prompts; pass an endless "
                "iterator (itertools.cycle) or a list"
            ) from None
        row = as_row(item, name)
        prompt = Prompt(self._pulled, row, self._encoder.encode([row], [name])[0])
        self._pulled += 1
        return prompt

    def cursors(self, num_rows: int, group_size: int) -> list[PromptCursor]:
        """One cursor a row; each prompt goes to all rows of the group that asked for it first."""
        cursors: list[PromptCursor] = []
        for _ in range(num_rows // group_size):
            queues: list[deque[Prompt]] = [deque() for _ in range(group_size)]
            cursors.extend(StreamCursor(self, queue, queues) for queue in queues)
        return cursors

    def save(self, prompt: Prompt) -> dict[str, Any]:
        """The prompt in full: the stream will not give it again."""
        return prompt_to_state(prompt)

    def load(self, saved: Mapping[str, Any]) -> Prompt:
        """The inverse of `save`."""
        return prompt_from_state(saved)

    def get_state(self) -> dict[str, Any]:
        """The number of prompts pulled."""
        return {"pulled": self._pulled}

    def set_state(self, state: Mapping[str, Any]) -> None:
        """Skips to where the saved environment was; `ValueError` if this stream is past it."""
        target = int(state["pulled"])
        if target < self._pulled:
            raise ValueError(
                f"a stream of prompts cannot be rewound from prompt {self._pulled} to {target}: "
                "make the environment again with the stream at its beginning"
            )
        while self._pulled < target:
            if next(self._iterator, None) is None:
                raise ValueError(
                    f"the state was saved after {target} prompts, but this stream ended after "
                    f"{self._pulled}"
                )
            self._pulled += 1


class StreamCursor:
    """A row's view of a stream: what its group has pulled and it has not yet read."""

    def __init__(
        self, stream: PromptStream, queue: deque[Prompt], group: Sequence[deque[Prompt]]
    ) -> None:
        self._stream = stream
        self._queue = queue
        self._group = group

    def restart(self) -> None:
        """A stream goes on: nothing to do."""

    def next(self, rng: np.random.Generator) -> Prompt:
        """The next prompt of the group."""
        if not self._queue:
            prompt = self._stream.pull()
            for queue in self._group:
                queue.append(prompt)
        return self._queue.popleft()

    def get_state(self) -> dict[str, Any]:
        """The prompts not yet read."""
        return {"queue": [prompt_to_state(prompt) for prompt in self._queue]}

    def set_state(self, state: Mapping[str, Any]) -> None:
        """Restores the prompts not yet read."""
        self._queue.clear()
        self._queue.extend(prompt_from_state(saved) for saved in state["queue"])
