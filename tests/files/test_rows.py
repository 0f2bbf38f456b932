"""Every reader of data on every container and encoding: a new one of either is one line here."""

from __future__ import annotations

import csv
import gzip
import io
import json
import math
import warnings
from collections import OrderedDict
from datetime import datetime
from decimal import Decimal
from pathlib import Path

import numpy as np
import pytest

from llm_gym.feedback.preferences import read_preferences
from llm_gym.feedback.preferences.files import read_comparisons
from llm_gym.feedback.reward_model.rated_texts import read_ratings
from llm_gym.files.rows import DataWarning
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


@readers
@pytest.mark.parametrize("container", TEXT_CONTAINERS)
@pytest.mark.parametrize("encoding", ENCODINGS)
def test_every_reader_reads_every_text_file(kind, container, encoding, tmp_path):
    read, rows, _ = READERS[kind]
    ending, written = TEXT_CONTAINERS[container]
    path = write(tmp_path / f"data{ending}", ENCODINGS[encoding](written(rows)))
    assert read(path) == read(str(path)) == read(rows)


@readers
def test_every_reader_reads_parquet(kind, tmp_path):
    read, rows, _ = READERS[kind]
    folder = tmp_path / "part=1"  # which pyarrow would take for a column
    folder.mkdir()
    assert read(parquet(folder / "data.parquet", rows)) == read(rows)


@readers
@pytest.mark.parametrize("form", OBJECTS)
def test_every_reader_reads_every_table_in_memory(kind, form):
    read, rows, _ = READERS[kind]
    assert read(OBJECTS[form](rows)) == read(rows)


@readers
@pytest.mark.parametrize("container", ["json lines", "csv"])
@pytest.mark.parametrize("bad_rows", ["error", "skip"])
def test_every_reader_names_a_line_that_is_not_utf8(kind, container, bad_rows, tmp_path):
    read, rows, _ = READERS[kind]
    ending, written = TEXT_CONTAINERS[container]
    plain = json.loads(json.dumps(rows).replace("\\n", " "))
    lines = written(plain).split("\n")
    place = next(n for n, line in enumerate(lines) if "Zo" in line)
    data = "\n".join(lines).encode().replace("Zoë".encode(), "Zoë".encode("latin-1"))
    path = write(tmp_path / f"data{ending}", data)
    message = rf"data{ending}, line {place + 1}: not UTF-8 \(byte 0xeb at column \d+\)"
    if bad_rows == "skip" and container == "json lines":  # of which each line is by itself
        with pytest.warns(UserWarning, match=f"1 of 3 rows cannot be read .*{message}"):
            assert read(path, bad_rows="skip") == read(plain[1:])
    else:
        with pytest.raises(ValueError, match=message):
            read(path, bad_rows=bad_rows)


@readers
@pytest.mark.parametrize("container", TEXT_CONTAINERS)
def test_every_reader_names_utf16_without_a_mark(kind, container, tmp_path):
    read, rows, _ = READERS[kind]
    ending, written = TEXT_CONTAINERS[container]
    path = write(tmp_path / f"data{ending}", written(rows).encode("utf-16-le"))
    with pytest.raises(ValueError, match=r"line 1: a zero byte .*UTF-16 without a byte order mark"):
        read(path)


@pytest.mark.parametrize("encoding", ["utf-16-le", "utf-16-be", "utf-32-le", "utf-32-be"])
@pytest.mark.parametrize(
    "text",
    [
        "日本語の文\n二行目\n",
        "日本語の文\r\nabc",
        "乡乡乡\nabc",  # "aNaNaN" in UTF-8
        "上下\n一\n",  # bytes of line ends, and zeros of its own, inside characters
        "Ærø\n\tΩ 🙂\n",
        "one line, and no end",
        "old\rmac",
    ],
)
def test_text_without_a_mark_is_named_though_its_first_line_has_no_zero(encoding, text, tmp_path):
    path = write(tmp_path / "data.txt", text.encode(encoding))
    name = encoding[:6].upper()
    problem = rf"data\.txt, line 1: a zero byte .*: it is {name} without a byte order mark; save"
    for read in (prompts, read_documents):
        with pytest.raises(ValueError, match=problem):
            read(path)
    with pytest.warns(DataWarning, match=problem), pytest.raises(ValueError, match="none of its 1"):
        prompts(path, bad_rows="skip")


