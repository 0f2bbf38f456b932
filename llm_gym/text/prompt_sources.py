"""Where episodes start: a list or a stream of prompts, and the walk of each row through it."""

from __future__ import annotations

import warnings
import zlib
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from llm_gym.files.generators import generator_from, generator_state
from llm_gym.files.rows import DataWarning, TooLongError
from llm_gym.files.schema import list_of, optional, record, refuse, whole
from llm_gym.language_models.chat import plain_text
from llm_gym.text.prompts import (
    Prompt,
    PromptEncoder,
    PromptRow,
    check_prompt,
    prompt_from_state,
    prompt_to_state,
    read_prompt,
    read_prompts,
)

if TYPE_CHECKING:
    from llm_gym.text.options import TextOptions


def make_source(prompts: Any, encoder: PromptEncoder, options: TextOptions) -> PromptSource:
    """Reads and encodes the `prompts` argument.

    Args:
        prompts: See `read_prompts`.
        encoder: Encoder of the environment.
        options: Options of the environment.

    Returns:
        The source.

    Raises:
        ValueError: As `read_prompts` and `PromptEncoder.encode`; or a stream without a limit.
    """
    rows = read_prompts(prompts, prompt_column=options.prompt_column, bad_rows=options.bad_rows)
    if isinstance(rows, list):
        return PromptList(rows, encoder, options)
    return PromptStream(rows, encoder, options)


class PromptList:
    """A finite list of prompts, encoded once.

    Args:
        rows: The prompts, at least one.
        encoder: Encoder of the environment.
        options: The limits, `too_long`, `prompt_order` and `shard` are used.

    Attributes:
        max_tokens: The most tokens a prompt may have: by the options, or the longest one's.
        column_names: Names of all columns that a prompt has.
        num_prompts: Their number.
    """

    def __init__(
        self, rows: Sequence[PromptRow], encoder: PromptEncoder, options: TextOptions
    ) -> None:
        encoded = encoder.encode(rows, too_long=options.too_long)
        self._prompts = [Prompt(index, row, ids) for index, (row, ids) in enumerate(encoded)]
        limit, _ = options.prompt_limit() if options.max_prompt_tokens else (None, "")
        self.max_tokens = limit or max(len(ids) for _, ids in encoded)
        self.column_names = frozenset(name for row, _ in encoded for name in row.columns)
        self.num_prompts: int | None = len(encoded)
        self._options = options

    def __len__(self) -> int:
        return len(self._prompts)

    def get(self, index: int) -> Prompt:
        """The prompt at `index`; `ValueError` if there is none."""
        if not 0 <= index < len(self._prompts):
            raise ValueError(
                f"prompt_index={index} is outside the list of {len(self._prompts)} prompts"
            )
        return self._prompts[index]

    def cursors(self, num_rows: int, group_size: int) -> list[ListCursor]:
        """One cursor a row. In sequential order, groups share the list out among themselves."""
        shard, num_shards = self._options.shard
        shuffled = self._options.prompt_order == "shuffled"
        groups = num_rows // group_size
        cursors: list[ListCursor] = []
        for row in range(num_rows):
            start, stride = shard, num_shards
            if not shuffled:
                start, stride = shard * groups + row // group_size, num_shards * groups
            cursors.append(ListCursor(self._prompts, start, stride, shuffled))
        return cursors

    def save(self, prompt: Prompt) -> dict[str, Any]:
        """A prompt of the list is known by its index."""
        return prompt_to_state(prompt) if prompt.index < 0 else {"index": prompt.index}

    def load(self, saved: Mapping[str, Any]) -> Prompt:
        """The inverse of `save`."""
        return prompt_from_state(saved) if saved["index"] < 0 else self.get(saved["index"])

    def check_prompt(self, name: str, saved: Any, vocabulary: int) -> None:
        """Raises `ValueError` unless `load` can read what is said to be of `save`.

        Args:
            name: Of what was saved, for messages.
            saved: What was saved.
            vocabulary: Number of token ids.
        """
        if isinstance(saved, Mapping) and len(saved) == 1:
            record({"index": whole(0, len(self._prompts) - 1)})(name, saved)
        else:
            check_prompt(name, saved, vocabulary, self.max_tokens)

    def get_state(self) -> dict[str, Any]:
        """Number and checksum of the prompts, to recognise another list."""
        texts = "\0".join(plain_text(prompt.row.text) for prompt in self._prompts)
        checksum = zlib.crc32(texts.encode("utf-8", "surrogatepass"))
        return {"num_prompts": len(self._prompts), "checksum": checksum}

    def check_state(self, name: str, state: Any) -> None:
        """Raises `ValueError` unless the list is the one that a state was taken with."""
        record({"num_prompts": whole(), "checksum": whole()})(name, state)
        if dict(state) != self.get_state():
            raise ValueError(
                f"the state was saved with other prompts ({state['num_prompts']} of them, here "
                f"are {len(self._prompts)}); make the environment with the same prompts"
            )

    def set_state(self, state: Mapping[str, Any]) -> None:
        """A list stays what it is."""


