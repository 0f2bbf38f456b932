"""`llm-gym generate` and `evaluate`, and which prompts the commands that have answers take."""

from __future__ import annotations

import json
import shutil

import pytest

from tests.tiny_runs import PROMPTS


def test_generate_prints_completions_and_scores(run, tiny_dir, prompts, scorer):
    code, out, _ = run(
        "generate", "w9 w9", "--model", tiny_dir(), "--prompts", prompts, "--scorer",
        f"{scorer}:w1", "--max-new-tokens", 4, "--samples", 2,
    )  # fmt: skip
    assert code == 0
    for prompt in ["w9 w9", *PROMPTS]:
        assert out.count(f"> {prompt}  (score ") == 2


def test_generate_as_json_is_reproducible(run, tiny_dir):
    arguments = ["generate", "w1", "w2", "--model", tiny_dir(), "--json", "--max-new-tokens", 4]
    _, first, _ = run(*arguments)
    _, second, _ = run(*arguments)
    rows = [json.loads(line) for line in first.splitlines()]
    assert [row["prompt"] for row in rows] == ["w1", "w2"]
    assert set(rows[0]) == {"prompt", "completion"}
    assert first == second


def test_evaluate_compares_models_in_a_table_and_in_json(
    run, tiny_dir, prompts, scorer, tmp_path, monkeypatch
):
    monkeypatch.setenv("COLUMNS", "200")
    models = [tiny_dir(), tiny_dir(seed=7)]
    path = tmp_path / "out" / "scores.json"
    code, out, _ = run(
        "evaluate", *models, "--env", "llm_gym/TextGeneration-v0", "--prompts", prompts,
        "--scorer", f"{scorer}:w1", "--max-new-tokens", 4, "--json", path,
    )  # fmt: skip
    assert code == 0
    written = json.loads(path.read_text())
    assert list(written["models"]) == models
    for model in models:
        evaluation = written["models"][model]
        assert [row["prompt"] for row in evaluation["rows"]] == PROMPTS
        assert evaluation["low"] <= evaluation["mean_score"] <= evaluation["high"]
        [line] = [line for line in out.splitlines() if model in line.split()]
        assert f"{evaluation['mean_score']:.2f}" in line
    assert written["versions"]["llm-gym"]


def test_evaluate_has_conversations_with_a_world(run, tiny_dir):
    world = ["--world", "tests.turns.worlds:Words", "--max-turn-tokens", 3, "--max-turns", 2]
    code, out, _ = run("evaluate", tiny_dir(), *world, "--context-length", 24, "--max-prompts", 2)
    assert code == 0
    assert "turns" in out.splitlines()[0] + out.splitlines()[1]
    code, _, err = run("evaluate", tiny_dir(), *world, "--scorer", "length:3")
    assert code
    assert "scorer='length:3' is of prompts" in err


def test_scorer_that_returns_nonsense_is_named(run, tiny_dir, scorer):
    code, _, err = run(
        "generate", "w1", "--model", tiny_dir(), "--scorer", f"{scorer}:broken",
        "--max-new-tokens", 4,
    )  # fmt: skip
    assert code == 2
    assert "broken" in err
    assert "nan" in err


def test_answers_end_as_the_command_line_says(run, tiny_dir, prompts):
    arguments = ["--model", tiny_dir(), "--json", "--prompts", prompts, "--max-new-tokens", 20]
    stop = ["--stop-strings", "w1", "--stop-strings", "w2", "--eos-token-id", 7]
    code, out, err = run("generate", *arguments, *stop, "--top-k", 5, "--prefix-cache", "off")
    assert code == 0, err
    assert err.count("prompts are shown as") == 1
    for line in out.splitlines():
        assert not {"w1", "w2"} & set(json.loads(line)["completion"].split())
    code, greedy, _ = run("generate", *arguments, "--top-k", 1)
    code, same, _ = run("generate", *arguments, "--deterministic")
    assert greedy == same
    code, _, err = run("generate", *arguments, "--prefix-cache", "maybe")
    assert code == 2
    assert "prefix_cache='maybe' must be one of 'auto', 'on', 'off'" in err


# ------------------------------------------------------------------ prompts


