"""Commands that train: what they write, how a run goes on, and the road from a text to a model."""

from __future__ import annotations

import json
import os
import shlex
import signal
import subprocess
import sys
import time

import pytest


def train_arguments(tiny_dir, prompts, scorer, output):
    return [
        "train", "--env", "llm_gym/TextGeneration-v0", "--model", tiny_dir(),
        "--prompts", prompts, "--scorer", f"{scorer}:w1", "--max-new-tokens", 6,
        "--num-envs", 4, "--batch-size", 12, "--device", "cpu", "--output", output,
    ]  # fmt: skip


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