def test_a_stray_zero_byte_or_another_encoding_is_not_called_utf16(tmp_path):
    lines = [b"first", b"second \0 word", b"third", b"b\xe4r"]
    for joined in (b"\n".join(lines), b"\n".join(lines) + b"\n"):
        path = write(tmp_path / "data.txt", joined)
        with pytest.raises(ValueError, match="line 2: a zero byte at column 8"):
            prompts(path)
        with pytest.warns(DataWarning, match=r"2 of 4 rows .*line 4: not UTF-8 \(byte 0xe4 at col"):
            assert [text for text, _ in prompts(path, bad_rows="skip")] == ["first", "third"]


@readers
@pytest.mark.parametrize("container", ["json lines", "json array", "csv", "memory"])
def test_bad_rows_are_named_or_counted_and_left_out(kind, container, tmp_path):
    if container == "csv" and kind in ("prompts", "text"):
        return  # a cell is blank there, and no column missing
    read, rows, bad = READERS[kind]
    mixed = [rows[0], bad, *rows[1:], bad]
    if container == "memory":
        source, place = mixed, r"\[1\]"
    else:
        ending, written = TEXT_CONTAINERS[container]
        source, place = write(tmp_path / f"data{ending}", written(mixed)), r"(line|row) \d"
    with pytest.raises((ValueError, TypeError), match=place):
        read(source)
    with pytest.warns(UserWarning, match=rf"2 of 5 rows cannot be read .*{place}"):
        assert read(source, bad_rows="skip") == read(rows)
    with pytest.raises(ValueError, match="bad_rows='drop' must be one of 'error', 'skip'"):
        read(source, bad_rows="drop")


@readers
@pytest.mark.parametrize(
    ("name", "content", "error", "message"),
    [
        ("none.jsonl", None, FileNotFoundError, "there is no such file"),
        ("data", None, ValueError, "is a directory; name a file in it"),
        ("data.jsonl", None, ValueError, "is a directory; name a file in it"),
        *(
            (name, gzip.compress(b"{}", mtime=0), ValueError, "is compressed, or a document")
            for name in ("data.jsonl.gz", "data.jsonl", "data.csv", "data")
        ),
        ("data.xlsx", b"PK\3\4\0\0", ValueError, "is compressed, or a document .* as CSV"),
        ("data.jsonl", '{"a": 1, "a": 2}', ValueError, "line 1: .*the key 'a' is there twice"),
        ("data.json", '[{"a": 1, "a": 2}]', ValueError, "line 1: .*the key 'a' is there twice"),
        ("data.parquet", b"PAR1", ValueError, "not a whole Parquet file"),
        ("data.parquet", b"", ValueError, "not a whole Parquet file"),
        ("data.json", "{", ValueError, "line 1: not JSON"),
        ("data.json", "[\n{},\n\n{]", ValueError, "line 4: not JSON"),
        ("data.json", "[" * 100_000, ValueError, "line 1: not JSON"),
        ("data.json", "7", ValueError, "must be an array of rows"),
        ("data.json", '{"prompt": "w1"}', ValueError, "must be an array of rows"),
        ("data.json", '{"a": [1], "b": [1, 2]}', ValueError, "the columns differ in length"),
        ("data.jsonl", '{"a": 1},\n{"a": 1}', ValueError, "line 1: not JSON .* without a comma"),
        ("data.jsonl", "[\n{}\n]", ValueError, "line 1: not JSON .* array ends in .json"),
        ("data.jsonl", b'{"a": "b\0"}', ValueError, "line 1: a zero byte at column 9"),
        ("data.jsonl", b"\xff\xfea", ValueError, "line 1: not UTF-16, though it begins so"),
        ("data.csv", "a,a\n1,2", ValueError, "line 1: two columns have the same name"),
        ("data.csv", 'a,b\n"1,2', ValueError, "line 2: not CSV"),
        ("data.csv", "a,b\n\n1,2,3", ValueError, "line 3: has 3 cells, but the first line names 2"),
        *(
            (f"data{ending}", content, ValueError, "is empty: there is nothing to read")
            for ending in (".jsonl", ".json", ".csv", ".tsv")
            for content in ("", "\n \n", "\ufeff")
        ),
        ("data.json", "[]", ValueError, "is empty: there is nothing to read"),
        ("data.csv", "prompt,text", ValueError, "is empty: there is nothing to read"),
    ],
)
def test_what_no_reader_reads(kind, name, content, error, message, tmp_path):
    read = READERS[kind][0]
    if "directory" in message:
        (tmp_path / name).mkdir()
    elif content is not None:
        write(tmp_path / name, content)
    with pytest.raises(error, match=message):
        read(tmp_path / name)


