"""What all commands have: help, a version, mistakes that are one line."""

from __future__ import annotations

import subprocess
import sys

import pytest

from llm_gym.cli import main

COMMANDS = (
    "demo", "train", "evaluate", "generate", "score", "envs", "pretrain", "sft", "compare", "label",
    "reward-model", "dpo", "rlhf", "chat", "fetch", "merge",
)  # fmt: skip


def said_and_heavy(argument: str) -> list[str]:
    """The lines of a command in a process of its own, and which heavy libraries it imported."""
    code = (
        "import sys; from llm_gym.cli import main\n"
        f"try: main([{argument!r}])\n"
        "except SystemExit: pass\n"
        "print(sorted({'torch', 'transformers', 'stable_baselines3'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return done.stdout.splitlines()


def test_help_lists_every_command_and_imports_nothing_heavy():
    *lines, heavy = said_and_heavy("--help")
    assert heavy == "[]"
    for command in COMMANDS:
        assert f" {command} " in "\n".join(lines)


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help(command, run):
    code, out, _ = run(command, "--help")
    assert code == 0
    assert "Usage: llm-gym" in out


def test_entry_point_is_installed():
    from importlib.metadata import entry_points

    [entry_point] = entry_points(group="console_scripts", name="llm-gym")
    assert entry_point.load() is main


def test_the_module_is_the_command():
    done = subprocess.run(
        [sys.executable, "-m", "llm_gym", "--version"], capture_output=True, text=True, check=True
    )
    assert "llm-gym 0." in done.stdout


def test_version_says_what_runs(run):
    code, out, _ = run("--version")
    assert code == 0
    assert "llm-gym 0." in out
    assert "torch " in out


def test_envs_lists_ours_with_a_line_each_and_imports_nothing_heavy():
    *lines, heavy = said_and_heavy("envs")
    assert heavy == "[]"
    shown = dict(line.split(maxsplit=1) for line in lines)
    assert "judged for politeness" in shown["llm_gym/PoliteEmail-v0"]
    assert "truthfully" in shown["llm_gym/AreYouSure-v0"]
    assert "best possible policy" in shown["llm_gym/KnownOptimum-v0"]
    assert shown["llm_gym/TextGeneration-v0"] == "Text generation, one token an action."


# ------------------------------------------------------------------ mistakes


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


def test_a_bad_byte_in_an_argument_is_named(run, tiny_dir):
    code, _, err = run("generate", "w1", "w2 \udce4", "--model", tiny_dir())
    assert (code, "argument 3 (w2 \\udce4) is not text in utf-8" in err) == (2, True)


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
