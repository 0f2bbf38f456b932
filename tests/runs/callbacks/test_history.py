from __future__ import annotations

import json

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