def split_set(rows):
    datasets = pytest.importorskip("datasets")
    return datasets.DatasetDict({"train": data_set(rows), "test": data_set(rows)})


@readers
@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda rows: {"w1", "w2"}, "got set, which has no order"),
        (lambda rows: dict.fromkeys(["w1"]).keys(), "got dict_keys, which has no order"),
        (lambda rows: rows[0], "a single row goes into a list"),
        (lambda rows: {}, "must be a sequence of rows or a dict of columns"),
        (split_set, r"has the splits \['train', 'test'\]; pass one of them, data\['train'\]"),
        (lambda rows: np.zeros(3), "an array of|a ndarray of float64, not of texts"),
        (lambda rows: np.zeros((3, 2)), r"is an array of shape \(3, 2\)"),
        (lambda rows: b"w1", "is a bytes; pass a path"),
        (lambda rows: io.StringIO("w1"), "is a StringIO; pass a path"),
        (lambda rows: 7, "got int, which holds no rows"),
        (lambda rows: None, "got NoneType, which holds no rows"),
        (lambda rows: [7], r"\[0\]"),
        (lambda rows: [[]], r"\[0\]"),
    ],
)
def test_what_is_no_table_of_rows(kind, make, message):
    read, rows, _ = READERS[kind]
    with pytest.raises((TypeError, ValueError), match=message):
        read(make(rows))


@pytest.mark.parametrize("kind", [kind for kind in READERS if kind != "prompts"])
def test_what_can_be_read_once_only_is_for_prompts_alone(kind):
    read, rows, _ = READERS[kind]
    with pytest.raises(TypeError, match="is a generator, which can be read once only; pass list"):
        read(row for row in rows)


@readers
@pytest.mark.parametrize("container", ["json lines", "json array"])
def test_half_a_character_is_named_by_its_row(kind, container, tmp_path):
    read, rows, _ = READERS[kind]
    ending, _ = TEXT_CONTAINERS[container]
    first = json.dumps(rows[0]).replace(WORDS[0][:3], "\\ud83d")
    first = first.replace("Gr\\u00fc\\u00df dich", "\\ud83d")
    second = json.dumps(rows[1])
    data = f"{second}\n{first}\n" if ending == ".jsonl" else f"[{second}, {first}]"
    with pytest.raises(ValueError, match=r"(line|row) 2: .* has a lone surrogate at character 0"):
        read(write(tmp_path / f"data{ending}", data))


# ------------------------------------------------------------------ of one kind alone


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_a_text_file_is_a_prompt_a_line_or_one_document(encoding, tmp_path):
    path = write(tmp_path / "data.txt", ENCODINGS[encoding]("Grüß dich\n\n  Zoë 🙂\n"))
    assert prompts(path) == [("Grüß dich", {}), ("  Zoë 🙂", {})]
    assert [text.rstrip("\n") for text in read_documents(path)] == ["Grüß dich\n\n  Zoë 🙂"]


def test_marks_of_joined_files_are_no_text(tmp_path):
    lines = "".join(f"\ufeff{word}\r\n" for word in ("one", "two"))
    path = write(tmp_path / "data.txt", lines)
    assert prompts(path) == [("one", {}), ("two", {})]
    assert read_documents(path) == ["one\ntwo\n"]
    path = write(tmp_path / "data.json", '[\n{"text": "one"},\n\ufeff{"text": "two"}]')
    assert read_documents(path) == ["one", "two"]


def test_documents_are_in_files_of_any_other_ending(tmp_path):
    assert read_documents(write(tmp_path / "README.md", "# Title")) == ["# Title"]
    assert read_documents(write(tmp_path / "book", "Once")) == ["Once"]
    with pytest.raises(ValueError, match="line 1: a zero byte"):
        read_documents(write(tmp_path / "model.bin", bytes(range(256))))


def test_texts_in_memory_are_prompts_and_documents():
    pandas = pytest.importorskip("pandas")
    for texts in (np.array(WORDS), np.array(WORDS, dtype=object), pandas.Series(WORDS)):
        assert prompts(texts) == [(text, {}) for text in WORDS]
        assert read_documents(texts) == WORDS
    assert prompts(data_set(READERS["prompts"][1])["prompt"]) == [(text, {}) for text in WORDS]
    with pytest.raises(TypeError, match=r"prompts\[1\]: the prompt must be a str, got float"):
        prompts(pandas.Series(["w1", math.nan]))


