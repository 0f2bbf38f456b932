"""What `--help` shows on a terminal of 80 columns."""

from __future__ import annotations

import re

import pytest
import typer

from llm_gym.cli.app import app
from llm_gym.cli.panels import panel_of

GROUP = typer.main.get_command(app)
COMMANDS = GROUP.list_commands(typer.Context(GROUP))


@pytest.fixture
def help_of(capsys, monkeypatch):
    from llm_gym.cli import main

    monkeypatch.setenv("COLUMNS", "80")

    def call(command):
        with pytest.raises(SystemExit):
            main([command, "--help"])
        return capsys.readouterr().out

    return call


def parameters_of(command):
    return GROUP.get_command(typer.Context(GROUP), command).params


@pytest.mark.parametrize("command", COMMANDS)
def test_names_of_options_are_whole_at_80_columns(command, help_of):
    shown = help_of(command)
    assert max(map(len, shown.splitlines())) <= 80
    for parameter in parameters_of(command):
        if parameter.param_type_name == "option":
            for name in parameter.opts:
                assert re.search(rf"{re.escape(name)}(?![\w-])", shown), name
    assert "\u2026" not in shown  # nothing else is cut either


@pytest.mark.parametrize("command", COMMANDS)
def test_every_help_is_a_sentence(command):
    for parameter in parameters_of(command):
        if parameter.param_type_name == "argument":
            continue  # whose help older versions of typer keep elsewhere
        text = parameter.help
        assert text, parameter.name
        assert text.endswith("."), text
        first = text.split()[0].strip(",:()")
        # The name of a value would have lost its spelling, and "Of what?" is no description.
        assert first not in ("Of", "Cpu", "No", "Terminate", "Auto", "None", "Ppo", "K1"), text
        assert "_" not in first, text


def test_the_options_of_a_run_are_in_groups(help_of):
    shown = help_of("train")
    for panel in ("Options", "The task", "The model", "Prompts and answers", "Learning", "The run"):
        assert f"\u2500 {panel} \u2500" in shown
    groups = {panel_of(parameter.name) for parameter in parameters_of("train")}
    assert len(groups) > 5


def test_a_switch_is_named_once_and_can_still_be_turned_off(help_of):
    shown = help_of("train")
    assert "--anneal-learning-rate" in shown
    assert "--no-anneal-learning-rate" not in shown
    assert "Or --no-reward-scaling." in " ".join(shown.replace("\u2502", " ").split())
    [switch] = [p for p in parameters_of("train") if p.name == "anneal_learning_rate"]
    assert switch.secondary_opts == ["--no-anneal-learning-rate"]
