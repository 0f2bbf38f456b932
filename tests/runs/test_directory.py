"""A directory belongs to one run: it begins, goes on, or is refused, and steps are done once."""

from __future__ import annotations

import json

import pytest

from llm_gym.runs import directory as module
from llm_gym.runs.directory import RunDirectory, digests_of, refuse_another_run, refuse_existing_run

SETTINGS = {"seed": 0, "rate": 0.5, "shown": 3}


def directory(root, files=None, **changes):
    return RunDirectory(
        root, {**SETTINGS, **changes}, files=files, free=("shown",), steps=("first", "second")
    )


def test_nothing_is_written_until_it_is_said_so(tmp_path):
    run = directory(tmp_path / "run")
    assert run.checkpoint(resume=False, advice="go away") is None
    assert run.record("first") is None
    assert not (tmp_path / "run").exists()
    run.write_settings()
    assert json.loads((tmp_path / "run" / "settings.json").read_text()) == SETTINGS


def test_a_new_run_is_kept_out_of_the_directory_of_another(tmp_path):
    (tmp_path / "checkpoints").mkdir()
    with pytest.raises(ValueError, match="already holds a run: go away"):
        directory(tmp_path).checkpoint(resume=False, advice="go away")
    refuse_existing_run(tmp_path, "go away", shown_by="model.zip")


def test_there_must_be_a_checkpoint_to_resume(tmp_path):
    with pytest.raises(ValueError, match="there is no checkpoint"):
        directory(tmp_path).checkpoint(resume=True, advice="go away")
    for step in (3, 20):
        path = tmp_path / "checkpoints" / f"step-{step}"
        path.mkdir(parents=True)
        (path / "checkpoint.json").write_text("{}")
    assert directory(tmp_path).checkpoint(resume=True, advice="go away") == path


def test_the_same_call_goes_on_and_others_are_refused_by_name_and_value(tmp_path):
    directory(tmp_path).begin("go away")
    directory(tmp_path).begin("go away")
    with pytest.raises(ValueError, match=r"seed=1 \(there: 0\), rate=2 \(there: 0.5\); go away"):
        directory(tmp_path, seed=1, rate=2).begin("go away")
    with pytest.raises(ValueError, match=r"more=1 \(there: None\)"):
        directory(tmp_path, more=1).go_on("go away")


def test_what_is_free_may_change_and_is_written_down(tmp_path):
    directory(tmp_path).begin("go away")
    changed = directory(tmp_path, shown=9)
    changed.begin("go away")
    assert json.loads((tmp_path / "settings.json").read_text())["shown"] == 9
    assert changed.fingerprint == directory(tmp_path).fingerprint
    assert changed.fingerprint != directory(tmp_path, seed=1).fingerprint


def test_settings_are_compared_as_json_gives_them_back(tmp_path):
    refuse_another_run(tmp_path, {"sizes": [1, 2]}, {"sizes": (1, 2)}, "go away")


def test_a_directory_of_something_else_is_left_alone(tmp_path):
    (tmp_path / ".settings.json.tmp").write_text("what a kill left")
    directory(tmp_path).begin("go away")
    (tmp_path / "settings.json").rename(tmp_path / "thesis.tex")
    with pytest.raises(ValueError, match=r"is not empty and holds no run \(it has no settings"):
        directory(tmp_path).begin("go away")


def test_a_file_that_changes_under_the_run_is_noticed(tmp_path):
    text = tmp_path / "text.txt"
    text.write_text("one")
    digests = digests_of({"text": str(text), "pairs": None})
    assert list(digests) == ["text"]
    directory(tmp_path / "run", digests, text=str(text)).begin("go away")
    text.write_text("two")
    with pytest.raises(ValueError, match=r"the file of text=.* has changed since"):
        directory(tmp_path / "run", digests_of({"text": str(text)}), text=str(text)).begin("")
    with pytest.raises(FileNotFoundError, match=r"text='no.txt': there is no such file"):
        digests_of({"text": "no.txt"})


def test_a_finished_step_is_read_back_once(tmp_path, monkeypatch):
    run = directory(tmp_path)
    record = run.finish("second", {"score": 1.5}, 2.0)
    assert (tmp_path / "stages" / "2-second.json").exists()
    again = directory(tmp_path)
    assert again.record("second") == record
    assert again.record("first") is None
    monkeypatch.setattr(module, "read_object", lambda _: pytest.fail("read again"))
    assert again.record("second") == record


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"stage": "first"', "cannot be read"),
        ("[]", "is no JSON object"),
        ('{"stage": "first"}', "is no record of a stage"),
    ],
)
def test_a_damaged_record_is_named(tmp_path, text, message):
    path = directory(tmp_path).record_path("first")
    path.parent.mkdir()
    path.write_text(text)
    with pytest.raises(ValueError, match=f"1-first.json {message}"):
        directory(tmp_path).record("first")


def test_a_record_of_other_settings_is_refused(tmp_path):
    directory(tmp_path, seed=1).finish("first", {}, 0.0)
    with pytest.raises(ValueError, match=r"1-first.json was written by a run with other settings"):
        directory(tmp_path).record("first")
