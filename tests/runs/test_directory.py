"""A directory belongs to one run: it begins, goes on, or is refused, and steps are done once."""

from __future__ import annotations

import json
import subprocess
import sys
from contextlib import nullcontext, suppress

import pytest

from llm_gym.files import owned
from llm_gym.runs import directory as module
from llm_gym.runs.checkpoint import DamagedCheckpointWarning
from llm_gym.runs.directory import (
    CorrectionWarning,
    RestartWarning,
    RunDirectory,
    digests_of,
    refuse_another_run,
)
from llm_gym.runs.opening import LOCK

SETTINGS = {"seed": 0, "rate": 0.5, "shown": 3}


def directory(root, files=None, **changes):
    return RunDirectory(
        root, {**SETTINGS, **changes}, files=files, free=("shown",), steps=("first", "second")
    )


def names(root):
    return sorted(path.name for path in root.iterdir() if path.name != LOCK)


def checkpoint_in(root, step, content="weights"):
    folder = root / "checkpoints"
    with owned.replace_directory(folder / f"step-{step:012d}", "checkpoint") as path:
        (path / "checkpoint.json").write_text("{}")
        (path / "weights").write_text(content)
    return folder / f"step-{step:012d}"


# ------------------------------------------------------------------ new, resumed or refused


def test_nothing_is_left_of_a_run_that_was_refused_before_it_began(tmp_path):
    run = directory(tmp_path / "run")

    def refused():
        with run.opened():
            assert run.checkpoint(resume=False, advice="go away") is None
            assert run.record("first") is None
            raise TypeError

    with pytest.raises(TypeError):
        refused()
    assert not (tmp_path / "run").exists()
    (tmp_path / "run").mkdir()
    with pytest.raises(TypeError):
        refused()
    assert list((tmp_path / "run").iterdir()) == []


@pytest.mark.parametrize("ending", ["finished", "stopped", "diverged", "killed"])
def test_a_run_says_how_it_ended(ending, tmp_path):
    class Diverged(Exception):
        run_state = "diverged"

    errors = {"stopped": KeyboardInterrupt, "diverged": Diverged}
    run = directory(tmp_path / "run")
    with suppress(KeyboardInterrupt, Diverged), run.opened():
        run.write_settings()
        assert run.state == "running"
        if ending in errors:
            raise errors[ending]
    if ending == "killed":
        owned.write_marker(run.root, "run", command="train", state="running")
    checkpoint_in(run.root, 3)
    told = "which was killed" if ending == "killed" else ending
    with (
        pytest.raises(ValueError, match=rf"already holds a run \({told}\): go away"),
        run.opened(),
    ):
        run.checkpoint(resume=False, advice="go away")


def test_there_must_be_a_run_to_resume(tmp_path):
    run = directory(tmp_path / "run")
    with (
        pytest.raises(ValueError, match="holds no run to resume; leave out"),
        run.opened(),
    ):
        run.checkpoint(resume=True, advice="go away")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("resume", [True, False])
def test_a_run_that_died_before_its_first_checkpoint_begins_anew(resume, tmp_path):
    run = directory(tmp_path / "run")
    with run.opened():
        run.write_settings()
        (run.checkpoints / ".step-000000000003.llm_gym-0a1b2c3d.tmp").mkdir(parents=True)
    told = pytest.warns(RestartWarning, match="before its first checkpoint, so it begins anew")
    with told if resume else nullcontext(), run.opened():
        assert run.checkpoint(resume=resume, advice="go away") is None
    assert list(run.checkpoints.iterdir()) == []


def test_the_newest_checkpoint_is_found_wherever_a_kill_left_it(tmp_path):
    run = directory(tmp_path / "run")
    with run.opened():
        run.write_settings()
        checkpoint_in(run.root, 3)
        newest = checkpoint_in(run.root, 20)
        newest.rename(newest.with_name(f".{newest.name}.llm_gym-previous"))
    with run.opened():
        assert run.checkpoint(resume=True, advice="go away") == newest


