from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from benchmarks.faults.fuzz import Target, failure, problem, readers, records

READERS = [name for name in readers() if name.endswith((".jsonl", ".csv"))]
RECORDS = ["checkpoint.json", "llm_gym.json", "settings.json", "record", "config.yaml"]


@pytest.fixture(scope="module")
def all_records(tmp_path_factory):
    return records(tmp_path_factory.mktemp("checkpoint"))


def check(target, path, examples):
    path.parent.mkdir(parents=True, exist_ok=True)

    @settings(
        max_examples=examples,
        derandomize=True,
        database=None,
        deadline=None,
        suppress_health_check=list(HealthCheck),
    )
    @given(target.contents)
    def each(content):
        path.write_bytes(content)
        assert problem(target, path) is None

    each()


@pytest.mark.parametrize("name", READERS)
def test_whatever_is_in_a_file_of_rows_it_is_read_or_refused_by_name(name, tmp_path):
    target = readers()[name]
    check(target, tmp_path / target.file, 12)


@pytest.mark.parametrize("name", RECORDS)
def test_whatever_is_in_a_record_it_is_read_or_refused_by_name(name, all_records, tmp_path):
    target = all_records[name]
    check(target, tmp_path / target.file, 25)


def a_bug(path: Path):
    if path.read_bytes():
        return {}["key"]
    raise ValueError("without a name")


def test_a_reader_with_a_bug_would_be_reported(tmp_path):
    target = Target("file", a_bug, st.binary(max_size=3))
    found = failure(target, tmp_path, 20, seed=0)
    assert found is not None
    (tmp_path / "file").write_bytes(b"")
    assert "does not name the file" in (problem(target, tmp_path / "file") or "")
    (tmp_path / "file").write_bytes(b"x")
    assert (problem(target, tmp_path / "file") or "").startswith("KeyError")
