"""`--config FILE`: what it may say, and that every run leaves one that repeats it."""

from __future__ import annotations

import inspect
import json
from typing import Annotated

import pytest
import typer
import yaml

from llm_gym.cli import main
from llm_gym.cli.app import app
from llm_gym.cli.command import configurable, is_given, kind_of
from llm_gym.cli.config_file import config_of, leaving_config

GROUP = typer.main.get_command(app)
COMMANDS = tuple(GROUP.commands)
FUNCTIONS = {
    command.callback.__name__.replace("_", "-"): command.callback
    for command in app.registered_commands
}


def parsed(command, *arguments):
    """The invocation that a command line makes, without running it."""
    return GROUP.commands[command].make_context(command, [str(a) for a in arguments])


@pytest.fixture
def written(tmp_path):
    def write(text, name="run.yaml"):
        path = tmp_path / name
        path.write_text(text, encoding="utf-8")
        return path

    return write


def needed_arguments(command):
    line = []
    for parameter in GROUP.commands[command].params:
        if parameter.required:
            option = [] if parameter.param_type_name == "argument" else [parameter.opts[0]]
            line += [*option, "here.jsonl"]
    return line


def other_values(command):
    """A command line that gives every option another value than its default."""
    line = []
    for parameter in GROUP.commands[command].params:
        if parameter.param_type_name == "argument" or parameter.name in ("config", "help"):
            continue
        name = max(parameter.opts, key=len)
        kind = kind_of(inspect.signature(FUNCTIONS[command]).parameters[parameter.name].annotation)
        if kind is bool:
            line += [parameter.secondary_opts[0] if parameter.default else name]
        else:  # YAML takes no for false, if it is not in quotes
            line += [name, {int: "7", float: "0.375"}.get(kind, "no")]
    return line


@pytest.mark.parametrize("command", COMMANDS)
def test_the_file_that_a_run_leaves_means_the_same_run(command, tmp_path):
    given = parsed(command, *needed_arguments(command), *other_values(command))
    with leaving_config(given, tmp_path):
        pass
    again = parsed(command, "--config", tmp_path / "config.yaml")
    for name in given.params:
        if name != "config":
            assert again.params[name] == given.params[name], name
    assert config_of(again) == config_of(given)


@pytest.mark.parametrize("command", COMMANDS)
def test_an_empty_file_changes_nothing(command, written):
    arguments = needed_arguments(command)
    plain = parsed(command, *arguments)
    assert config_of(parsed(command, *arguments, "--config", written(""))) == config_of(plain)


def test_keys_are_spelt_as_options_or_as_settings(written):
    path = written(
        "batch-size: 5\nlearning_rate: 1e-3\nkl-target: null\nanneal-learning-rate: true\n"
    )
    values = parsed("train", "--config", path).params
    assert (values["batch_size"], values["learning_rate"]) == (5, 1e-3)
    assert values["kl_target"] is None
    assert values["anneal_learning_rate"] is True


def test_json_is_as_good(written):
    path = written(json.dumps({"seed": 3, "prompts": "p.txt"}), "run.json")
    values = parsed("train", "--config", path).params
    assert (values["seed"], values["prompts"]) == (3, "p.txt")


def test_the_command_line_wins(written):
    path = written("seed: 3\nanneal-learning-rate: true\nn_epochs: 2\n")
    values = parsed("train", "--seed", 0, "--config", path, "--no-anneal-learning-rate").params
    assert values["seed"] == 0  # though it is the default
    assert values["anneal_learning_rate"] is False
    assert values["n_epochs"] == 2


def test_what_the_file_says_is_given_like_what_the_command_line_says(written):
    """Also where it is the default: `--quick` and `--resume` ask for what was named."""
    invocation = parsed("train", "--seed", 0, "--config", written("n_epochs: 4\nkl-target: null\n"))
    given = {name for name in invocation.params if is_given(invocation, name)}
    assert given == {"seed", "n_epochs", "config"}


def test_each_number_of_a_list_is_held_against_its_range():
    seen = []

    def tune(batch_size: Annotated[list[int] | None, typer.Option()] = None) -> None:
        seen.append(batch_size)

    command = configurable(tune)
    for fine in (None, [], [4], (4, 2)):
        command(batch_size=fine)
        assert seen[-1] is fine
    with pytest.raises(ValueError, match="batch_size=0"):
        command(batch_size=[4, 0])
    assert len(seen) == 4


