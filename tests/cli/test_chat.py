from __future__ import annotations

import io
import re
from collections import namedtuple
from itertools import accumulate

import pytest
from rich.console import Console

from llm_gym.cli import main
from llm_gym.cli.chat import answer, side_by_side
from llm_gym.cli.chat_colours import Painter
from llm_gym.files.untrusted import as_rich
from llm_gym.stages.chat import Answer, WrittenToken


class Says:
    """Stands for a model: writes what it is told to."""

    has_critic = False

    def __init__(self, name, *texts):
        self.name, self.texts, self.asked, self.closed = name, texts, [], False

    def write(self, prompt):
        self.asked.append(prompt)
        try:
            for text in self.texts:
                yield said(text)
        finally:
            self.closed = True


def said(text, *tokens):
    """An answer whose tokens have the texts and numbers that are given in pairs."""
    texts = tuple(part for part, _ in tokens)
    return Answer(text, tuple(t for _, t in tokens), texts, tuple(accumulate(texts)))


def token(prob, value=None):
    return WrittenToken(7, prob, 1.5, value, ((7, prob),))


def shown(talks, texts, width):
    console = Console(width=width, file=io.StringIO(), color_system=None)
    console.print(side_by_side(talks, [as_rich(text) for text in texts], width))
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
        yield said("half")
        raise KeyboardInterrupt

    console = Console(width=80, file=io.StringIO())
    one, other = Says("a", "1", "1 2", "1 2 3"), Says("b")
    other.write = lambda prompt: interrupted()
    answer(console, [one, other], "hi", Painter())
    assert "half" in console.file.getvalue()
    assert one.closed


def test_a_long_answer_does_not_run_over_the_terminal():
    console = Console(width=40, height=8, file=io.StringIO(), force_terminal=True)
    lines = [f"line {number}" for number in range(30)]
    answer(console, [Says("a", *("\n".join(lines[:n]) for n in range(1, 31)))], "hi", Painter())
    written = console.file.getvalue()
    frames = re.findall(r"(?:\x1b\[1A\x1b\[2K)+", written)  # what is taken back is on the screen
    assert 3 < max(frame.count("[1A") for frame in frames) < 8
    assert written.endswith("\n".join(lines) + "\n")


# ------------------------------------------------------------------ colours


class Length:
    """A scorer: characters so far."""

    highest = None

    def score(self, prompts, completions):
        assert len(prompts) == len(completions)
        return namedtuple("Scores", "values")([float(len(text)) for text in completions])


def spans(text):
    return [(text.plain[span.start : span.end], str(span.style)) for span in text.spans]


def background(style):
    return [int(x) for x in re.search(r"rgb\((.*)\)", style)[1].split(",")]


def test_improbable_tokens_are_dark():
    painter = Painter()
    painter.choose("probability", [Says("a")])
    tokens = [("a", token(1.0)), ("b\n", token(0.0)), ("c", token(0.5))]
    [text] = painter.growing([said("ab\nc", *tokens)])
    assert text.plain == "ab\nc"
    (_, sure), (_, unsure), (_, between) = spans(text)
    assert background(sure) > background(between) > background(unsure)
    assert sure.startswith("#14161a")  # dark ink on pale, pale ink on dark
    assert unsure.startswith("#ffffff")


def test_two_answers_share_a_scale_and_a_model_without_a_critic_has_no_colour():
    talks = [Says("a"), Says("b"), Says("c")]
    talks[0].has_critic = True
    painter = Painter()
    painter.choose("value", talks)
    answers = [
        said("x", ("x", token(1.0, value=0.0))),
        said("y", ("y", token(1.0, value=10.0))),
        said("z", ("z", token(1.0))),
    ]
    low, high, none = painter.growing(answers)
    assert background(spans(low)[0][1]) > background(spans(high)[0][1])
    assert spans(none) == []


def test_scores_are_those_of_the_beginnings():
    painter = Painter(Length())
    painter.choose("score", [Says("a")])
    [text] = painter.finished("p", [said("abc", ("a", token(1.0)), ("bc", token(1.0)))])
    assert text.plain == "abc\n\nscore 3"
    (_, first), (_, second), _ = spans(text)
    assert background(first) > background(second)
    assert spans(painter.growing([said("a", ("a", token(1.0)))])[0]) == []


@pytest.mark.parametrize(
    ("name", "message"),
    [("red", "colour must be one of"), ("score", "--scorer NAME"), ("value", "needs a critic")],
)
def test_a_colour_that_cannot_be_says_why(name, message):
    with pytest.raises(ValueError, match=message):
        Painter().choose(name, [Says("a")])


def test_coloured_text_is_not_obeyed_either():
    painter = Painter()
    painter.choose("entropy", [Says("a")])
    [text] = painter.growing([said("", ("\x1b[31m[red]\u202e", token(0.1)))])
    assert text.plain == r"\x1b[31m[red]\u202e"


def test_models_are_named_one_after_the_other(tiny_dir, run):
    code, out, err = run(
        "/colour probability\n/colour value\nw1\n",
        *(tiny_dir("gpt2"), tiny_dir("llama"), "--max-new-tokens", 3, "--scorer", "length:2"),
    )
    assert (code, err) == (0, "")
    assert "how probable each token was: the darker, the less" in out
    assert "needs a critic" in out
    assert out.count("score ") == 2
    code, _, err = run("", tiny_dir("gpt2"), "--colour", "score")
    assert code == 2
    assert "--scorer NAME" in err


def test_a_page_is_served_on_this_machine_only(tiny_dir, run, monkeypatch):
    import llm_gym.feedback.labelling.server as server

    served = []
    monkeypatch.setattr(
        server, "serve", lambda app, listener: served.append(listener.getsockname())
    )
    code, out, err = run("", tiny_dir("gpt2"), tiny_dir("llama"), "--page", "--no-browser")
    assert (code, err) == (0, "")
    assert re.match(r"side by side: http://127\.0\.0\.1:\d+/  \(Ctrl-C stops", out)
    assert [address for address, _ in served] == ["127.0.0.1"]


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
