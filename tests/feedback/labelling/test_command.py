from __future__ import annotations

import io
import json
import re
import sys

import pytest

from llm_gym.cli import main
from llm_gym.feedback.preferences.store import PreferenceStore
from tests.feedback.labelling.conftest import fill


@pytest.fixture
def run(capsys, monkeypatch):
    """Runs `llm-gym label` with keys from a pipe; gives exit code, output and errors."""

    def call(*arguments, typed=""):
        monkeypatch.setattr(sys, "stdin", io.StringIO(typed))
        code = 0
        try:
            main(["label", *map(str, arguments)])
        except SystemExit as end:
            code = end.code or 0
        out, err = capsys.readouterr()
        return code, out, err

    return call


@pytest.fixture
def pairs(tmp_path):
    path = tmp_path / "pairs.jsonl"
    rows = [{"prompt": f"p{i}", "answers": ["a", "b"]} for i in range(3)]
    path.write_text("\n".join(map(json.dumps, rows)))
    return path


@pytest.fixture
def path(tmp_path):
    return tmp_path / "votes.db"


def votes_in(path):
    with PreferenceStore(path) as store:
        return [(vote.rater, vote.choice.value) for vote in store.votes()]


def test_import_label_export(run, pairs, path, tmp_path):
    code, out, _ = run(path, "--import", pairs, "--terminal", "--rater", "Ada", typed="1\n2\nq\n")
    assert code == 0
    assert f"new comparisons from {pairs}: 3" in out
    assert "2 votes so far: 0 s" in out
    assert [rater for rater, _ in votes_in(path)] == ["Ada", "Ada"]
    code, out, _ = run(path, "--export", tmp_path / "rows.jsonl")
    assert code == 0
    assert out.endswith("rows.jsonl: 2\n")
    rows = [json.loads(line) for line in (tmp_path / "rows.jsonl").read_text().splitlines()]
    assert {(row["prompt"], *sorted((row["chosen"], row["rejected"]))) for row in rows} == {
        ("p0", "a", "b"),
        ("p1", "a", "b"),
    }


def test_it_resumes_and_imports_nothing_twice(run, pairs, path):
    run(path, "--import", pairs, "--terminal", "--rater", "Ada", typed="t\nq\n")
    _, out, _ = run(path, "--import", pairs, "--terminal", "--rater", "Ada", typed="s\nq\n")
    assert f"new comparisons from {pairs}: 0" in out
    assert "1 of 3, less than a minute left at your pace (Ada)" in out
    assert votes_in(path) == [("Ada", "tie"), ("Ada", "skip")]


def test_preferences_of_others_count_as_votes(run, path, tmp_path):
    file = tmp_path / "rows.jsonl"
    file.write_text(json.dumps({"prompt": "p", "chosen": "a", "rejected": "b"}))
    code, out, _ = run(path, "--import", file, "--terminal", "--rater", "Ada", typed="q\n")
    assert code == 0
    assert f"new votes from {file}: 1" in out
    assert "--votes-per-comparison 2 asks for one more" in out
    more = ("--votes-per-comparison", 2, "--terminal", "--rater", "Ada")
    run(path, *more, typed="t\n")
    assert ("Ada", "tie") in votes_in(path)


def test_budget(run, pairs, path):
    run(path, "--import", pairs, "--terminal", "--rater", "Ada", "--budget", 1, typed="t\n" * 9)
    assert votes_in(path) == [("Ada", "tie")]