class ListCursor:
    """Walks prompts `start, start + stride, ...` over and over, each pass newly shuffled or not."""

    def __init__(self, prompts: Sequence[Prompt], start: int, stride: int, shuffled: bool) -> None:
        self._prompts = prompts
        # More shards than prompts: rows then share prompts rather than have none.
        self._indices = range(start % len(prompts), len(prompts), stride)
        self._shuffled = shuffled
        self.restart()

    def restart(self) -> None:
        """Begins a new pass at the next prompt."""
        self._position = 0
        self._pass_rng_state: Mapping[str, Any] | None = None
        self._permutation: np.ndarray | None = None

    def next(self, rng: np.random.Generator) -> Prompt:
        """The next prompt; `rng` shuffles when a pass begins."""
        if self._position == len(self._indices):
            self.restart()
        if self._shuffled and self._permutation is None:
            self._pass_rng_state = rng.bit_generator.state
            self._permutation = self._shuffle(rng)
        place = self._position if self._permutation is None else self._permutation[self._position]
        self._position += 1
        return self._prompts[self._indices[place]]

    def _shuffle(self, rng: np.random.Generator) -> np.ndarray:
        return rng.permutation(len(self._indices)).astype(np.int32)

    def get_state(self) -> dict[str, Any]:
        """Position, and the generator's state from which the pass was shuffled."""
        return {"position": self._position, "pass_rng": self._pass_rng_state}

    def check_state(self, name: str, state: Any, vocabulary: int) -> None:
        """Raises `ValueError` unless a state is one of such a walk; any vocabulary will do."""
        place = whole(0, len(self._indices))
        record({"position": place, "pass_rng": optional(generator_state)})(name, state)
        is_shuffled = self._shuffled and state["position"] > 0
        if is_shuffled != (state["pass_rng"] is not None):
            must_be = "the state of a generator" if is_shuffled else "null"
            refuse(f"{name}.pass_rng", must_be, state["pass_rng"])

    def set_state(self, state: Mapping[str, Any]) -> None:
        """Continues a walk: the same pass is shuffled again from the saved generator."""
        self.restart()
        self._position = int(state["position"])
        self._pass_rng_state = state["pass_rng"]
        if self._pass_rng_state is not None:
            self._permutation = self._shuffle(generator_from(self._pass_rng_state))


class PromptStream:
    """Prompts that come one after the other and cannot be asked for again.

    Args:
        iterator: Gives what `read_prompt` takes.
        encoder: Encoder of the environment.
        options: The limits, `too_long`, `prompt_column` and `bad_rows` are used.

    Raises:
        ValueError: There is no limit of the length.
    """

    column_names: frozenset[str] = frozenset()  # not known before the prompts are
    num_prompts: int | None = None

    def __init__(
        self, iterator: Iterator[Any], encoder: PromptEncoder, options: TextOptions
    ) -> None:
        limit, _ = options.prompt_limit()
        if limit is None:
            raise ValueError(
                "prompts is a stream, so its longest prompt is unknown: pass max_prompt_tokens="
            )
        self._iterator = iterator
        self._encoder = encoder
        self._options = options
        self.max_tokens = limit
        self._pulled = 0
        self._left_out = 0
        self._drops = options.too_long == "drop"
        self._too_long = "error" if self._drops else options.too_long

    def get(self, index: int) -> Prompt:
        """A stream has no indices: always a `ValueError`."""
        raise ValueError(f"prompt_index={index} needs a list of prompts, but prompts is a stream")

    def pull(self) -> Prompt:
        """The next prompt of the stream; `ValueError` when it has come to its end."""
        while True:
            name = f"prompt {self._pulled} of the stream"
            try:
                item = next(self._iterator)
            except StopIteration:
                raise ValueError(
                    f"the stream of prompts ended after {self._pulled} prompts; pass an endless "
                    "iterator (itertools.cycle) or a list"
                ) from None
            self._pulled += 1
            try:
                row = read_prompt(item, name, self._options.prompt_column)
                ((row, ids),) = self._encoder.encode([row], too_long=self._too_long)
            except (TypeError, ValueError) as error:
                is_long = isinstance(error, TooLongError)
                if not (self._drops if is_long else self._options.bad_rows == "skip"):
                    raise
                if not self._left_out:
                    message = f"left out, as others will be like it: {error}"
                    warnings.warn(message, DataWarning, stacklevel=2)
                self._left_out += 1
                continue
            return Prompt(self._pulled - 1, row, ids)

    def cursors(self, num_rows: int, group_size: int) -> list[StreamCursor]:
        """One cursor a row; each prompt goes to all rows of the group that asked for it first."""
        cursors: list[StreamCursor] = []
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

    def check_prompt(self, name: str, saved: Any, vocabulary: int) -> None:
        """Raises `ValueError` unless `load` can read what is said to be of `save`.

        Args:
            name: Of what was saved, for messages.
            saved: What was saved.
            vocabulary: Number of token ids.
        """
        check_prompt(name, saved, vocabulary, self.max_tokens)

    def check_state(self, name: str, state: Any) -> None:
        """Raises `ValueError` if a state is none, or if this stream is past it."""
        record({"pulled": whole()})(name, state)
        if state["pulled"] < self._pulled:
            raise ValueError(
                f"a stream of prompts cannot be rewound from prompt {self._pulled} to "
                f"{state['pulled']}: make the environment again with the stream at its beginning"
            )

    def get_state(self) -> dict[str, Any]:
        """The number of prompts pulled."""
        return {"pulled": self._pulled}

    def set_state(self, state: Mapping[str, Any]) -> None:
        """Skips to where the saved environment was; `ValueError` if this stream ends before."""
        target = int(state["pulled"])
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

    def check_state(self, name: str, state: Any, vocabulary: int) -> None:
        """Raises `ValueError` unless a state holds prompts of such a stream."""

        def check(name: str, saved: Any) -> None:
            self._stream.check_prompt(name, saved, vocabulary)

        record({"queue": list_of(check)})(name, state)

    def set_state(self, state: Mapping[str, Any]) -> None:
        """Restores the prompts not yet read."""
        self._queue.clear()
        self._queue.extend(prompt_from_state(saved) for saved in state["queue"])


PromptSource: TypeAlias = PromptList | PromptStream