def test_the_format_of_the_prompts_is_said_once_and_written_down(
    run, tiny_dir, prompts, scorer, tmp_path
):
    task = ["--env", "llm_gym/TextGeneration-v0", "--prompts", prompts, "--scorer", f"{scorer}:w1"]
    path = tmp_path / "scores.json"
    code, _, err = run(
        "evaluate", tiny_dir(), tiny_dir(seed=7), *task, "--max-new-tokens", 3,
        "--prompt-template", "w5 {prompt}", "--json", path,
    )  # fmt: skip
    assert code == 0, err
    assert err.count("prompts are shown as 'w5 {prompt}' (as given by prompt_template)") == 1
    for model in json.loads(path.read_text())["models"].values():
        assert model["prompt_format"].startswith("'w5 {prompt}'")
    store = tmp_path / "votes.db"
    shown = "prompts are shown as '{prompt}' (the bare prompt"
    code, _, err = run("compare", store, "--model", tiny_dir(), "--prompts", prompts)
    assert err.count(shown) == 1
    code, _, err = run(
        "label", tmp_path / "more.db", "--generate-from", tiny_dir(), "--prompts", prompts,
        "--max-new-tokens", 4, "--export", tmp_path / "votes.jsonl",
    )  # fmt: skip
    assert err.count(shown) == 1
    from llm_gym.feedback.preferences import PreferenceStore

    with PreferenceStore(store) as votes:
        assert {row.columns["prompt_format"] for row in votes.comparisons()} == {"{prompt}"}


def test_answers_fit_the_context_of_the_model_where_nobody_says_how_long(run, tiny_dir):
    tiny = tiny_dir()  # context 64
    code, out, err = run("generate", "w1 w2 w3 w4", "--model", tiny, "--json")
    assert code == 0, err
    assert err.count("answers have at most 60 tokens") == 1
    assert json.loads(out)["prompt"] == "w1 w2 w3 w4"
    code, _, err = run("generate", "w1 w2", "--model", tiny, "--max-new-tokens", 63)
    assert code == 2
    assert "prompt 1 has 2 tokens, more than the 1 that the model's context of 64 leaves" in err
    code, _, err = run("generate", "w1 " * 64, "--model", tiny)
    assert code == 2
    assert "prompt 1 has 64 tokens, more than the 63 that the model's context of 64" in err
    assert "answers have at most" not in err


def test_comparisons_fit_the_context_of_the_model_too(run, tiny_dir, prompts, tmp_path):
    arguments = ["--model", tiny_dir(), "--prompts", prompts]
    code, _, err = run("compare", tmp_path / "votes.db", *arguments)
    assert code == 0, err
    assert err.count("answers have at most 61 tokens") == 1
    code, _, err = run(
        "label", tmp_path / "more.db", "--generate-from", tiny_dir(), "--prompts", prompts,
        "--export", tmp_path / "votes.jsonl",
    )  # fmt: skip
    assert "has no vote" in err  # but comparisons, which were made
    assert err.count("answers have at most 61 tokens") == 1


def test_prompts_that_are_too_long_or_cannot_be_read_are_named_or_left_out(run, tiny_dir, tmp_path):
    tiny = tiny_dir()  # context 64
    path = tmp_path / "prompts.csv"
    path.write_text(f"question\nw1 w2\n{'w1 ' * 60}w9\nw1,w2\nw3\n")
    for command in (
        ["generate", "--model", tiny, "--max-new-tokens", 8],
        ["evaluate", tiny, "--env", "llm_gym/TextGeneration-v0", "--scorer", "length:3",
         "--max-new-tokens", 8],
        ["train", "--model", tiny, "--scorer", "length:3", "--max-new-tokens", 8, "--num-envs", 2,
         "--total-tokens", 8, "--output", tmp_path / "run"],
        ["compare", tmp_path / "votes.db", "--model", tiny, "--max-new-tokens", 8],
        ["label", tmp_path / "more.db", "--generate-from", tiny, "--max-new-tokens", 8, "--export",
         tmp_path / "votes.jsonl"],
    ):  # fmt: skip
        arguments = [*command, "--prompts", path, "--prompt-column", "question"]
        assert "prompts.csv, line 4: has 2 cells" in run(*arguments)[2]
        arguments += ["--bad-rows", "skip"]
        with pytest.warns(UserWarning, match="1 of 4 rows cannot be read .*line 4"):
            _, _, err = run(*arguments)
        assert "prompts.csv, line 3 has 61 tokens, more than the 56 that the model's" in err
        with pytest.warns(UserWarning, match="1 of 3 prompts .* are left out .*line 3"):
            code, _, err = run(*arguments, "--too-long", "drop")
        assert code == 0 or "has no vote" in err  # of `label`, which was to export
        shutil.rmtree(tmp_path / "run", ignore_errors=True)
        (tmp_path / "votes.db").unlink(missing_ok=True)  # else there is nothing more to ask
        with pytest.warns(UserWarning, match="prompts are too long and are cut .*line 3 has 61"):
            run(*arguments, "--too-long", "truncate")
