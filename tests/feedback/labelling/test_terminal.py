from __future__ import annotations

import io
import os
import sys

import pytest
from rich.console import Console

from llm_gym.feedback.labelling.keys import Keys
from llm_gym.feedback.labelling.questions import Question, Summary
from llm_gym.feedback.labelling.store_desk import StoreDesk
from llm_gym.feedback.labelling.terminal import ask, label_in_terminal
from llm_gym.feedback.preferences.records import Comparison
from llm_gym.feedback.preferences.store import PreferenceStore
from tests.feedback.labelling.conftest import fill
from tests.feedback.labelling.pseudo_terminal import Terminal, pty

SUMMARY = Summary("Ada", 36, 200, 720.0, None, ("a note",))


def label(store, typed, **options):
    """Labels with keys from a pipe, and returns what was printed."""
    screen = io.StringIO()
    with Keys(io.StringIO(typed)) as keys:
        label_in_terminal(
            StoreDesk(store, **options), "Ada", console=Console(file=screen, width=100), keys=keys
        )
    return screen.getvalue()


def ask_about(question, typed, width=100):
    screen = io.StringIO()
    with Keys(io.StringIO(typed)) as keys:
        console = Console(file=screen, width=width)
        verdict = ask(question, console=console, keys=keys, summary=SUMMARY)
    return verdict, screen.getvalue()


# ------------------------------------------------------------------ labelling


def test_keys_become_votes(store):
    fill(store)
    text = label(store, "1\n2\nt\ns\nq\n")
    choices = [vote.choice.value for vote in store.votes()]
    assert set(choices[:2]) <= {"first", "second"}
    assert choices[2:] == ["tie", "skip"]
    assert "0 of 5 (Ada)" in text
    assert "Prompt 4" in text


def test_the_chosen_answer_is_the_one_that_stood_there(store):
    fill(store, 4)
    for verdict in ("1", "2", "1", "2"):
        text = label(store, f"{verdict}\nq\n")
        vote = list(store.votes())[-1]
        answers = store.comparison(vote.comparison_id).answers
        is_second = vote.choice.value == "second"
        chosen, other = answers[is_second], answers[not is_second]
        assert (text.index(chosen) < text.index(other)) == (verdict == "1")


def test_undo_and_resume(store):
    fill(store)
    label(store, "t\nu\ns\nq\n")
    assert [vote.choice.value for vote in store.votes()] == ["skip"]
    assert [vote.choice.value for vote in store.votes(undone=True)] == ["tie"]
    assert label(store, "q\n").lstrip().startswith("1 of 5")


def test_undo_with_nothing_to_undo_asks_again(store):
    fill(store)
    text = label(store, "u\nq\n")
    assert text.count("Prompt 0") == 2


def test_the_end_offers_undo_and_ends(store):
    fill(store, 2)
    text = label(store, "t\nt\nx\n")
    assert "That was all" in text
    assert "2 votes so far" in text or "judgements" in text
    label(store, "u\nq\n")
    assert len(list(store.votes())) == 1


def test_the_end_of_the_input_ends_it(store):
    fill(store)
    label(store, "t\n")
    assert len(list(store.votes())) == 1
    label(store, "")


def test_a_store_that_cannot_be_written_keeps_the_vote(store, monkeypatch):
    fill(store)
    failures = [OSError("no room left"), OSError("no room left")]
    vote = store.vote

    def sometimes(*arguments, **options):
        if failures:
            raise failures.pop()
        return vote(*arguments, **options)

    monkeypatch.setattr(store, "vote", sometimes)
    text = label(store, "t\nx\nx\nq\n")  # a pipe's line ends are keys of their own
    assert text.count("Not saved yet: no room left") == 2
    assert len(list(store.votes())) == 1


def test_a_vote_that_is_refused_is_said(store):
    fill(store)
    vote = store.vote

    def taken(number, rater, *arguments, **options):
        store.vote = vote
        vote(number, rater, "tie", seconds=1, shown_first=0)
        return vote(number, rater, *arguments, **options)

    store.vote = taken
    assert "Not counted" in label(store, "1\nq\n")
    assert [vote.choice.value for vote in store.votes()] == ["tie"]


