from __future__ import annotations

import json
import os
import shlex
import shutil
import signal
import subprocess
import sys
import time

import pytest

from llm_gym.cli import main
from tests.tiny_runs import PROMPTS

COMMANDS = (
    "demo", "train", "evaluate", "generate", "score", "envs", "pretrain", "sft", "compare", "label",
    "reward-model", "dpo", "rlhf", "chat", "fetch", "merge",
)  # fmt: skip


@pytest.fixture
def prompts(tmp_path):
    path = tmp_path / "prompts.txt"
    path.write_text("\n".join(PROMPTS))
    return path


@pytest.fixture
def scorer(tmp_path):
    path = tmp_path / "my scorer.py"
    path.write_text(
        "def w1(prompts, completions):\n    return [c.split().count('w1') for c in completions]\n"
        "def broken(prompts, completions):\n    return [float('nan')] * len(prompts)\n"
    )
    return path


def train_arguments(tiny_dir, prompts, scorer, output):
    return [
        "train", "--env", "llm_gym/TextGeneration-v0", "--model", tiny_dir(),
        "--prompts", prompts, "--scorer", f"{scorer}:w1", "--max-new-tokens", 6,
        "--num-envs", 4, "--batch-size", 12, "--device", "cpu", "--output", output,
    ]  # fmt: skip


# ------------------------------------------------------------------ help and errors


