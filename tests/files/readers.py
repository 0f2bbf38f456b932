"""Every reader of data, container and encoding: a new one of either is one line here."""

from __future__ import annotations

import csv
import io
import json
from collections import OrderedDict
from pathlib import Path

import numpy as np
import pytest

from llm_gym.feedback.preferences import read_preferences
from llm_gym.feedback.preferences.files import read_comparisons
from llm_gym.feedback.reward_model.rated_texts import read_ratings
from llm_gym.supervised.documents import read_documents
from llm_gym.supervised.pairs import read_pairs
from llm_gym.text.prompts import read_prompts

WORDS = ["Grüß dich,\nZoë", 'so "quoted", 李 \u2028 🙂', " plain; text"]


def prompts(source, **options):
    return [(row.text, dict(row.columns)) for row in read_prompts(source, **options)]


def comparisons(source, **options):
    return read_comparisons(source, **options) or read_preferences(source, **options)


def ratings(source, **options):
    texts, table = read_ratings(source, **options)
    return texts, str(table.tolist())


# Reader, rows it reads, a row it does not.
READERS = {
    "prompts": (prompts, [{"prompt": text} for text in WORDS], {"question": "w1"}),
    "pairs": (
        read_pairs,
        [{"prompt": text, "completion": f"{text}!"} for text in WORDS],
        {"prompt": "w1"},
    ),
    "text": (read_documents, [{"text": text} for text in WORDS], {"txt": "w1"}),
    "preferences": (
        read_preferences,
        [{"prompt": text, "chosen": f"{text}!", "rejected": "no"} for text in WORDS],
        {"prompt": "w1", "chosen": "w2"},
    ),
    "comparisons": (
        comparisons,
        [{"prompt": text, "answers": [f"{text}!", "no"]} for text in WORDS],
        {"prompt": "w1", "answers": ["w2"]},
    ),
    "ratings": (
        ratings,
        [{"text": text, "ratings": [1, 2.5]} for text in WORDS],
        {"text": "w1", "ratings": "good"},
    ),
}


def json_lines(rows):
    return "\n\n".join(json.dumps(row, ensure_ascii=False) for row in rows) + "\n"


def json_of_pandas(rows):
    return json.dumps({name: {n: row[name] for n, row in enumerate(rows)} for name in rows[0]})


def json_columns(rows):
    return json.dumps({name: [row[name] for row in rows] for name in rows[0]}, indent=1)


def table(rows, divider=","):
    file = io.StringIO()
    names = list(dict.fromkeys(name for row in rows for name in row))
    writer = csv.DictWriter(file, names, delimiter=divider, lineterminator="\n")
    writer.writeheader()
    for row in rows:
        cells = {n: v if isinstance(v, str) else json.dumps(v) for n, v in row.items()}
        writer.writerow(cells)
    return file.getvalue()


TEXT_CONTAINERS = {
    "json lines": (".jsonl", json_lines),
    "json array": (".json", lambda rows: json.dumps(rows, ensure_ascii=False, indent=1)),
    "json columns": (".json", json_columns),
    "json as pandas writes it": (".json", json_of_pandas),
    "json lines called ndjson": (".ndjson", json_lines),
    "an ending in capitals": (".JSONL", json_lines),
    "json lines called json": (".json", json_lines),
    "csv": (".csv", table),
    "csv with semicolons": (".csv", lambda rows: table(rows, ";")),
    "csv with a line of Excel's": (".csv", lambda rows: "sep=;\n" + table(rows, ";")),
    "csv with spaces in the names": (
        ".csv",
        lambda rows: table(rows).replace(",", " , ", table(rows).split("\n")[0].count(",")),
    ),
    "csv with blank rows": (".csv", lambda rows: table(rows) + "," * (len(rows[0]) - 1) + "\n"),
    "tsv": (".tsv", lambda rows: table(rows, "\t")),
}


ENCODINGS = {
    "utf-8": lambda text: text.encode(),
    "utf-8 with a mark": lambda text: text.encode("utf-8-sig"),
    "utf-16": lambda text: text.encode("utf-16"),
    "utf-16, big end first": lambda text: b"\xfe\xff" + text.encode("utf-16-be"),
    "utf-32": lambda text: text.encode("utf-32"),
    "lines of windows": lambda text: text.replace("\n", "\r\n").encode("utf-8-sig"),
    "lines of old macs": lambda text: text.replace("\n", "\r").encode(),
    "no line end at the end": lambda text: text.rstrip("\n").encode(),
}


def pandas_frame(rows):
    return pytest.importorskip("pandas").DataFrame(rows)


def data_set(rows):
    return pytest.importorskip("datasets").Dataset.from_list(rows)


def arrow_table(rows):
    return pytest.importorskip("pyarrow").Table.from_pylist(rows)


OBJECTS = {
    "list": list,
    "tuple": tuple,
    "columns": lambda rows: {name: [row[name] for row in rows] for name in rows[0]},
    "columns as arrays": lambda rows: OrderedDict(
        (name, np.array([row[name] for row in rows], dtype=object)) for name in rows[0]
    ),
    "pandas": pandas_frame,
    "pandas with another index": lambda rows: pandas_frame(rows).set_index([[7, 3, 5]]),
    "datasets": data_set,
    "columns of datasets": lambda rows: dict(data_set(rows)[:]),
    "pyarrow": arrow_table,
    "mappings": lambda rows: [OrderedDict(row) for row in rows],
}


readers = pytest.mark.parametrize("kind", READERS)


def write(path: Path, content: str | bytes) -> Path:
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def parquet(path: Path, rows) -> Path:
    pytest.importorskip("pyarrow.parquet").write_table(arrow_table(rows), path)
    return path
