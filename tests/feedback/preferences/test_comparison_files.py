"""Pairs of answers to be compared, read from a file."""

from __future__ import annotations

import json

import pytest

from llm_gym.feedback.preferences.files import read_comparisons


def write(path, *rows):
    path.write_text("\n".join(row if isinstance(row, str) else json.dumps(row) for row in rows))
    return path


def test_pairs_of_a_file(tmp_path):
    path = write(
        tmp_path / "pairs.jsonl",
        {"prompt": "p", "answers": ["a", "b"], "topic": 3},
        "",
        {"prompt": "q\u2028", "answers": ["c", "d"]},
    )
    first, second = read_comparisons(path)
    assert (first.prompt, first.answers, first.columns) == ("p", ("a", "b"), {"topic": 3})
    assert (second.prompt, second.answers) == ("q\u2028", ("c", "d"))


def test_files_of_another_kind_are_left_to_others(tmp_path):
    preferences = write(tmp_path / "p.jsonl", {"prompt": "p", "chosen": "a", "rejected": "b"})
    assert read_comparisons(preferences) is None
    assert read_comparisons(write(tmp_path / "empty.jsonl", "")) is None


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ("{", "not JSON"),
        ({"prompt": "p"}, 'no "answers"'),
        ([], 'no "answers"'),
        ({"prompt": "p", "answers": ["a"]}, "list of two texts"),
        ({"prompt": "p", "answers": "ab"}, "list of two texts"),
        ({"prompt": "p", "answers": ["a", "a"]}, "identical"),
        ({"prompt": "p", "answers": ["a", ""]}, "empty"),
        ({"prompt": "p", "answers": ["a", 1]}, "text"),
        ({"answers": ["a", "b"]}, "prompt"),
    ],
)
def test_a_bad_line_is_named(tmp_path, row, message):
    good = {"prompt": "p", "answers": ["a", "b"]}
    with pytest.raises(ValueError, match=f"line 2: .*{message}"):
        read_comparisons(write(tmp_path / "pairs.jsonl", good, row))


def test_a_missing_file(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"pairs\.jsonl"):
        read_comparisons(tmp_path / "pairs.jsonl")