def test_a_list_of_text_is_a_json_array_too(tmp_path):
    path = write(tmp_path / "data.json", json.dumps(WORDS))
    assert prompts(path) == [(text, {}) for text in WORDS]
    assert read_documents(path) == WORDS


def test_columns_go_to_the_scorer_as_they_are():
    extra = {"price": Decimal("1.5"), "at": datetime(2026, 1, 2), "raw": b"x", "score": math.nan}
    assert prompts([{"prompt": "w1", **extra}])[0][1] == extra
    with pytest.warns(UserWarning, match="the column 'completion' is left out"):
        assert prompts([{"prompt": "w1", "completion": "w2", "n": 1}]) == [("w1", {"n": 1})]


def test_cells_of_csv_are_texts_and_an_index_of_pandas_is_left_out(tmp_path):
    pandas = pytest.importorskip("pandas")
    path = tmp_path / "data.csv"
    pandas.DataFrame({"prompt": ["w1"], "answer": [4]}).to_csv(path)
    assert prompts(path) == [("w1", {"answer": "4"})]


def test_long_cells_of_csv_are_read_whole(tmp_path):
    limit = csv.field_size_limit()
    text = "word " * 100_000
    assert read_documents(write(tmp_path / "data.csv", f"text\n{text}\n")) == [text]
    assert csv.field_size_limit() == limit


def test_what_tables_have_where_there_is_no_value():
    pandas = pytest.importorskip("pandas")
    columns = {
        "prompt": ["w1"],
        "chosen": ["a"],
        "rejected": ["b"],
        "none": [None],
        "nan": np.array([math.nan], dtype=np.float32),
        "text": pandas.array([None], dtype="string"),
        "time": [pandas.NaT],
        "day": [np.datetime64("2026-01-02")],
        "half": np.array([0.5], dtype=np.float32),
    }
    row = {name: values[0] for name, values in columns.items()}
    for source in (pandas.DataFrame(columns), [row]):
        (read,) = read_preferences(source)
        assert read.columns.pop("day").startswith("2026-01-02")
        assert read.columns == {"half": 0.5}


@pytest.mark.parametrize("value", ["NaN", "Infinity", "-Infinity", "[1, NaN]", '{"a": NaN}'])
@readers
def test_numbers_that_are_none_in_a_column_nobody_reads_do_not_block_a_file(kind, value, tmp_path):
    """`json.dumps` writes them, and so do many exports."""
    read, rows, _ = READERS[kind]
    lines = [json.dumps({**row, "extra": "EXTRA"}).replace('"EXTRA"', value) for row in rows]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DataWarning)  # that it is left out
        found = read(write(tmp_path / "data.jsonl", "\n".join(lines)))
    if kind == "prompts":  # whose scorer gets all columns as they are
        found = [(text, {}) for text, columns in found if columns.pop("extra", None) is not None]
    assert found == read(rows)


def test_rows_of_nulls_are_named(tmp_path):
    rows = [{"prompt": "w1", "completion": "w2"}, {"prompt": None, "completion": None}]
    path = parquet(tmp_path / "data.parquet", rows)
    with pytest.raises(ValueError, match=r"data\.parquet, row 2: needs .*, has \[\]"):
        read_pairs(path)
    with pytest.raises(ValueError, match=r"data\.parquet, row 2: has no \"prompt\" key, only \[\]"):
        prompts(path)


def test_the_column_of_the_prompt_can_be_named(tmp_path):
    rows = [{"question": "w1", "prompt": "id-7"}, {"question": "w2", "prompt": "id-8"}]
    expected = [("w1", {"prompt": "id-7"}), ("w2", {"prompt": "id-8"})]
    assert prompts(rows, prompt_column="question") == expected
    path = write(tmp_path / "data.csv", table(rows))
    assert prompts(path, prompt_column="question") == expected
    with pytest.raises(ValueError, match=r"no column prompt_column='text', only \['prompt', 'que"):
        prompts(rows, prompt_column="text")
    with pytest.raises(ValueError, match="has no columns, so prompt_column='text' names none"):
        prompts(["w1"], prompt_column="text")


def test_an_empty_column_name_or_a_blank_prompt_is_no_prompt():
    with pytest.raises(ValueError, match=r"prompts\[0\]: the prompt is empty"):
        prompts([""])
    assert prompts(["\n"]) == [("\n", {})]  # as nanoGPT begins
