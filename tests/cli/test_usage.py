"""Command lines that name what there is not, or what would do nothing: one sentence each."""

from __future__ import annotations

import pytest
import typer

from llm_gym.cli import main
from llm_gym.cli.app import app
from llm_gym.cli.failures import usage_of


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("train --seed two", ("--seed", "two", "integer")),
        ("train --seed=1.5", ("--seed", "1.5", "integer")),
        ("train --learning-rate fast", ("--learning-rate", "fast", "number")),
        ("chat --port 99999", ("--port", "99999", "65535")),
        ("chat --port -1", ("--port", "-1")),
        ("label votes.db --max-prompts 0", ("--max-prompts", "0", "1")),
        ("train --learnin-rate 3", ("--learnin-rate", "--learning-rate", "`llm-gym train -h`")),
        ("train --seed", ("--seed",)),
        ("train extra", ("extra", "`llm-gym train -h`")),
        ("evaluate", ("models", "`llm-gym evaluate -h`")),
        ("merge x", ("--output", "`llm-gym merge -h`")),
        ("tran", ("'tran'", "`llm-gym -h`")),
        ("--sed 1", ("--sed", "`llm-gym -h`")),
        ("--debug tran", ("'tran'",)),  # a traceback of a misspelt word helps nobody
        # What would be ignored
        ("chat --port 3", ("--port 3", "--page")),
        ("chat --no-browser", ("--no-browser", "--page")),
        ("label votes.db --terminal --port 3", ("--port 3", "--terminal")),
        ("label votes.db --terminal --host 0.0.0.0", ("--host 0.0.0.0", "--terminal")),
        ("rlhf --port 3", ("--port 3", "--host")),
        ("rlhf --raters people --host 203.0.113.1", ("203.0.113.1",)),  # not after minutes
        ("rlhf --documents 5 --text p.txt", ("documents=5", "text='p.txt'")),
        ("rlhf --generated-pairs 5 --pairs p.jsonl", ("generated_pairs=5", "pairs='p.jsonl'")),
        ("rlhf --prompt-column zz", ("prompt_column='zz'", "--prompts")),
        ("compare votes.db --rater-noise 2", ("rater_noise=2", "--raters simulated")),
        ("compare votes.db --simulated-raters 4", ("simulated_raters=4", "--raters simulated")),
        ("rlhf --raters people --length-bias 1", ("length_bias=1", "--raters simulated")),
        (
            "train --env llm_gym/PoliteEmail-v0 --kl-horizon 9",
            ("kl_horizon=9", "leave it out"),
        ),
    ],
)
def test_what_there_is_not_is_one_sentence(run, line, words, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    code, out, err = run(*line.split())
    assert (code, out) == (2, "")
    assert err.startswith("llm-gym: error: ")
    assert err.count("\n") == 1
    assert all(word in err for word in words)
    assert not err.rstrip().endswith("one of")


def test_only_what_typer_raises_for_a_command_line_is_wrong_usage():
    assert usage_of(ValueError("wrong")) is None
    assert str(usage_of(typer.BadParameter("must be 3", param_hint="--n"))).endswith("must be 3")


def test_an_interrupt_and_an_end_of_input_keep_their_codes(run, monkeypatch):
    command = app.registered_commands[0]

    def tour(end: bool = False):
        raise EOFError if end else KeyboardInterrupt

    monkeypatch.setattr(command, "callback", tour)
    assert run("tour")[0] == 130
    code, _, err = run("tour", "--end")
    assert (code, err) == (2, "\nllm-gym: error: the input has ended before it was answered\n")


def test_no_command_at_all_is_the_help(capsys):
    with pytest.raises(SystemExit) as exit_:
        main([])
    assert exit_.value.code == 2
    assert "Usage: llm-gym" in capsys.readouterr().out


def test_figures_are_not_written_over_a_directory(run, tmp_path):
    code, _, err = run("evaluate", "no-such-model", "--json", tmp_path)
    assert (code, err) == (2, f"llm-gym: error: {tmp_path} is a directory; name a file in it\n")