def test_help_lists_every_command_and_imports_nothing_heavy():
    code = (
        "import sys; from llm_gym.cli import main\n"
        "try: main(['--help'])\n"
        "except SystemExit: pass\n"
        "print(sorted({'torch', 'transformers', 'stable_baselines3'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.rstrip().endswith("[]")
    for command in COMMANDS:
        assert f" {command} " in done.stdout


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help(command, run):
    code, out, _ = run(command, "--help")
    assert code == 0
    assert "Usage: llm-gym" in out


def test_entry_point_is_installed():
    from importlib.metadata import entry_points

    [entry_point] = entry_points(group="console_scripts", name="llm-gym")
    assert entry_point.load() is main


def test_version_says_what_runs(run):
    code, out, _ = run("--version")
    assert code == 0
    assert "llm-gym 0." in out
    assert "torch " in out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["generate", "hi", "--model", "/no/such/dir"], "there is no directory '/no/such/dir'"),
        (["generate", "--model", "{model}"], "there is nothing to answer"),
        (["generate", "hi", "--model", "{model}", "--samples", "0"], "--samples must be at least"),
        (["generate", "w1", "--model", "{model}", "--max-new-tokens", "0"], "max_new_tokens=0"),
        (
            ["generate", "w1", "--model", "{model}", "--max-new-tokens", "4", "--temperature", "0"],
            "temperature=0.0",
        ),
        (["generate", "--model", "{model}", "--prompts", "no.txt"], "no such file"),
        (["generate", "w1", "--model", "{model}", "--scorer", "nice"], "there is no scorer 'nice'"),
        (["generate", "w1", "--model", "{model}", "--scorer", "no.py:f"], "'no.py' does not exist"),
        (["evaluate", "{model}", "--env", "llm_gym/Typo-v0"], "Typo"),
        (["evaluate", "{model}", "--env", "CartPole-v1"], "no text environment"),
        (["train", "--model", "{model}"], "needs prompts: give --prompts"),
        (["train", "--resume", "/no/such/run"], "holds no run to resume"),
        (["train", "--resume", "x", "--seed", "3"], "--seed cannot be changed when resuming"),
        (["pretrain", "no.txt"], "no.txt"),
        (["sft", "no.jsonl", "--model", "{model}"], "no.jsonl"),
        (["pretrain", "no.txt", "--heads", "3"], "heads=3 must divide"),
    ],
)
def test_a_mistake_is_one_clear_line_and_code_2(
    arguments, message, run, tiny_dir, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    code, out, err = run(*(argument.format(model=tiny_dir()) for argument in arguments))
    assert code == 2
    assert message in err
    assert err.startswith("llm-gym: error: ")
    assert err.count("\n") == 1
    assert out == ""


@pytest.mark.parametrize("arguments", [["flyy"], ["train", "--no-such-option"], ["evaluate"]])
def test_wrong_usage_is_code_2(arguments, run):
    code, _, err = run(*arguments)
    assert code == 2
    assert "Traceback" not in err


def test_debug_shows_the_traceback(tiny_dir):
    with pytest.raises(FileNotFoundError):
        main(["generate", "hi", "--model", "/no/such/dir", "--debug"])


# ------------------------------------------------------------------ looking


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


def test_scorer_that_returns_nonsense_is_named(run, tiny_dir, scorer):
    code, _, err = run(
        "generate", "w1", "--model", tiny_dir(), "--scorer", f"{scorer}:broken",
        "--max-new-tokens", 4,
    )  # fmt: skip
    assert code == 2
    assert "broken" in err
    assert "nan" in err


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


def test_warnings_about_data_are_one_line(tiny_dir, tmp_path):
    path = tmp_path / "prompts.jsonl"
    path.write_text('{"prompt": "w1"}\n{"prompt": "w2", "completion": "w3"}\n{}\n')
    command = ["-m", "llm_gym", "generate", "--prompts", path, "--model", tiny_dir()]
    command += ["--max-new-tokens", "2", "--bad-rows", "skip"]
    done = subprocess.run([sys.executable, *command], capture_output=True, text=True, check=True)
    start = "llm-gym: warning: prompts="
    first, second = (line for line in done.stderr.splitlines() if line.startswith(start))
    assert "1 of 3 rows cannot be read" in first
    assert second.endswith("own arguments use its name (1 of 3 rows)")


def test_a_bad_byte_in_an_argument_is_named(run, tiny_dir):
    code, _, err = run("generate", "w1", "w2 \udce4", "--model", tiny_dir())
    assert (code, "argument 3 (w2 \\udce4) is not text in utf-8" in err) == (2, True)


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


def test_envs_lists_ours_with_a_line_each_and_imports_nothing_heavy():
    code = (
        "import sys; from llm_gym.cli import main\n"
        "try: main(['envs'])\n"
        "except SystemExit: pass\n"
        "print(sorted({'torch', 'transformers', 'stable_baselines3'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    *lines, heavy = done.stdout.splitlines()
    assert heavy == "[]"
    shown = dict(line.split(maxsplit=1) for line in lines)
    assert "judged for politeness" in shown["llm_gym/PoliteEmail-v0"]
    assert "truthfully" in shown["llm_gym/AreYouSure-v0"]
    assert "best possible policy" in shown["llm_gym/KnownOptimum-v0"]
    assert shown["llm_gym/TextGeneration-v0"] == "Text generation, one token an action."


def test_the_module_is_the_command():
    done = subprocess.run(
        [sys.executable, "-m", "llm_gym", "--version"], capture_output=True, text=True, check=True
    )
    assert "llm-gym 0." in done.stdout


# ------------------------------------------------------------------ training


def test_train_writes_everything_and_resumes_to_the_same_weights(
    run, tiny_dir, prompts, scorer, tmp_path
):
    from safetensors.torch import load_file

    from llm_gym.runs.checkpoint import latest_checkpoint

    tokens = 4 * 6
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    code, out, err = run(
        *train_arguments(tiny_dir, prompts, scorer, whole), "--total-tokens", 4 * tokens
    )
    assert code == 0, err
    assert f"model:  {whole / 'model'}" in out
    assert {path.name for path in whole.iterdir()} >= {
        "settings.json", "metrics.jsonl", "samples.jsonl", "checkpoints", "report.html", "model",
    }  # fmt: skip
    run(*train_arguments(tiny_dir, prompts, scorer, parts), "--total-tokens", 2 * tokens)
    code, _, err = run("train", "--resume", parts, "--total-tokens", 4 * tokens)
    assert code == 0, err
    one, other = latest_checkpoint(whole), latest_checkpoint(parts)
    assert one.name == other.name
    straight, resumed = (load_file(each / "training.safetensors") for each in (one, other))
    assert [key for key in straight if not (straight[key] == resumed[key]).all()] == []
    curves = [(path / "metrics.jsonl").read_text().splitlines() for path in (whole, parts)]
    scores = [
        [(r["step"], r["rollout/ep_rew_mean"]) for r in map(json.loads, c)
         if "rollout/ep_rew_mean" in r and "time/iterations" in r]
        for c in curves
    ]  # fmt: skip
    assert scores[0] == scores[1]
    assert len(scores[0]) >= 4  # rollouts of whole answers, of six tokens at most


def test_train_by_another_algorithm(run, tiny_dir, prompts, scorer, tmp_path):
    import yaml

    output = tmp_path / "r"
    line = [*train_arguments(tiny_dir, prompts, scorer, output), "--total-tokens", 24]
    line += ["--eval-prompts", prompts, "--answers-per-rollout", 8]
    code, out, err = run(*line, "--algorithm", "RLOO", "--group-size", 2, "--stop-strings", "w9")
    assert code == 0, err
    assert "prompts are shown as" in err
    assert [line.split()[0] for line in out.splitlines()[:2]] == ["before", "after"]
    written = yaml.safe_load((output / "config.yaml").read_text())
    assert written["algorithm"] == "rloo"
    assert written["kl_coef"] == 1.0  # what was used, though nobody said it
    assert written["stop_strings"] == ["w9"]
    again = tmp_path / "again"
    code, _, err = run("train", "--config", output / "config.yaml", "--output", again)
    assert code == 0, err
    for name in ("model.safetensors", "generation_config.json"):
        assert (again / "model" / name).read_bytes() == (output / "model" / name).read_bytes()
    code, _, err = run(*line, "--output", tmp_path / "s", "--algorithm", "rloo", "--beta", 0.1)
    assert code == 2
    assert "those that have it: dpo, online_dpo" in err
    code, _, err = run(*line, "--algorithm", "rlo")
    assert code == 2
    assert "did you mean 'rloo'" in err


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


def test_train_does_not_write_over_another_run(run, tiny_dir, prompts, scorer, tmp_path):
    arguments = [*train_arguments(tiny_dir, prompts, scorer, tmp_path / "r"), "--total-tokens", 24]
    run(*arguments)
    code, _, err = run(*arguments)
    assert code == 2
    assert "already holds a run (finished): continue it with --resume" in err


def test_resuming_names_a_damaged_file(run, tiny_dir, prompts, scorer, tmp_path):
    output = tmp_path / "r"
    run(*train_arguments(tiny_dir, prompts, scorer, output), "--total-tokens", 24)
    [tensors] = (output / "checkpoints").glob("*/training.safetensors")
    tensors.write_bytes(tensors.read_bytes()[:-7])
    code, _, err = run("train", "--resume", output, "--total-tokens", 48)
    assert code == 2
    assert "training.safetensors is corrupt" in err
    (output / "settings.json").write_text('{"env": "x", "sneed": 1}')
    code, _, err = run("train", "--resume", output)
    assert code == 2
    assert "settings.json is corrupt" in err


def test_ctrl_c_saves_and_says_how_to_resume(run, tiny_dir, prompts, scorer, tmp_path):
    output = tmp_path / "run"
    arguments = train_arguments(tiny_dir, prompts, scorer, output)
    process = subprocess.Popen(
        [sys.executable, "-c", "from llm_gym.cli import main; main()"]
        + [str(argument) for argument in [*arguments, "--total-tokens", 10**7]],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    metrics = output / "metrics.jsonl"
    deadline = time.monotonic() + 120
    while not (metrics.exists() and metrics.stat().st_size) and time.monotonic() < deadline:
        assert process.poll() is None, process.communicate()[1]
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=120)
    assert process.returncode == 130
    assert f"resume with: llm-gym train --resume {output}" in err
    assert "Traceback" not in err
    from llm_gym.runs.checkpoint import latest_checkpoint, read_metadata

    done = read_metadata(latest_checkpoint(output))["num_timesteps"]
    rows = [json.loads(line) for line in metrics.read_text().splitlines()]
    assert done in {row["step"] for row in rows if "rollout/ep_len_mean" in row}
    code, _, err = run("train", "--resume", output, "--total-tokens", done + 24)
    assert code == 0, err


# ------------------------------------------------------------------ the road to a model


@pytest.fixture
def last_line_runs(run):
    """Runs a command, and then what its last line says."""

    def call(*arguments):
        code, out, err = run(*arguments)
        assert code == 0, err
        program, *words = shlex.split(out.splitlines()[-1])
        assert program == "llm-gym"
        code, answer, err = run(*words)
        assert code == 0, err
        assert answer.startswith("> ")
        return out

    return call


def write_rows(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def test_the_road_by_single_commands(last_line_runs, tmp_path):
    text = tmp_path / "text.txt"
    text.write_text("the cat sat on the mat. the dog sat on the log.\n" * 60)
    options = "vocab-size=260 context=48 width=16 layers=1 heads=2 steps=2 batch-size=2"
    shape = [f"--{option}" for option in options.split()]
    base, tuned, dpo = (tmp_path / name for name in ("base", "it's tuned", "dpo"))
    out = last_line_runs("pretrain", text, "--output", base, *shape)
    assert "held-out perplexity" in out
    # A prompt that looks like an option, and has lines.
    prompts = [f"-{i} who?\nand why?" for i in range(20)]
    pairs = write_rows(
        tmp_path / "pairs.jsonl", [{"prompt": p, "completion": "I"} for p in prompts]
    )
    out = last_line_runs("sft", pairs, "--model", base / "model", "--output", tuned)
    assert f"model:  {tuned / 'model'}" in out
    compared = write_rows(
        tmp_path / "preferences.jsonl",
        [{"prompt": p, "chosen": f"the cat {i}", "rejected": "no"} for i, p in enumerate(prompts)],
    )
    model = ["--model", tuned / "model"]
    last_line_runs("dpo", compared, *model, "--output", dpo, "--epochs", 1)
    last_line_runs("reward-model", compared, *model, "--output", tmp_path / "reward")
    rated = write_rows(
        tmp_path / "stars.jsonl",
        [{"text": f"{p} {i}", "ratings": i % 5} for i, p in enumerate(prompts)],
    )
    last_line_runs("reward-model", rated, "--ratings", *model, "--output", tmp_path / "rated")
    last_line_runs(
        "train", *model, "--scorer", "length:3", "--prompts",
        write_rows(tmp_path / "prompts.jsonl", [{"prompt": p} for p in prompts]),
        "--max-new-tokens", 4, "--num-envs", 2, "--total-tokens", 16, "--output", tmp_path / "rl",
    )  # fmt: skip
    for run in (base, tuned, dpo, tmp_path / "reward", tmp_path / "rated", tmp_path / "rl"):
        assert (run / "model" / "config.json").is_file()
        assert (run / "config.yaml").is_file()
        page = (run / "report.html").read_text()
        assert page.count("<svg") >= 1
        for heading in ("Settings", "Versions", "Machine"):
            assert f"<h2>{heading}</h2>" in page
    for run, models in (
        (tuned, ("before", "after")),
        (tmp_path / "reward", ("chosen", "rejected")),
    ):
        for model in models:
            assert f"<b>{model}</b>" in (run / "report.html").read_text()


def test_an_output_that_holds_another_model_is_left_alone(run, tmp_path):
    text = tmp_path / "text.txt"
    text.write_text("some text\n" * 400)
    output = tmp_path / "run"
    (output / "model").mkdir(parents=True)
    (output / "model" / "notes.txt").write_text("mine")
    code, _, err = run(
        "pretrain", text, "--output", output, "--vocab-size", 260, "--context", 32,
        "--width", 16, "--layers", 1, "--heads", 2, "--steps", 1, "--batch-size", 2,
    )  # fmt: skip
    assert code == 2
    assert "is not empty and holds no run of llm_gym" in err
    assert [path.name for path in output.iterdir()] == ["model"]


def test_evaluate_has_conversations_with_a_world(run, tiny_dir):
    world = ["--world", "tests.turns.worlds:Words", "--max-turn-tokens", 3, "--max-turns", 2]
    code, out, _ = run("evaluate", tiny_dir(), *world, "--context-length", 24, "--max-prompts", 2)
    assert code == 0
    assert "turns" in out.splitlines()[0] + out.splitlines()[1]
    code, _, err = run("evaluate", tiny_dir(), *world, "--scorer", "length:3")
    assert code
    assert "scorer='length:3' is of prompts" in err
