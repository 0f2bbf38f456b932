"""Prompts: read from what users pass (lists, files, data sets, streams) and encoded."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from os import PathLike, fspath
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from llm_gym.scorers.texts import SourcedText, messages_of, prompt_text

if TYPE_CHECKING:
    from llm_gym.text.options import TextOptions
    from llm_gym.text.vocabulary import Vocabulary

RESERVED_COLUMNS = ("prompts", "completions", "completion")


class PromptRow(NamedTuple):
    """A prompt as the user gave it, with its further columns, which go to the scorer by name."""

    text: str
    columns: Mapping[str, Any]


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


def read_prompts(prompts: Any) -> list[PromptRow] | Iterator[Any]:
    """Reads the `prompts` argument of an environment.

    Args:
        prompts: Sequence of str or of dict rows with a "prompt" key, path to a `.txt` file (one
            prompt a line, blank lines skipped) or a `.jsonl` file, or an iterator.

    Returns:
        A non-empty list for anything of known length; an iterator over raw items for a stream.

    Raises:
        TypeError: Not something prompts can be read from.
        ValueError: No prompts, or one of them is malformed; the message names the index or line.
        FileNotFoundError: The file does not exist.
    """
    if isinstance(prompts, (str, PathLike)):
        return _read_file(prompts)
    if isinstance(prompts, Mapping) or not isinstance(prompts, Iterable):
        raise TypeError(
            "prompts must be a sequence of str or dict, a path to a .txt or .jsonl file, or an "
            f"iterator, got {type(prompts).__name__}"
        )
    if not hasattr(prompts, "__len__"):
        return iter(prompts)
    rows = [as_row(item, f"prompts[{index}]") for index, item in enumerate(prompts)]
    if not rows:
        raise ValueError("prompts is empty: pass at least one prompt")
    return rows


def as_row(item: Any, where: str) -> PromptRow:
    """Checks one prompt.

    Args:
        item: A str; the messages of a conversation; or a mapping with one of them under "prompt",
            and further columns.
        where: Where it came from, for the message.

    Returns:
        The row; the text of a conversation is a `SourcedText`.

    Raises:
        TypeError: None of these.
        ValueError: The prompt is missing or empty, or a column's name is taken.
    """
    if isinstance(item, Mapping):
        if "prompt" not in item:
            raise ValueError(f'{where} has no "prompt" key, only {sorted(map(str, item))}')
        text = item["prompt"]
        columns = {str(name): value for name, value in item.items() if name != "prompt"}
        for name in RESERVED_COLUMNS:
            if name in columns:
                raise ValueError(
                    f"{where} has a column {name!r}, a name the scorer's own arguments use; "
                    "rename it"
                )
    else:
        text, columns = item, {}
    if is_conversation(text):
        text = prompt_text(text, where)
    if not isinstance(text, str):
        raise TypeError(
            f"{where} must be a str, got {type(text).__name__}; a conversation is a list of "
            'messages {"role": ..., "content": ...}'
        )
    if not text:
        raise ValueError(f"{where} is empty: a prompt needs at least one character")
    return PromptRow(text, columns)


def is_conversation(item: Any) -> bool:
    """Whether something is the messages of one conversation, and not a list of prompts."""
    if not isinstance(item, Sequence) or isinstance(item, str) or not item:
        return False
    return all(isinstance(turn, Mapping) and "prompt" not in turn for turn in item)


def _read_file(path: str | PathLike[str]) -> list[PromptRow]:
    file = Path(fspath(path))
    if file.suffix not in (".txt", ".jsonl"):
        raise ValueError(
            f"prompts={str(path)!r} is taken as a path, which must end in .txt or .jsonl; "
            "for a single prompt pass a list with one string"
        )
    if not file.is_file():
        raise FileNotFoundError(f"prompts={str(path)!r}: there is no such file")
    # utf-8-sig: files written on Windows often begin with a byte order mark.
    lines = file.read_text(encoding="utf-8-sig").split("\n")
    parse = _parse_json if file.suffix == ".jsonl" else as_row
    rows = [
        parse(line.rstrip("\r"), f"{path}, line {number}")
        for number, line in enumerate(lines, start=1)
        if line.strip()
    ]
    if not rows:
        raise ValueError(f"prompts={str(path)!r} holds no prompts")
    return rows


def _parse_json(line: str, where: str) -> PromptRow:
    try:
        item = json.loads(line)
    except json.JSONDecodeError as error:
        raise ValueError(f"{where}: not valid JSON ({error.msg}, column {error.colno})") from error
    return as_row(item, where)


class PromptEncoder:
    """Turns prompt rows into token ids and holds them to a length limit.

    Args:
        vocabulary: Vocabulary of the environment.
        options: `prompt_template` and `truncate_prompts` are used.
    """

    def __init__(self, vocabulary: Vocabulary, options: TextOptions) -> None:
        self._vocabulary = vocabulary
        self._format = vocabulary.prompt_format
        self._truncate = options.truncate_prompts

    def encode(
        self, rows: Sequence[PromptRow], names: Sequence[str], max_tokens: int | None
    ) -> list[np.ndarray]:
        """Encodes rows.

        Args:
            rows: B prompts.
            names: B names for messages, such as "prompts[3]".
            max_tokens: The most tokens a prompt may have; None if there is no limit.

        Returns:
            B int64 arrays `(P,)`, 1 <= P <= max_tokens.

        Raises:
            ValueError: A prompt is too long, has no tokens or needs ids outside the vocabulary, or
                the template asks for a column that is not there.
        """
        texts = [self._fill(row, name) for row, name in zip(rows, names, strict=True)]
        encoded = self._format.encode(texts)
        return [
            self._checked(ids, name, max_tokens) for ids, name in zip(encoded, names, strict=True)
        ]

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

    def _checked(self, ids: Sequence[int], name: str, max_tokens: int | None) -> np.ndarray:
        if not len(ids):
            raise ValueError(f"{name} is empty: the tokenizer made no tokens of it")
        if max_tokens is not None and len(ids) > max_tokens:
            if not self._truncate:
                raise ValueError(
                    f"{name} has {len(ids)} tokens, more than max_prompt_tokens="
                    f"{max_tokens}; raise the limit, shorten the prompt, or pass "
                    "truncate_prompts=True to keep the last tokens"
                )
            ids = ids[-max_tokens:]
        return self._vocabulary.checked_ids(f"the encoding of {name}", ids)


def prompt_to_state(prompt: Prompt) -> dict[str, Any]:
    """A prompt in full as JSON-able values, as far as its columns are."""
    return {
        "index": prompt.index,
        "prompt": prompt.row.text,
        "messages": messages_of(prompt.row.text),
        "columns": dict(prompt.row.columns),
        "ids": prompt.ids.tolist(),
    }


def prompt_from_state(state: Mapping[str, Any]) -> Prompt:
    """The inverse of `prompt_to_state`."""
    text, messages = state["prompt"], state.get("messages")
    text = text if messages is None else SourcedText(text, messages)
    row = PromptRow(text, dict(state["columns"]))
    return Prompt(int(state["index"]), row, np.array(state["ids"], dtype=np.int64))
