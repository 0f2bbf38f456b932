"""Columns, cells and values of rows: which are read, left out or handed on as they are."""

from __future__ import annotations

import csv
import json
import math
import warnings
from datetime import datetime
from decimal import Decimal

import numpy as np
import pytest

from llm_gym.feedback.preferences import read_preferences
from llm_gym.files.rows import DataWarning
from llm_gym.supervised.documents import read_documents
from llm_gym.supervised.pairs import read_pairs
from tests.files.readers import READERS, WORDS, data_set, parquet, prompts, readers, table, write


def test_columns_go_to_the_scorer_as_they_are():
    extra = {"price": Decimal("1.5"), "at": datetime(2026, 1, 2), "raw": b"x", "score": math.nan}
    assert prompts([{"prompt": "w1", **extra}])[0][1] == extra
    with pytest.warns(UserWarning, match="the column 'completion' is left out"):
        assert prompts([{"prompt": "w1", "completion": "w2", "n": 1}]) == [("w1", {"n": 1})]


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


# ------------------------------------------------------------------ cells and values


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