# ------------------------------------------------------------------ what is shown


@pytest.mark.parametrize("width", [40, 100])
def test_text_by_a_model_is_no_markup_and_no_order(store, width):
    store.add(
        [Comparison("[red]x[/red] \x1b[2J", ("\x1b]0;title\x07 [bold]", "\u202eabc :smile:"))]
    )
    question = StoreDesk(store).next("Ada")
    _, text = ask_about(question, "s\n", width)
    for shown in ("[red]x[/red] \\x1b[2J", "\\x1b]0;title\\x07 [bold]", "\\u202eabc :smile:"):
        assert shown in text
    for order in ("\x1b", "\x07", "\u202e", "😄"):
        assert order not in text


def test_two_answers_stand_side_by_side_where_there_is_room():
    question = Question(1, "p", ("left one", "right one"))
    wide = ask_about(question, "s\n", 100)[1]
    narrow = ask_about(question, "s\n", 60)[1]
    assert any("left one" in line and "right one" in line for line in wide.split("\n"))
    assert not any("left one" in line and "right one" in line for line in narrow.split("\n"))
    for text in (wide, narrow):
        assert "36 of 200, about 12 min left at your pace (Ada)" in text
        assert "a note" in text


@pytest.mark.parametrize(
    ("typed", "verdict"),
    [("72\n", 72.0), ("0\n", 0.0), ("100\n", 100.0), ("s\n", "skip"), ("q\n", "quit"),
     ("x5\n", 5.0), ("\n\n7\n", 7.0), ("1234\n", "EOF"), ("101\n", "EOF")],
)  # fmt: skip
def test_scores(typed, verdict):
    question = Question(1, "p", ("an answer",))
    if verdict == "EOF":  # out of range: it goes on waiting
        with pytest.raises(EOFError):
            ask_about(question, typed)
    else:
        assert ask_about(question, typed)[0] == verdict


# ------------------------------------------------------------------ a real terminal


@pytest.fixture
def terminal():
    terminals = []

    def start(*command):
        terminals.append(Terminal(*command))
        return terminals[-1]

    yield start
    for opened in terminals:
        opened.close()


def test_single_keys_in_a_real_terminal(tmp_path, terminal):
    path = tmp_path / "votes.db"
    with PreferenceStore(path) as store:
        fill(store)
    code = "import sys; from llm_gym.cli import main; main(sys.argv[1:])"
    program = terminal(
        sys.executable, "-c", code, "label", str(path), "--terminal", "--rater", "Ada"
    )
    for number, key in enumerate(("\x1b[D", "\x1bOC", "\x1b[B", "s", "u", "t")):
        done = number if number < 5 else 3
        program.wait_for(rf"{done} of 5[\s\S]*q quit")
        program.type(key)
    program.wait_for(r"4 of 5[\s\S]*q quit")
    program.type("q")
    program.wait_for("rows to train on")
    assert program.process.wait(timeout=30) == 0
    with PreferenceStore(path) as store:
        choices = [vote.choice.value for vote in store.votes()]
    assert set(choices[:2]) <= {"first", "second"}
    assert choices[2:] == ["tie", "tie"]


def test_keys_by_name():
    master, slave = pty.openpty()
    typed = "a\x1b[A\x1b[B\x1b[C\x1b[D\x1bOD\r\n\x7f\x08é好\x1b[Z"
    names = ["a", "up", "down", "right", "left", "left", "enter", "enter", "backspace",
              "backspace", "é", "好", "escape"]  # fmt: skip
    with os.fdopen(slave, "r", encoding="utf-8") as stream, Keys(stream) as keys:
        assert keys.read(0.01) is None
        os.write(master, typed.encode())
        assert [keys.read(5) for _ in names] == names
        os.write(master, b"\x04")
        with pytest.raises(EOFError):
            keys.read(5)
    os.close(master)


def test_the_terminal_is_left_as_it_was():
    import termios

    master, slave = pty.openpty()
    with os.fdopen(slave, "r") as stream:
        before = termios.tcgetattr(stream.fileno())
        with Keys(stream):
            assert termios.tcgetattr(stream.fileno()) != before
        assert termios.tcgetattr(stream.fileno()) == before
    os.close(master)
