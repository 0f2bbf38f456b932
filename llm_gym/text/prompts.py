"""Prompts: read from what users pass (lists, files, data sets, streams) and encoded."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from os import PathLike
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from llm_gym.files.containers import Row
from llm_gym.files.encoding import check_characters
from llm_gym.files.formats import prompt_fields
from llm_gym.files.rows import Note, json_columns, parse_rows, read_rows, short_enough
from llm_gym.files.schema import anything, list_of, optional, record, refuse, whole
from llm_gym.files.schema import text as a_text
from llm_gym.language_models.chat import plain_text
from llm_gym.scorers.texts import SourcedText, messages_of, prompt_text

if TYPE_CHECKING:
    from llm_gym.text.options import TextOptions
    from llm_gym.text.vocabulary import Vocabulary

_OF_ROWS = ("prompt", "chosen", "rejected")  # what rows of prompts and preferences are written by
RESERVED_COLUMNS = ("prompts", "completions", "completion")


class PromptRow(NamedTuple):
    """A prompt as the user gave it.

    Attributes:
        text: The prompt.
        columns: Further columns, which go to the scorer by name.
        place: Where it was read, for messages.
    """

    text: str
    columns: Mapping[str, Any]
    place: str = ""


@dataclass(frozen=True, eq=False)
class Prompt:
    """An encoded prompt.

    Attributes:
        index: Place in the list, or number in the stream, from 0; -1 for a prompt given at reset.
        row: The prompt as the user gave it.
        ids: int64 `(P,)`.
    """

    index: int
    row: PromptRow
    ids: np.ndarray


def read_prompts(
    prompts: Any, *, prompt_column: str | None = None, bad_rows: str = "error"
) -> list[PromptRow] | Iterator[Any]:
    """Reads the `prompts` argument of an environment.

    Args:
        prompts: What `llm_gym.files.rows.read_rows` reads, or an iterator. Of a text file every
            line is a prompt; `llm_gym.files.formats.prompt_fields` says what a row means.
        prompt_column: The column with the prompt; None finds it.
        bad_rows: "error", or "skip" to leave out rows that cannot be read, with a warning.

    Returns:
        A non-empty list for anything of known length; an iterator over raw items for a stream.

    Raises:
        TypeError: Not something prompts can be read from.
        ValueError: No prompts, or one of them is malformed; the message names its place.
        FileNotFoundError: The file does not exist.
    """
    if _is_stream(prompts):
        return iter(prompts)

    def parse(item: Any, note: Note) -> PromptRow:
        return as_row(item, note, prompt_column)

    found = parse_rows(read_rows(prompts, "prompts"), parse, prompts, "prompts", bad_rows=bad_rows)
    return [row if row.place else row._replace(place=place) for place, row in found]


def storable(rows: Sequence[PromptRow], taken: Sequence[str] = _OF_ROWS) -> list[PromptRow]:
    """Prompts to be written: columns as JSON can hold them, conversations under their whole text.

    Args:
        rows: The prompts.
        taken: Names of columns that something else is written under.

    Returns:
        The prompts without columns that JSON cannot hold and those whose name is taken, which a
        warning names. The text of a conversation is a `SourcedText` still.
    """

    def parse(row: PromptRow, note: Note) -> PromptRow:
        turns = messages_of(row.text)
        text = row.text if turns is None else SourcedText(plain_text(row.text), turns)
        columns = json_columns(row.columns, note)
        for name in [name for name in columns if name in taken]:
            note(f"the column {name!r} is left out: something else is written under its name")
            del columns[name]
        return row._replace(text=text, columns=columns)

    found = parse_rows([Row(row.place, row) for row in rows], parse, None, "prompts")
    return [row for _, row in found]


def _is_stream(prompts: Any) -> bool:
    is_iterable = isinstance(prompts, Iterable) and not hasattr(prompts, "read")
    return is_iterable and not hasattr(prompts, "__len__") and not isinstance(prompts, PathLike)


def read_prompt(item: Any, where: str, prompt_column: str | None = None) -> PromptRow:
    """Reads one prompt that comes by itself.

    Args:
        item: See `as_row`.
        where: Its name in messages.
        prompt_column: See `as_row`.

    Raises:
        TypeError, ValueError: As `as_row`.
    """
    rows = [Row(where, item)]
    found = parse_rows(rows, lambda row, note: as_row(row, note, prompt_column), None, "prompts")
    return found[0][1]._replace(place=where)


def as_row(item: Any, note: Note, prompt_column: str | None = None) -> PromptRow:
    """Checks one prompt.

    Args:
        item: See `llm_gym.files.formats.prompt_fields`; or a row that has been read.
        note: Hears what was left out.
        prompt_column: The column with the prompt; None finds it.

    Returns:
        The row; the text of a conversation is a `SourcedText`.

    Raises:
        TypeError: No text, no conversation and no row with one.
        ValueError: The prompt is missing or empty, or has characters that no text has.
    """
    if isinstance(item, PromptRow):
        return item
    prompt, columns = prompt_fields(item, note, prompt_column)
    text = prompt_text(prompt, "the prompt")
    if not text:
        raise ValueError("the prompt is empty: it needs at least one character")
    check_characters("the prompt", text)
    for name in [name for name in columns if name in RESERVED_COLUMNS]:
        note(f"the column {name!r} is left out: the scorer's own arguments use its name")
        del columns[name]
    return PromptRow(text, columns)


def is_conversation(item: Any) -> bool:
    """Whether something is the messages of one conversation, and not a list of prompts."""
    if not isinstance(item, Sequence) or isinstance(item, str) or not item:
        return False
    return all(isinstance(turn, Mapping) and "prompt" not in turn for turn in item)


class PromptEncoder:
    """Turns prompt rows into token ids and holds them to a length limit.

    Args:
        vocabulary: Vocabulary of the environment.
        options: `prompt_template` and the limits are used.
    """

    def __init__(self, vocabulary: Vocabulary, options: TextOptions) -> None:
        self._vocabulary = vocabulary
        self._format = vocabulary.prompt_format
        self._limit, self._because = options.prompt_limit()

    def encode(
        self, rows: Sequence[PromptRow], *, too_long: str, limit: int | None = None
    ) -> list[tuple[PromptRow, np.ndarray]]:
        """Encodes rows.

        Args:
            rows: B prompts.
            too_long: "error", "drop" or "truncate".
            limit: The most tokens a prompt may have; None takes that of the options, if any.

        Returns:
            At most B rows, with int64 arrays `(P,)`, 1 <= P <= limit.

        Raises:
            ValueError: A prompt is too long, has no tokens or needs ids outside the vocabulary, or
                the template asks for a column that is not there.
        """
        encoded = self._format.encode([self._fill(row, row.place) for row in rows])
        found = [(row, self._checked(ids, row)) for row, ids in zip(rows, encoded, strict=True)]
        because = f"the {limit} of the longest prompt"
        if limit in (None, self._limit):
            limit, because = self._limit, self._because
        return short_enough(
            [(row.place, (row, ids), len(ids)) for row, ids in found],
            limit,
            because,
            "prompts",
            too_long=too_long,
            truncate=lambda item, most: (item[0], item[1][-most:]),
        )

    def _fill(self, row: PromptRow, name: str) -> str:
        try:
            return self._format.render(row.text, row.columns)
        except (KeyError, IndexError, ValueError, AttributeError) as error:
            if self._format.by_chat_template:
                raise ValueError(f"{name}: {error}") from error
            raise ValueError(
                f"prompt_template={self._format.prompt_template!r} cannot be filled from {name}, "
                f"which has the fields {sorted({**row.columns, 'prompt': ''})}: "
                f"{type(error).__name__} {error}"
            ) from error

    def _checked(self, ids: Sequence[int], row: PromptRow) -> np.ndarray:
        if not len(ids):
            raise ValueError(f"{row.place} is empty: the tokenizer made no tokens of it")
        return self._vocabulary.checked_ids(f"the encoding of {row.place}", ids)


def prompt_to_state(prompt: Prompt) -> dict[str, Any]:
    """A prompt in full as JSON-able values, as far as its columns are."""
    return {
        "index": prompt.index,
        "prompt": prompt.row.text,
        "messages": messages_of(prompt.row.text),
        "columns": dict(prompt.row.columns),
        "ids": prompt.ids.tolist(),
    }


def check_prompt(name: str, state: Any, vocabulary: int, longest: int) -> None:
    """Checks a prompt of `prompt_to_state`.

    Args:
        name: Of the prompt, for messages.
        state: The prompt.
        vocabulary: Number of token ids.
        longest: The most tokens that it may have.

    Raises:
        ValueError: It is none.
    """
    turn = record({"role": anything, "content": anything}, others=anything)
    record(
        {
            "index": whole(-1),
            "prompt": a_text,
            "messages": optional(list_of(turn)),
            "columns": record({}, others=anything),
            "ids": list_of(whole(0, vocabulary - 1), longest=longest),
        }
    )(name, state)
    if not len(state["ids"]):
        refuse(f"{name}.ids", "a list of at least 1", state["ids"])


def prompt_from_state(state: Mapping[str, Any]) -> Prompt:
    """The inverse of `prompt_to_state`."""
    text, messages = state["prompt"], state.get("messages")
    text = text if messages is None else SourcedText(text, messages)
    row = PromptRow(text, dict(state["columns"]))
    return Prompt(int(state["index"]), row, np.array(state["ids"], dtype=np.int64))
