"""Every reader of data on every container and encoding, and what none of them reads."""

from __future__ import annotations

import gzip
import io

import numpy as np
import pytest

from tests.files.readers import (
    ENCODINGS,
    OBJECTS,
    READERS,
    TEXT_CONTAINERS,
    data_set,
    parquet,
    readers,
    write,
)


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


# ------------------------------------------------------------------ refused


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
