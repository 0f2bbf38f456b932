"""Preference files in TRL's format (https://huggingface.co/docs/trl/dataset_formats).

A row has `prompt`, `chosen` and `rejected`; further columns are kept. Both of TRL's forms are read,
plain texts and `{"role": ..., "content": ...}` messages; plain texts are written.
"""

from __future__ import annotations

import io
import json
import random
from collections.abc import Iterable, Iterator, Mapping, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any, Literal

from llm_gym.feedback.preferences.records import FIELDS, Comparison, Preference
from llm_gym.files.atomic import write_bytes, write_text

Contradictions = Literal["raise", "keep", "drop"]


def read_preferences(
    path: str | Path, *, contradictions: Contradictions = "raise"
) -> list[Preference]:
    """Reads a preference file.

    Args:
        path: `.jsonl` (UTF-8, one object a line, blank lines left out) or `.parquet` (needs
            pyarrow: the extra `parquet`; null and NaN are read as a missing column, dates and
            times as ISO 8601).
        contradictions: What becomes of rows that say "a over b" where others say "b over a" on the
            same prompt: "raise", "keep" them all, or "drop" them all. Rows that name different
            raters in a column `rater` may differ, and the two rows of a tie (column `tie` True) do
            not contradict each other.

    Returns:
        At least one row, in the order of the file.

    Raises:
        FileNotFoundError: There is no such file.
        ImportError: Parquet without pyarrow.
        ValueError: Another ending, not readable as such a file, no rows, a row with a missing or
            empty field or with identical answers, or contradictory rows. The message has the
            number of the line (JSONL) or of the row (Parquet), counted from 1.
    """
    if contradictions not in ("raise", "keep", "drop"):
        raise ValueError(
            f"contradictions must be 'raise', 'keep' or 'drop', got {contradictions!r}"
        )
    path = Path(path)
    is_parquet = _is_parquet(path)
    if not path.is_file():
        raise FileNotFoundError(f"there is no preference file {str(path)!r}")
    raw = _parquet_rows(path) if is_parquet else _jsonl_rows(path)
    places: list[str] = []
    preferences: list[Preference] = []
    for place, row in raw:
        try:
            preferences.append(_preference(row))
        except (TypeError, ValueError) as error:
            raise ValueError(f"{path}, {place}: {error}") from error
        places.append(place)
    if not preferences:
        raise ValueError(f"{path} has no preferences")
    if contradictions == "keep":
        return preferences
    partner = _contradicted(preferences)
    if partner and contradictions == "raise":
        first = min(partner)
        raise ValueError(
            f"{path}, {places[partner[first]]} says the opposite of {places[first]} ({len(partner)}"
            " such rows in all); pass contradictions='drop' to leave them out or 'keep' to keep "
            "them, or name their raters in a column 'rater'"
        )
    return [row for index, row in enumerate(preferences) if index not in partner]


def write_preferences(path: str | Path, preferences: Iterable[Preference]) -> Path:
    """Writes a preference file, whole or not at all.

    Args:
        path: `.jsonl` or `.parquet` (needs pyarrow: the extra `parquet`). An old file is replaced.
        preferences: The rows, at least one.

    Returns:
        The path written.

    Raises:
        ImportError: Parquet without pyarrow.
        ValueError: Another ending, no rows, or a column whose values are of several types, which
            Parquet cannot hold.
    """
    path = Path(path)
    rows = [preference.to_dict() for preference in preferences]
    is_parquet = _is_parquet(path)
    if not rows:
        raise ValueError(f"there are no preferences to write to {path}")
    if is_parquet:
        return write_bytes(path, _as_parquet(rows))
    lines = [json.dumps(row, ensure_ascii=False, allow_nan=False) + "\n" for row in rows]
    return write_text(path, "".join(lines))


def read_comparisons(path: str | Path) -> list[Comparison] | None:
    """Reads pairs that nobody has judged yet.

    Args:
        path: `.jsonl`, every line with "prompt" and "answers", a list of two texts. Further keys
            become columns.

    Returns:
        The comparisons; None if the file's first row has no "answers": it is of another kind.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: A line is malformed; the message has its number.
    """
    path = Path(path)
    if path.suffix != ".jsonl":
        return None
    if not path.is_file():
        raise FileNotFoundError(f"there is no file {str(path)!r}")
    comparisons: list[Comparison] = []
    for place, row in _jsonl_rows(path):
        if not isinstance(row, dict) or "answers" not in row:
            if not comparisons:
                return None
            raise ValueError(f'{path}, {place}: has no "answers", as the lines before it have')
        answers = row.pop("answers")
        if not isinstance(answers, list) or len(answers) != 2:
            raise ValueError(
                f'{path}, {place}: "answers" must be a list of two texts, got {answers!r:.80}'
            )
        try:
            comparison = Comparison(row.pop("prompt", None), (answers[0], answers[1]), row)
        except (TypeError, ValueError) as error:
            raise ValueError(f"{path}, {place}: {error}") from error
        comparisons.append(comparison)
    return comparisons or None


