from __future__ import annotations

import io
import re

import pytest
from rich.console import Console

from llm_gym.cli import main
from llm_gym.cli.chat import answer, side_by_side


class Says:
    """Stands for a model: writes what it is told to."""

    def __init__(self, name, *texts):
        self.name, self.texts, self.asked, self.closed = name, texts, [], False

    def answer(self, prompt):
        self.asked.append(prompt)
        try:
            yield from self.texts
        finally:
            self.closed = True


def shown(talks, texts, width):
    console = Console(width=width, file=io.StringIO(), color_system=None)
    console.print(side_by_side(talks, texts, width))
    return console.file.getvalue()


@pytest.fixture
def run(capsys, monkeypatch):
    def call(typed, *arguments):
        monkeypatch.setattr("sys.stdin", io.StringIO(typed))
        code = 0
        try:
            main(["chat", *map(str, arguments)])
        except SystemExit as end:
            code = end.code or 0
        out, err = capsys.readouterr()
        return code, out, err

    return call


def test_two_models_answer_side_by_side():
    talks = [Says("runs/a"), Says("runs/b")]
    wide = shown(talks, ["first words", "other words"], 80)
    [line] = [line for line in wide.splitlines() if "first words" in line]
    assert "other words" in line
    assert "runs/a" in wide.splitlines()[0]
    assert "runs/b" in wide.splitlines()[0]
    narrow = shown(talks, ["first words", "other words"], 60)
    [line] = [line for line in narrow.splitlines() if "first words" in line]
    assert "other words" not in line
    assert narrow.index("first words") < narrow.index("runs/b") < narrow.index("other words")
    assert max(map(len, narrow.splitlines())) <= 60


def test_what_models_write_is_shown_and_not_obeyed():
    talks = [Says("\x1b]0;evil\x07"), Says("[bold]b")]
    text = shown(talks, ["\x1b[31m[red]x[/red]", "\u202eabc"], 100)
    assert "\x1b" not in text
    assert "\u202e" not in text
    for literal in (r"\x1b[31m[red]x[/red]", r"\u202eabc", "[bold]b", r"\x1b]0;evil\x07"):
        assert literal in text
    assert "[red]x[/red]" in shown(talks[:1], ["[red]x[/red]"], 40)


def test_of_a_long_path_the_end_is_shown_and_twins_are_numbered():
    long = "/very" * 30 + "/the-end"
    text = shown([Says(long), Says(long)], ["a", "b"], 80)
    assert text.splitlines()[0].count("the-end") == 2
    text = shown([Says("m"), Says("m")], ["a", "b"], 80)
    assert "1. m" in text
    assert "2. m" in text


def test_ctrl_c_stops_the_answer_and_keeps_its_half():
    def interrupted():
        yield "half"
        raise KeyboardInterrupt

    console = Console(width=80, file=io.StringIO())
    one, other = Says("a", "1", "1 2", "1 2 3"), Says("b")
    other.answer = lambda prompt: interrupted()
    answer(console, [one, other], "hi")
    assert "half" in console.file.getvalue()
    assert one.closed


def test_a_long_answer_does_not_run_over_the_terminal():
    console = Console(width=40, height=8, file=io.StringIO(), force_terminal=True)
    lines = [f"line {number}" for number in range(30)]
    answer(console, [Says("a", *("\n".join(lines[:n]) for n in range(1, 31)))], "hi")
    written = console.file.getvalue()
    frames = re.findall(r"(?:\x1b\[1A\x1b\[2K)+", written)  # what is taken back is on the screen
    assert 3 < max(frame.count("[1A") for frame in frames) < 8
    assert written.endswith("\n".join(lines) + "\n")


def test_a_conversation_is_typed(tiny_dir, run):
    code, out, err = run(
        "w1 w2\n\n/what\n/reset\nw1 w2\n/quit\nw3\n",
        *("--model", tiny_dir("gpt2"), "--model", tiny_dir("llama"), "--max-new-tokens", 5),
    )
    assert (code, err) == (0, "")
    assert out.count(tiny_dir("gpt2")[-10:]) == 3  # the beginning, and two answers
    assert "there is no /what" in out
    assert "forgotten" in out
    assert "w3" not in out.rpartition("> w1 w2")[2].replace("w3 ", "")
    before, _, after = out.partition("forgotten")
    assert (
        before.partition("> w1 w2")[2].partition("> ")[0]
        == after.partition("> w1 w2")[2].partition("> ")[0]
    )


def test_the_end_of_the_input_ends_and_a_prompt_that_is_too_long_does_not(tiny_dir, run):
    code, out, _ = run(f"{'w1 ' * 80}\nw2\n", "--model", tiny_dir("gpt2"), "--max-new-tokens", 3)
    assert code == 0
    assert "at most 64, the answer included" in " ".join(out.split())
    assert out.rstrip().endswith(">")


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--model", "/nowhere/at/all"], "there is no directory '/nowhere/at/all'"),
        (["--temperature", "0"], "temperature=0.0 must be"),
        (["--dtype", "int4"], "dtype='int4' must be"),
        (["--device", "abacus"], "device='abacus'"),
    ],
)
def test_mistakes_are_one_sentence(run, arguments, sentence):
    code, _, err = run("", *arguments)
    assert code == 2
    assert sentence in err
    assert err.count("\n") == 1
