from __future__ import annotations

import json
import tracemalloc

import numpy as np
import pytest
from stable_baselines3.common.logger import Logger

from llm_gym.runs.callbacks import History
from llm_gym.runs.callbacks.history import read_rows


def write(history, step, **values):
    logger = Logger(None, [history])
    for key, value in values.items():
        logger.record(key, value)
    logger.dump(step)


def test_keeps_numbers_of_any_kind_and_shows_a_gap_where_they_are_not_finite():
    history = History()
    write(history, 7, a=1, b=np.float32(2.5), c="text", d=float("nan"), e=np.arange(3))
    assert history.rows == [{"step": 7, "a": 1.0, "b": 2.5, "d": None}]


def test_curve_takes_the_first_key_that_was_logged():
    history = History()
    write(history, 1, old=1.0)
    write(history, 2, other=9.0)
    assert history.curve("new", "old") == ([1], [1.0])
    write(history, 3, old=5.0, new=3.0)
    write(history, 3, new=4.0)
    assert history.curve("new", "old") == ([3], [4.0])
    assert history.curve("never") == ([], [])


def test_rows_are_in_the_file_at_once_and_come_back(tmp_path):
    path = tmp_path / "metrics.jsonl"
    history = History(path)
    write(history, 1, a=1.0)
    assert read_rows(path) == history.rows  # before close: a killed run keeps its curve
    write(history, 2, a=2.0)
    history.close()
    assert [json.loads(line)["a"] for line in path.read_text().splitlines()] == [1.0, 2.0]


def test_resuming_drops_what_came_after_the_checkpoint(tmp_path):
    path = tmp_path / "metrics.jsonl"
    first = History(path)
    for step in (10, 20, 30):
        write(first, step, a=float(step))
    first.close()
    second = History(path, resume_at=20)
    write(second, 25, a=0.5)
    second.close()
    assert [row["step"] for row in second.rows] == [10, 20, 25]
    assert read_rows(path) == second.rows


def test_a_new_run_starts_the_file_anew(tmp_path):
    path = tmp_path / "metrics.jsonl"
    path.write_text('{"step": 1}\n')
    assert History(path).rows == []
    assert path.read_text() == ""


def test_last_line_cut_off_by_a_crash_is_ignored_but_damage_elsewhere_is_not(tmp_path):
    path = tmp_path / "metrics.jsonl"
    path.write_text('{"step": 1}\n{"step": 2, "a"')
    assert read_rows(path) == [{"step": 1}]
    path.write_text('{"st\n{"step": 2}\n')
    with pytest.raises(ValueError, match=r"metrics\.jsonl: line 1 is not JSON"):
        read_rows(path)


# ------------------------------------------------------------------ what is kept in memory


def rows_of(number):
    """Rows as a run makes them, with figures that come later, stay away, or are not finite."""
    for index in range(number):
        row = {f"train/figure_{k}": float(index * k) for k in range(20)}
        if index % 3 == 0:
            row["eval/score"] = index / 7
        if index % 5 == 0:
            row["train/figure_3"] = float("inf")
        yield index * 40, row


def test_rows_are_the_same_from_a_file_and_from_memory(tmp_path):
    on_disk, in_memory = History(tmp_path / "metrics.jsonl"), History()
    for step, row in rows_of(30):
        on_disk.write(row, {}, step)
        in_memory.write(row, {}, step)
    assert in_memory.rows == on_disk.rows
    assert isinstance(in_memory.rows[7]["step"], int)
    for key in ("eval/score", "train/figure_3", "step"):
        np.testing.assert_equal(in_memory.curve("never", key), on_disk.curve("never", key))


def grown(history, number=2000):
    """Bytes that Python holds more of when so many rows have been written."""
    rows = rows_of(number)
    for _ in range(50):  # what is made once
        step, row = next(rows)
        history.write(row, {}, step)
    tracemalloc.start()
    try:
        for step, row in rows:
            history.write(row, {}, step)
        return tracemalloc.get_traced_memory()[0]
    finally:
        tracemalloc.stop()


def test_with_a_file_nothing_of_a_row_stays_in_memory(tmp_path):
    assert grown(History(tmp_path / "metrics.jsonl")) < 20_000  # of 2,000 rows with 22 figures


def test_without_a_file_a_number_takes_little_more_than_its_eight_bytes():
    assert grown(History()) < 2000 * 22 * 12


def test_a_listener_gets_each_row_and_memory_stays_with_whoever_keeps_it(tmp_path):
    heard = []
    history = History(tmp_path / "metrics.jsonl", listener=heard.append)
    write(history, 3, a=1.0)
    assert heard == history.rows == [{"step": 3, "a": 1.0}]
    assert history.rows is not history.rows