def split_preferences(
    preferences: Sequence[Preference], share: float, seed: int
) -> tuple[list[Preference], list[Preference]]:
    """Holds out prompts, not rows: the answers to one prompt stay on one side.

    Args:
        preferences: Rows with at least 2 different prompts.
        share: Share of the prompts to hold out; at least one is.
        seed: Seed of the choice.

    Returns:
        (rows to train on, held-out rows), in their order.

    Raises:
        ValueError: Fewer than 2 different prompts.
    """
    prompts = sorted({row.prompt for row in preferences})
    if len(prompts) < 2:
        raise ValueError(
            f"the comparisons are on {len(prompts)} prompt, so none can be held out; compare "
            "answers to at least 2 prompts, or pass held_out"
        )
    count = held_out_prompts(len(prompts), share)
    chosen = set(random.Random(seed).sample(prompts, count))  # noqa: S311 - no secret
    kept = [row for row in preferences if row.prompt not in chosen]
    return kept, [row for row in preferences if row.prompt in chosen]


def held_out_prompts(prompts: int, share: float) -> int:
    """How many of so many prompts `split_preferences` holds out."""
    return max(1, round(share * prompts))


def _is_parquet(path: Path) -> bool:
    if path.suffix not in (".jsonl", ".parquet"):
        raise ValueError(f"a preference file ends in .jsonl or .parquet, got {str(path)!r}")
    return path.suffix == ".parquet"


def _preference(row: Any) -> Preference:
    if not isinstance(row, Mapping):
        raise ValueError(f"needs an object with {', '.join(FIELDS)}, got {row!r:.80}")
    missing = [name for name in ("chosen", "rejected") if row.get(name) is None]
    if missing:
        raise ValueError(f"has no {missing[0]!r}")
    if any(isinstance(row.get(name), list) for name in FIELDS):
        row = _flattened(row)
    elif row.get("prompt") is None:
        raise ValueError(
            "has no 'prompt'; where it is part of chosen and rejected, split it off first"
        )
    columns = {str(name): value for name, value in row.items() if name not in FIELDS}
    return Preference(row["prompt"], row["chosen"], row["rejected"], columns)


def _contradicted(preferences: Sequence[Preference]) -> dict[int, int]:
    """Rows that another row of the same rater contradicts, each with the first that does so."""
    seen: dict[tuple[str, str, str, str], list[int]] = {}
    for index, row in enumerate(preferences):
        if row.columns.get("tie") is not True:
            rater = str(row.columns.get("rater", ""))
            seen.setdefault((rater, row.prompt, row.chosen, row.rejected), []).append(index)
    return {
        index: seen[rater, prompt, rejected, chosen][0]
        for (rater, prompt, chosen, rejected), indices in seen.items()
        if (rater, prompt, rejected, chosen) in seen
        for index in indices
    }


# ------------------------------------------------------------------ the two formats


def _jsonl_rows(path: Path) -> Iterator[tuple[str, Any]]:
    # Not str.splitlines: a text may contain U+2028, which JSON does not escape.
    for number, line in enumerate(path.read_bytes().split(b"\n"), start=1):
        place = f"line {number}"
        try:
            text = line.decode("utf-8-sig" if number == 1 else "utf-8")
        except UnicodeDecodeError as error:
            raise ValueError(f"{path}, {place}: not UTF-8 ({error})") from error
        if not text.strip():
            continue
        try:
            yield place, json.loads(text)
        except (ValueError, RecursionError) as error:
            raise ValueError(f"{path}, {place}: not JSON ({error})") from error


def _parquet_rows(path: Path) -> Iterator[tuple[str, Any]]:
    pyarrow, parquet = _import_pyarrow()
    try:
        rows = parquet.read_table(path).to_pylist()
    except (pyarrow.ArrowException, OSError) as error:
        raise ValueError(f"{path} is not a whole Parquet file: {error}") from error
    for number, row in enumerate(rows, start=1):
        # A NaN is how pandas writes a number that is missing.
        present = {key: value for key, value in row.items() if value is not None and value == value}
        yield (
            f"row {number}",
            {
                key: value.isoformat() if hasattr(value, "isoformat") else value
                for key, value in present.items()
            },
        )


