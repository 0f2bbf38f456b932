"""Where episodes start: the prompts, and the order in which each row walks them."""

from __future__ import annotations

import zlib
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from llm_gym.text.prompt_encoding import Prompt, PromptEncoder, prompt_from_state, prompt_to_state
from llm_gym.text.prompt_rows import PromptRow, read_prompts
from llm_gym.text.prompt_source import PromptCursor, PromptSource
from llm_gym.text.prompt_stream import PromptStream

if TYPE_CHECKING:
    from llm_gym.text.options import TextOptions


def make_source(prompts: Any, encoder: PromptEncoder, options: TextOptions) -> PromptSource:
    """Reads and encode the `prompts` argument; sets the encoder's limit if it has none.

    Args:
        prompts: See `read_prompts`.
        encoder: Encoder of the environment.
        options: Options of the environment.

    Returns:
        The source.

    Raises:
        ValueError: As `read_prompts` and `PromptEncoder.encode`; or a stream without a limit.
    """
    rows = read_prompts(prompts)
    if isinstance(rows, list):
        return PromptList(rows, encoder, options)
    if encoder.max_tokens is None:
        raise ValueError(
            "prompts is a stream, so its longest prompt is unknown: pass max_prompt_tokens="
        )
    return PromptStream(rows, encoder)


class PromptList:
    """A finite list of prompts, encoded once."""

    def __init__(
        self, rows: Sequence[PromptRow], encoder: PromptEncoder, options: TextOptions
    ) -> None:
        encoded = encoder.encode(rows, [f"prompts[{index}]" for index in range(len(rows))])
        self._prompts = [
            Prompt(index, row, ids)
            for index, (row, ids) in enumerate(zip(rows, encoded, strict=True))
        ]
        if encoder.max_tokens is None:
            encoder.max_tokens = max(len(ids) for ids in encoded)
        self.column_names = frozenset(name for row in rows for name in row.columns)
        self.num_prompts: int | None = len(rows)
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

    def cursors(self, num_rows: int, group_size: int) -> list[PromptCursor]:
        """One cursor a row. In sequential order, groups share the list out among themselves."""
        shard, num_shards = self._options.shard
        shuffled = self._options.prompt_order == "shuffled"
        groups = num_rows // group_size
        cursors: list[PromptCursor] = []
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

    def get_state(self) -> dict[str, Any]:
        """Number and checksum of the prompts, to recognise another list."""
        texts = "\0".join(prompt.row.text for prompt in self._prompts)
        checksum = zlib.crc32(texts.encode("utf-8", "surrogatepass"))
        return {"num_prompts": len(self._prompts), "checksum": checksum}

    def set_state(self, state: Mapping[str, Any]) -> None:
        """Checks that the list is the one the state was taken with."""
        if dict(state) != self.get_state():
            raise ValueError(
                f"the state was saved with other prompts ({state.get('num_prompts')} of them, here "
                f"are {len(self._prompts)}); make the environment with the same prompts"
            )


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

    def set_state(self, state: Mapping[str, Any]) -> None:
        """Continues a walk: the same pass is shuffled again from the saved generator."""
        self.restart()
        self._position = int(state["position"])
        self._pass_rng_state = state["pass_rng"]
        if self._pass_rng_state is not None:
            self._permutation = self._shuffle(generator_from(self._pass_rng_state))


def generator_from(state: Mapping[str, Any]) -> np.random.Generator:
    """A generator in a saved state, as `generator.bit_generator.state` gives it."""
    bit_generator = getattr(np.random, state["bit_generator"])()
    bit_generator.state = state
    return np.random.Generator(bit_generator)