def test_a_model_makes_the_comparisons(run, path, tiny_dir, tmp_path):
    prompts = tmp_path / "prompts.txt"
    prompts.write_text("w1 w2\nw3\nw4\n")
    code, out, err = run(
        path, "--generate-from", tiny_dir(), "--prompts", prompts, "--max-prompts", 2,
        "--max-new-tokens", 5, "--terminal", "--rater", "Ada", typed="q\n",
    )  # fmt: skip
    assert code == 0
    assert err == (
        "prompts are shown as '{prompt}' (the bare prompt: the tokenizer has no chat template)\n"
    )
    assert "answers 2 prompts twice" in out
    with PreferenceStore(path) as store:
        assert {comparison.prompt for comparison in store.comparisons()} == {"w1 w2", "w3"}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["missing.db"], "there is no store"),
        (["missing.db", "--export", "x.jsonl"], "there is no store"),
        (["STORE", "--prompts", "p.txt"], "--prompts needs --generate-from MODEL"),
        (["STORE", "--stop-strings", "x"], "--stop-strings needs --generate-from MODEL"),
        (
            ["STORE", "--eos-token-id", "2", "--max-new-tokens", "9"],
            "--max-new-tokens and --eos-token-id need --generate-from MODEL",
        ),
        (["STORE", "--prompt-column", "q"], "--prompt-column needs --generate-from MODEL"),
        (["STORE", "--import", "missing.jsonl"], "there is no such file"),
        (["STORE", "--export", "rows.csv"], "no vote"),
        (["STORE", "--budget", "0", "--terminal"], "budget must be from 1"),
        (["STORE", "--votes-per-comparison", "0", "--terminal"], "votes_per_comparison"),
        (["STORE", "--host", "no.such.host.invalid"], "cannot listen on no.such.host.invalid"),
        (["STORE", "--terminal", "--rater", "x" * 61], "rater must be a name"),
        (["STORE", "--rater", "a\u202eb"], "rater must be a name"),
    ],
)
def test_mistakes_are_one_line(run, path, arguments, message, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    with PreferenceStore(path) as store:
        fill(store)
    code, _, err = run(*[path if argument == "STORE" else argument for argument in arguments])
    assert code == 2
    *warnings, error = err.strip().split("\n")
    assert error.startswith("llm-gym: error: ")
    assert message in error
    assert all("warning" in line for line in warnings)
    assert not (tmp_path / "missing.db").exists()


def test_an_empty_store_says_how_to_fill_it(run, path):
    PreferenceStore(path).close()
    code, _, err = run(path)
    assert code == 2
    assert "--import FILE or --generate-from MODEL" in err


def test_another_host_is_warned_about(run, path, monkeypatch):
    import llm_gym.feedback.labelling.server as server

    with PreferenceStore(path) as store:
        fill(store)
    served = []
    monkeypatch.setattr(server, "serve", lambda app, listener: served.append(listener))
    monkeypatch.setattr("webbrowser.open", lambda url: pytest.fail("a browser was opened"))
    code, out, err = run(path, "--host", "0.0.0.0", "--no-browser")
    assert code == 0
    assert err.count("warning") == 1
    assert "on 0.0.0.0 everybody in your network who knows the address" in err
    here, key = re.search(r"labelling page: (http://127\.0\.0\.1:\d+/)#(\w{10})  ", out).groups()
    assert f"for the projector: {here}results#{key}\n" in out
    assert all(f"/#{key}" in line for line in out.splitlines() if "other machines" in line)
    assert "10 % of the comparisons go to one rater more" in out
    _, _, err = run(path, "--no-browser")
    assert err == ""
    assert len(served) == 2


def test_the_browser_is_opened_where_there_is_one(run, path, monkeypatch):
    import llm_gym.feedback.labelling.server as server

    with PreferenceStore(path) as store:
        fill(store)
    opened = []
    monkeypatch.setattr(server, "serve", lambda app, listener: None)
    monkeypatch.setattr("webbrowser.open", opened.append)
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.setenv("DISPLAY", ":0")
    _, out, _ = run(path)
    assert len(opened) == 1
    assert opened[0] in out
    monkeypatch.delenv("DISPLAY")
    monkeypatch.delenv("WAYLAND_DISPLAY", raising=False)
    run(path)  # a browser would take over this terminal
    assert len(opened) == 1


def test_help(run):
    code, out, _ = run("--help")
    assert code == 0
    for option in ("--import", "--export", "--generate-from", "--terminal", "--no-browser"):
        assert option in out