def _as_parquet(rows: list[dict[str, Any]]) -> bytes:
    pyarrow, parquet = _import_pyarrow()
    names = dict.fromkeys(name for row in rows for name in row)
    columns = {}
    for name in names:
        try:
            columns[name] = pyarrow.array([row.get(name) for row in rows])
        except (pyarrow.ArrowException, OverflowError) as error:
            raise ValueError(
                f"column {name!r} does not fit into Parquet, which wants one type in a column "
                f"({error}); write a .jsonl file"
            ) from error
    file = io.BytesIO()
    try:
        parquet.write_table(pyarrow.table(columns), file)
    except pyarrow.ArrowException as error:  # an empty object, for instance
        raise ValueError(
            f"the columns do not fit into Parquet ({error}); write a .jsonl file"
        ) from error
    return file.getvalue()


def _import_pyarrow() -> tuple[Any, Any]:
    try:
        return import_module("pyarrow"), import_module("pyarrow.parquet")
    except ImportError as error:
        raise ImportError(
            "Parquet files need pyarrow: pip install 'llm-gym[parquet]', or use a .jsonl file"
        ) from error


# ------------------------------------------------------------------ messages as plain texts


def _flattened(row: Mapping[str, Any]) -> dict[str, Any]:
    """Turns a conversational row into one of three texts.

    What `chosen` and `rejected` have in common at their beginning, or the prompt that is given, is
    the prompt; each must then end in exactly one message of the assistant, whose text is the
    answer. A prompt of one user message becomes its text. A longer conversation becomes lines
    "role: content" with blank lines between, and the messages are kept in a column
    `prompt_messages`, for who wants to apply a chat template.

    Args:
        row: A row with `chosen` and `rejected`, which must be lists of messages, and with or
            without a prompt, which may be a text or messages.

    Returns:
        The row with texts instead of messages.

    Raises:
        ValueError: Messages of another shape, or answers of more than one message.
    """
    chosen, rejected = (_messages(name, row[name]) for name in ("chosen", "rejected"))
    start = row.get("prompt")
    if isinstance(start, str):
        prompt = [{"role": "user", "content": start}]
    elif start is None:
        prompt = _common_start(chosen, rejected)
    else:
        prompt = _messages("prompt", start)
    if not prompt:
        raise ValueError("there is no prompt, and chosen and rejected do not begin alike")
    texts = {
        "prompt": prompt[0]["content"],
        "chosen": _answer("chosen", chosen, prompt),
        "rejected": _answer("rejected", rejected, prompt),
    }
    columns = {name: value for name, value in row.items() if name not in texts}
    if len(prompt) == 1 and prompt[0]["role"] == "user":
        return {**texts, **columns}
    texts["prompt"] = "\n\n".join(f"{message['role']}: {message['content']}" for message in prompt)
    return {**texts, **columns, "prompt_messages": prompt}


def _messages(name: str, value: Any) -> list[dict[str, str]]:
    if not isinstance(value, list) or not value:
        raise ValueError(
            f"{name} must be a list of messages, since another field is one, got {value!r:.80}"
        )
    for message in value:
        parts = (
            [message.get(key) for key in ("role", "content")]
            if isinstance(message, Mapping)
            else [None]
        )
        if not all(isinstance(part, str) for part in parts):
            raise ValueError(
                f'{name} has a message that is not {{"role": text, "content": text}}: '
                f"{message!r:.80}"
            )
    return [{"role": message["role"], "content": message["content"]} for message in value]


def _common_start(
    first: Sequence[dict[str, str]], second: Sequence[dict[str, str]]
) -> list[dict[str, str]]:
    longest = min(len(first), len(second)) - 1  # the last message is the answer
    same = 0
    while same < longest and first[same] == second[same]:
        same += 1
    return list(first[:same])


def _answer(name: str, messages: list[dict[str, str]], prompt: list[dict[str, str]]) -> str:
    if messages[: len(prompt)] == prompt:
        messages = messages[len(prompt) :]
    if len(messages) != 1 or messages[0]["role"] != "assistant":
        raise ValueError(
            f"{name} must be one message of the assistant after the prompt, got the roles "
            f"{[message['role'] for message in messages]}"
        )
    return messages[0]["content"]