def test_damaged_checkpoints_are_set_aside_and_an_older_one_is_taken(tmp_path):
    run = directory(tmp_path / "run")
    with run.opened():
        run.write_settings()
        good, *bad = (checkpoint_in(run.root, step) for step in (3, 20, 30, 40))
        (bad[0] / "weights").write_text("weighty")
        (bad[1] / "llm_gym.json").write_text("{")
        (bad[2] / "checkpoint.json").unlink()
    told = pytest.warns(DamagedCheckpointWarning, match=r"going on from .*step-0*3, because .*")
    with run.opened(), told as warned:
        assert run.checkpoint(resume=True, advice="go away") == good
    message = str(warned[0].message)
    for reason in ("weights is corrupt", "llm_gym.json is corrupt", "checkpoint.json is missing"):
        assert reason in message
    assert names(run.checkpoints) == sorted([good.name, *(f"damaged-{path.name}" for path in bad)])
    checkpoint_in(run.root, 20)  # the run gets there again
    (run.checkpoints / bad[0].name / "weights").unlink()
    with run.opened(), pytest.warns(DamagedCheckpointWarning):
        run.checkpoint(resume=True, advice="go away")
    assert (run.checkpoints / f"damaged-2-{bad[0].name}").exists()
    (good / "weights").unlink()
    with pytest.raises(ValueError, match=r"no checkpoint in .* is whole"), run.opened():
        run.checkpoint(resume=True, advice="go away")
    assert good.exists()


# ------------------------------------------------------------------ one run, one process

WORKING = """
import sys, time
from llm_gym.runs.directory import RunDirectory
with RunDirectory(sys.argv[1], {}).opened():
    print("at work", flush=True)
    time.sleep(60)
"""


def test_a_second_process_is_refused_until_the_first_is_gone(tmp_path):
    root = tmp_path / "run"
    first = subprocess.Popen(
        [sys.executable, "-c", WORKING, str(root)], stdout=subprocess.PIPE, text=True
    )
    try:
        assert first.stdout.readline() == "at work\n"
        with pytest.raises(ValueError, match="another process is at work in"):
            directory(root).opened().__enter__()
    finally:
        first.kill()  # the system gives the lock back, whatever the process could still say
        first.wait()
        first.stdout.close()
    with directory(root).opened():
        pass


def test_a_link_is_followed(tmp_path):
    (tmp_path / "link").symlink_to(tmp_path / "disk" / "run")
    run = directory(tmp_path / "link")
    with run.opened():
        run.write_settings()
    assert (tmp_path / "link").is_symlink()
    assert names(tmp_path / "disk" / "run") == ["llm_gym.json", "settings.json"]


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (lambda root: (root / "thesis.tex").write_text(""), "is not empty and holds no run"),
        (lambda root: (root / ".git").mkdir(), "is not empty and holds no run"),
        (lambda root: owned.write_marker(root, "model", files={}), "holds a model, not a run"),
        (lambda root: owned.write_marker(root, "run", command="sft"), "holds a run of 'sft'"),
        (lambda root: (root / "llm_gym.json").write_text("[]"), "llm_gym.json is corrupt"),
    ],
)
def test_a_directory_of_something_else_is_left_alone(make, reason, tmp_path):
    make(tmp_path)
    before = names(tmp_path)
    with pytest.raises(ValueError, match=reason), directory(tmp_path).opened():
        pass
    assert names(tmp_path) == before


def test_a_file_is_no_directory(tmp_path):
    (tmp_path / "run").write_text("")
    with pytest.raises(ValueError, match="is a file"), directory(tmp_path / "run").opened():
        pass


def test_only_leftovers_of_ours_are_removed(tmp_path):
    run = directory(tmp_path / "run")
    with run.opened():
        run.write_settings()
        for name in (".metrics.jsonl.tmp", "notes.tmp", ".report.html.llm_gym-0a1b2c3d.tmp"):
            (run.root / name).write_text("")
    with run.opened():
        pass
    assert names(run.root) == [".metrics.jsonl.tmp", "llm_gym.json", "notes.tmp", "settings.json"]


# ------------------------------------------------------------------ settings and steps


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
    assert changed.fingerprint_of("first") == directory(tmp_path).fingerprint_of("first")
    assert changed.fingerprint_of("first") != directory(tmp_path, seed=1).fingerprint_of("first")


def correctable(root, files=None, **changes):
    return RunDirectory(
        root,
        {**SETTINGS, **changes},
        files=files,
        free=("shown",),
        steps=("first", "second", "third"),
        uses={"seed": "first", "rate": "second", "text": "second", "last": "third"},
        settled=("first",),
    )