def test_arguments_are_in_the_file_too(written):
    values = parsed("sft", "--config", written("pairs: mine.jsonl\n")).params
    assert str(values["pairs"]) == "mine.jsonl"
    values = parsed("evaluate", "--config", written("models: [a, b]\n")).params
    assert list(values["models"]) == ["a", "b"]
    values = parsed("evaluate", "c", "--config", written("models: [a, b]\n")).params
    assert list(values["models"]) == ["c"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("batchsize: 5", "`train` has no option 'batchsize'; did you mean 'batch_size'?"),
        ("zzz: 5", "`train` has no option 'zzz'; it has "),
        ("config: other.yaml", "`train` has no option 'config'"),
        ("seed: 1.5", "seed must be a whole number, got 1.5"),
        ("seed: .inf", "seed must be a whole number, got inf"),
        ("seed: true", "seed must be a whole number, got True"),
        ("seed: [1]", "seed must be a whole number, got [1]"),
        ("gamma: much", "gamma must be a number, got 'much'"),
        ("mixed_precision: no", "mixed_precision must be a text, and YAML reads yes and no"),
        ("anneal_learning_rate: 1", "anneal_learning_rate must be true or false, got 1"),
        ("prompts: {a: 1}", "prompts must be a text"),
        ("seed: 1\nseed: 2", "the key 'seed' is there twice"),
        ("n-epochs: 1\nn_epochs: 2", "'n_epochs' is there twice"),
        ("- seed", "must say NAME: VALUE on each line"),
        ("seed: [", "is no YAML"),
        ("seed: !!python/object/apply:os.getcwd []", "is no YAML"),
    ],
)
def test_a_mistake_in_the_file_is_one_clear_line(text, message, written, capsys):
    path = written(text)
    with pytest.raises(SystemExit) as end:
        main(["train", "--config", str(path)])
    err = capsys.readouterr().err
    assert end.value.code == 2
    assert err.startswith(f"llm-gym: error: {path}")
    assert message in err
    assert err.count("\n") == 1


def test_a_list_is_a_list(written, capsys):
    with pytest.raises(SystemExit):
        main(["evaluate", "--config", str(written("models: gpt2"))])
    assert "models must be a list, [gpt2], got 'gpt2'" in capsys.readouterr().err


def test_a_file_that_is_not_there_is_named(capsys):
    with pytest.raises(SystemExit):
        main(["train", "--config", "no.yaml"])
    assert "--config no.yaml: there is no such file" in capsys.readouterr().err


def test_a_file_of_somebody_else_is_left_alone(written, tmp_path):
    path = written("theirs: 1\n", "config.yaml")
    with (
        pytest.raises(ValueError, match="is not of this program and stays"),
        leaving_config(parsed("train"), tmp_path),
    ):
        raise AssertionError("said too late")
    assert path.read_text() == "theirs: 1\n"


def test_a_run_that_fails_leaves_no_file(tmp_path):
    with pytest.raises(KeyError), leaving_config(parsed("train"), tmp_path / "out"):
        raise KeyError
    assert not (tmp_path / "out").exists()


def test_a_run_leaves_the_file_and_is_repeated_by_it(tmp_path):
    from safetensors.torch import load_file

    text = tmp_path / "text.txt"
    text.write_text("the cat sat on the mat. the dog sat on the log.\n" * 60)
    options = "vocab-size=260 context=32 width=16 layers=1 heads=2 steps=2 batch-size=2 seed=5"
    shape = [f"--{option}" for option in options.split()]

    def call(*arguments):
        with pytest.raises(SystemExit) as end:
            main([str(argument) for argument in arguments])
        assert not end.value.code

    call("pretrain", text, "--output", tmp_path / "one", *shape)
    assert yaml.safe_load((tmp_path / "one" / "config.yaml").read_text())["seed"] == 5
    call("pretrain", "--config", tmp_path / "one" / "config.yaml", "--output", tmp_path / "two")
    first, second = ([*(tmp_path / name).rglob("model.safetensors")] for name in ("one", "two"))
    one, two = load_file(first[0]), load_file(second[0])
    assert all((one[name] == two[name]).all() for name in one)


def test_rlhf_writes_what_quick_meant(tmp_path):
    from llm_gym.stages.rlhf import RLHFConfig

    quick = RLHFConfig.quick()
    with leaving_config(
        parsed("rlhf", "--quick"), tmp_path, {**vars(quick), "quick": False, "for_class": False}
    ):
        pass
    values = parsed("rlhf", "--config", tmp_path / "config.yaml").params
    assert values["quick"] is False
    assert {name: values[name] for name in vars(quick)} == vars(quick)
