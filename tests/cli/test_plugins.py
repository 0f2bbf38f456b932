"""Commands that other packages add to `llm-gym`."""

from __future__ import annotations

import subprocess
import sys
from importlib.metadata import EntryPoint

import pytest

from llm_gym.cli import main, plugins

GOOD = '''
from typing import Annotated
import typer

def greet(
    name: Annotated[str, typer.Argument(help="Whom.")],
    times: Annotated[int, typer.Option(help="How often.")] = 1,
) -> None:
    """Say hello to somebody."""
    print(("hello " + name + "\\n") * times, end="")

def fail() -> None:
    """Fail as commands do."""
    raise ValueError("times=0 must be at least 1")

def unreadable(value: "NoSuchType") -> None:
    """Its annotation means nothing."""

not_a_function = 7
'''


@pytest.fixture
def modules(tmp_path, monkeypatch):
    (tmp_path / "good_commands_of_tests.py").write_text(GOOD)
    (tmp_path / "broken_commands_of_tests.py").write_text("raise RuntimeError('no\\nwings')")
    monkeypatch.syspath_prepend(str(tmp_path))
    yield
    for name in ("good_commands_of_tests", "broken_commands_of_tests"):
        sys.modules.pop(name, None)


@pytest.fixture
def run(capsys, modules, monkeypatch):
    """Runs a command line with these plug-ins; gives exit code, standard output and error."""

    def call(offers: list[tuple[str, str]], *arguments: str):
        points = [EntryPoint(name, value, plugins.COMMAND_GROUP) for name, value in offers]
        monkeypatch.setattr(
            plugins, "entry_points", lambda group: points if group == "llm_gym.commands" else []
        )
        code = 0
        try:
            main(list(arguments))
        except SystemExit as end:
            code = end.code or 0
        return (code, *capsys.readouterr())

    return call


GREET = [("greet", "good_commands_of_tests:greet")]


def test_a_plugins_command_runs_with_its_options(run):
    assert run(GREET, "greet", "Ada", "--times", "2") == (0, "hello Ada\nhello Ada\n", "")


def test_a_plugins_command_is_listed_and_has_help(run):
    code, out, err = run(GREET, "--help")
    assert (code, err) == (0, "")
    [line] = [line for line in out.splitlines() if " greet " in line]
    assert "Say hello to somebody." in line
    code, out, _ = run(GREET, "greet", "-h")
    assert code == 0
    assert "Usage: llm-gym greet" in out
    assert "How often." in out


def test_a_plugins_error_is_one_line_and_code_2(run):
    code, out, err = run([("fail", "good_commands_of_tests:fail")], "fail")
    assert (code, out) == (2, "")
    assert err == "llm-gym: error: times=0 must be at least 1\n"


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        ("broken_commands_of_tests:f", "RuntimeError: no wings"),
        ("missing_commands_of_tests:f", "ModuleNotFoundError"),
        ("good_commands_of_tests:no_such", "AttributeError"),
        ("good_commands_of_tests:not_a_function", "must be a function, not int"),
        ("good_commands_of_tests:unreadable", "NoSuchType"),
    ],
)
def test_a_broken_plugin_costs_a_line_and_only_its_own_command(run, value, reason):
    offers = [("bad", value), *GREET]
    code, out, err = run(offers, "--help")
    assert code == 0
    assert " greet " in out
    assert " train " in out
    assert " bad " not in out
    assert err.startswith(f"llm-gym: warning: the plug-in command 'bad' ({value}) is left out: ")
    assert reason in err
    assert err.count("\n") == 1

    assert run(offers, "greet", "Ada") == (0, "hello Ada\n", "")

    code, out, err = run(offers, "bad")
    assert (code, out) == (2, "")
    assert err.startswith(f"llm-gym: error: the plug-in command 'bad' ({value}) does not load: ")
    assert reason in err
    assert err.count("\n") == 1


def test_plugins_are_not_imported_for_our_own_commands(run):
    code, _, err = run([("bad", "broken_commands_of_tests:f")], "envs")
    assert (code, err) == (0, "")


def test_our_own_command_cannot_be_replaced(run):
    offers = [("envs", "good_commands_of_tests:greet")]
    code, out, err = run(offers, "envs")
    assert code == 0
    assert "llm_gym/TextGeneration-v0" in out
    code, out, err = run(offers, "--help")
    assert "Say hello" not in out
    assert "List the environments" in out
    assert "llm-gym has its own command of that name" in err
    assert err.count("\n") == 1


def test_the_first_of_two_plugins_keeps_a_name(run):
    offers = [("greet", "good_commands_of_tests:greet"), ("greet", "good_commands_of_tests:fail")]
    assert run(offers, "greet", "Ada") == (0, "hello Ada\n", "")
    _, out, err = run(offers, "--help")
    assert "Say hello to somebody." in out
    assert "'greet' (good_commands_of_tests:fail) is left out" in err
    assert "good_commands_of_tests:greet has the name" in err
    assert err.count("\n") == 1


def test_a_shell_completes_plugins_commands_and_hears_no_warnings(run, monkeypatch):
    monkeypatch.setenv("_LLM_GYM_COMPLETE", "complete_bash")
    offers = [("bad", "broken_commands_of_tests:f"), *GREET]
    for typed, position, expected in (
        ("llm-gym gre", "1", "greet"),
        ("llm-gym greet --t", "2", "--times"),
    ):
        monkeypatch.setenv("COMP_WORDS", typed)
        monkeypatch.setenv("COMP_CWORD", position)
        _, out, err = run(offers)
        assert out.split() == [expected]
        assert err == ""


def test_fly_without_its_package_says_what_to_install(run):
    code, out, err = run([], "fly", "--agent", "pid")
    assert (code, out) == (2, "")
    assert err.startswith("llm-gym: error: there is no command 'fly' here")
    assert "pip install llm-gym-autopilot" in err
    assert "envs/autopilot" in err
    assert err.count("\n") == 1


def test_an_unknown_command_is_wrong_usage(run):
    code, _, err = run(GREET, "greeet")
    assert code == 2
    assert "No such command 'greeet'" in err


def test_help_imports_nothing_heavy():
    code = (
        "import sys; from llm_gym.cli import main\n"
        "try: main(['--help'])\n"
        "except SystemExit: pass\n"
        "heavy = {'torch', 'transformers', 'stable_baselines3', 'jsbsim', 'pygame', 'imageio'}\n"
        "print(sorted(heavy & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.rstrip().endswith("[]")