def finished(root, files=None, **settings):
    run = correctable(root, files, **settings)
    run.begin("go away")
    for step in run.steps:
        run.finish(step, {}, 0.0)
    return run


def test_a_corrected_setting_costs_the_steps_that_use_it_and_no_other(tmp_path):
    before = finished(tmp_path, last=1).record("first")
    discarded = []
    for changes, again in (({"last": 2}, ["third"]), ({"rate": 7}, ["third", "second"])):
        run = correctable(tmp_path, **{"last": 2, **changes})
        run.discard = discarded.append
        name = next(iter(changes))
        with pytest.warns(CorrectionWarning, match=f"another {name}=.*; what was finished"):
            run.begin("go away")
        assert discarded == again
        assert [step for step in run.steps if run.record(step) is None] == again[::-1]
        assert run.record("first") == before
        discarded.clear()
        for step in run.steps[1:]:
            run.finish(step, {}, 0.0)


def test_a_settled_step_keeps_its_settings_once_it_is_finished(tmp_path):
    run = correctable(tmp_path)
    run.begin("go away")
    with pytest.warns(CorrectionWarning, match=r"another seed=1 \(there: 0\): done again"):
        correctable(tmp_path, seed=1).begin("go away")
    correctable(tmp_path, seed=1).finish("first", {}, 0.0)
    with pytest.raises(ValueError, match=r"other settings: seed=2 \(there: 1\); go away"):
        correctable(tmp_path, seed=2, rate=3).begin("go away")
    assert correctable(tmp_path, seed=1).record("first") is not None


def test_a_changed_file_costs_the_steps_that_read_it(tmp_path):
    text = tmp_path / "text.txt"
    text.write_text("one")
    finished(tmp_path / "run", digests_of({"text": str(text)}), text=str(text))
    text.write_text("two")
    run = correctable(tmp_path / "run", digests_of({"text": str(text)}), text=str(text))
    with pytest.warns(CorrectionWarning, match=r"the file of text=.*: done again.*second, third"):
        run.begin("go away")
    assert run.record("first") is not None
    assert run.record("second") is run.record("third") is None


def test_settings_are_compared_as_json_gives_them_back(tmp_path):
    refuse_another_run(tmp_path, {"sizes": [1, 2]}, {"sizes": (1, 2)}, "go away")


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


# ------------------------------------------------------------------ settings that came later


def grown(root, **changes):
    """The same directory, as a release knows it that has a setting more."""
    return RunDirectory(
        root,
        {**SETTINGS, "dtype": "float32", **changes},
        free=("shown",),
        steps=("first", "second"),
        uses={"dtype": "second"},
        defaults={**SETTINGS, "dtype": "float32"},
    )


@pytest.mark.filterwarnings("error")
def test_a_run_that_began_before_a_setting_existed_goes_on_as_it_was(tmp_path):
    run = directory(tmp_path)
    with run.opened():
        run.begin("go away")
        run.finish("first", {"loss": 1.0}, 2.0)
        run.finish("second", {"loss": 0.5}, 2.0)
    before = run.settings_path.read_bytes()
    for go_on in ("begin", "go_on"):
        later = grown(tmp_path)
        with later.opened():
            getattr(later, go_on)("go away")
            assert later.record("first").figures == {"loss": 1.0}
            assert later.record("second").figures == {"loss": 0.5}
        assert run.settings_path.read_bytes() == before


def test_a_setting_that_is_not_what_it_was_before_it_existed_is_another(tmp_path):
    run = directory(tmp_path)
    with run.opened():
        run.begin("go away")
        run.finish("first", {"loss": 1.0}, 2.0)
        run.finish("second", {"loss": 0.5}, 2.0)
    other = grown(tmp_path, dtype="bfloat16")
    told = r"dtype='bfloat16' \(there: 'float32'\)"
    with other.opened(), pytest.raises(ValueError, match=told):
        other.go_on("go away")
    with other.opened(), pytest.warns(CorrectionWarning, match=f"{told}: done again .* second"):
        other.begin("go away")
    assert other.record("second") is None
    assert other.record("first").figures == {"loss": 1.0}
    assert json.loads(run.settings_path.read_text())["dtype"] == "bfloat16"
    with pytest.raises(ValueError, match="holds a run with other settings: depth=3"):
        refuse_another_run(tmp_path, {"seed": 0}, {"seed": 0, "depth": 3}, "go away")
