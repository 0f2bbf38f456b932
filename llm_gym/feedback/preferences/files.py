"""Preferences and comparisons from files and tables, and preferences as files in TRL's format.

A row has `prompt`, `chosen` and `rejected` (https://huggingface.co/docs/trl/dataset_formats);
further columns are kept. Texts and messages are read; texts are written.
"""

from __future__ import annotations

import io
import json
import random
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal, get_args

from llm_gym.feedback.preferences.records import MESSAGES, Comparison, Preference, rater_of
from llm_gym.files.atomic import write_bytes, write_text
from llm_gym.files.containers import import_pyarrow
from llm_gym.files.formats import answer_text, preference_fields, prompt_fields
from llm_gym.files.messages import Turns
from llm_gym.files.ranges import check_choice
from llm_gym.files.rows import Note, as_list, has, json_columns, parse_rows, read_rows
from llm_gym.language_models.chat import is_question, plain_text

Contradictions = Literal["raise", "keep", "drop"]
CONTRADICTIONS = get_args(Contradictions)


def read_preferences(
    source: Any, *, contradictions: Contradictions = "raise", bad_rows: str = "error"
) -> list[Preference]:
    """Reads preferences.

    Args:
        source: What `llm_gym.files.rows.read_rows` reads; what a row means is said by
            `llm_gym.files.formats.preference_fields`. The items of a sequence may be `Preference`s.
            Null and NaN are read as a missing column, dates and times as ISO 8601, a rater's number
            as a name; a column that JSON cannot hold is left out, with a warning.
        contradictions: What becomes of rows that say "a over b" where others say "b over a" on the
            same prompt: "raise", "keep" them all, or "drop" them all. Rows that name different
            raters in a column `rater` may differ, and the two rows of a tie (column `tie` True) do
            not contradict each other.
        bad_rows: "error", or "skip" to leave out rows that cannot be read, with a warning.

    Returns:
        At least one row, in their order.

    Raises:
        FileNotFoundError: There is no such file.
        ImportError: Parquet without pyarrow.
        TypeError: Not something preferences can be read from.
        ValueError: No rows, a row with a missing or empty field or with identical answers, or
            contradictory rows. The message has the row's place.
    """
    check_choice("contradictions", contradictions, CONTRADICTIONS)
    rows = read_rows(source, "preferences")
    found = parse_rows(rows, _preference, source, "preferences", bad_rows=bad_rows)
    preferences = [replace(row, place=place) for place, row in found]
    if contradictions == "keep":
        return preferences
    partner = _contradicted(preferences)
    if partner and contradictions == "raise":
        first = min(partner)
        place, opposite = preferences[partner[first]].place, preferences[first].place
        raise ValueError(
            f"{place} says the opposite of {opposite.rpartition(', ')[2]} ({len(partner)} such "
            "rows in all); pass contradictions='drop' to leave them out or 'keep' to keep them, or "
            "name their raters in a column 'rater'"
        )
    kept = [row for index, row in enumerate(preferences) if index not in partner]
    if not kept:
        raise ValueError(f"all {len(preferences)} preferences contradict each other")
    return kept


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
    if path.suffix not in (".jsonl", ".parquet"):
        raise ValueError(f"a preference file ends in .jsonl or .parquet, got {str(path)!r}")
    if not rows:
        raise ValueError(f"there are no preferences to write to {path}")
    if path.suffix == ".parquet":
        return write_bytes(path, _as_parquet(rows))
    lines = [json.dumps(row, ensure_ascii=False, allow_nan=False) + "\n" for row in rows]
    return write_text(path, "".join(lines))


def read_comparisons(
    source: Any, *, prompt_column: str | None = None, bad_rows: str = "error"
) -> list[Comparison] | None:
    """Reads pairs that nobody has judged yet.

    Args:
        source: What `llm_gym.files.rows.read_rows` reads; every row has "prompt", a text or
            messages, and "answers", a list of two texts. Further keys become columns.
        prompt_column: The column with the prompt; None finds it, as for prompts.
        bad_rows: "error", or "skip" to leave out rows that cannot be read, with a warning.

    Returns:
        The comparisons; None if no row has "answers": it is of another kind.

    Raises:
        FileNotFoundError: There is no such file.
        TypeError: Not something comparisons can be read from.
        ValueError: A row is malformed; the message has its place.
    """
    rows = read_rows(source, "comparisons")
    if not any(isinstance(row.value, Mapping) and "answers" in row.value for row in rows):
        return None

    def parse(row: Any, note: Note) -> Comparison:
        return _comparison(row, note, prompt_column)

    found = parse_rows(rows, parse, source, "comparisons", bad_rows=bad_rows)
    return [comparison for _, comparison in found]


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


def _preference(row: Any, note: Note) -> Preference:
    if isinstance(row, Preference):
        return row
    fields = preference_fields(row, note)
    columns = fields.columns | _turns_of(fields.prompt)
    columns = _storable(columns, note)
    return Preference(plain_text(fields.prompt), fields.chosen, fields.rejected, columns)


def _comparison(row: Any, note: Note, prompt_column: str | None) -> Comparison:
    if not isinstance(row, Mapping) or not has(row, "answers"):
        raise ValueError('has no "answers", as other rows have')
    answers = as_list(row["answers"])
    if isinstance(answers, str):  # a cell of CSV
        with suppress(ValueError, RecursionError):
            answers = json.loads(answers)
    if not isinstance(answers, list) or len(answers) != 2:
        raise ValueError(f'"answers" must be a list of two texts, got {answers!r:.80}')
    further = {name: value for name, value in row.items() if name != "answers"}
    prompt, columns = prompt_fields(further, note, prompt_column)
    columns = _storable(columns | _turns_of(prompt), note)
    first, second = (answer_text("answers", answer, prompt) for answer in answers)
    return Comparison(plain_text(prompt), (first, second), columns)


def _turns_of(prompt: str | Turns) -> dict[str, Any]:
    """The column that keeps the turns of a conversation, of which the prompt is the text."""
    return {} if isinstance(prompt, str) or is_question(prompt) else {MESSAGES: prompt}


def _storable(columns: Mapping[str, Any], note: Note) -> dict[str, Any]:
    kept = json_columns(columns, note)
    rater = rater_of(columns)
    if rater is not None:
        kept["rater"] = rater
    if isinstance(kept.get("tie"), str):  # a cell of CSV
        kept["tie"] = kept["tie"].lower() == "true"
    return kept


def _contradicted(preferences: Sequence[Preference]) -> dict[int, int]:
    """Rows that another row of the same rater contradicts, each with the first that does so."""
    seen: dict[tuple[str, str, str, str], list[int]] = {}
    for index, row in enumerate(preferences):
        if row.columns.get("tie") is not True:
            rater = rater_of(row.columns) or ""
            seen.setdefault((rater, row.prompt, row.chosen, row.rejected), []).append(index)
    return {
        index: seen[rater, prompt, rejected, chosen][0]
        for (rater, prompt, chosen, rejected), indices in seen.items()
        if (rater, prompt, rejected, chosen) in seen
        for index in indices
    }


def _as_parquet(rows: list[dict[str, Any]]) -> bytes:
    pyarrow, parquet = import_pyarrow()
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
