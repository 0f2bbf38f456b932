from __future__ import annotations

import sqlite3
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import pytest

from llm_gym.feedback.labelling.questions import ConflictError
from llm_gym.feedback.labelling.score_book import ScoreBook, Tally


@pytest.fixture
def book(tmp_path):
    book = ScoreBook(tmp_path / "sub" / "book.db")
    yield book
    book.close()


def answer(book, number, value, key="a key of mine"):
    book.answer(number, value, rater="Ada", seconds=2.0, key=key)


def test_the_same_question_has_one_number(book):
    one = book.ask("p", "c")
    assert book.ask("p", "c") == one
    others = [
        book.ask("p", "d"),
        book.ask("pc", ""),
        book.ask("p", "c", "b"),
        book.ask("p", "c", ""),
    ]
    assert len({one.id, *(other.id for other in others)}) == 5
    assert (one.answered, one.value) == (False, None)


def test_answers(book):
    number = book.ask("p", "c").id
    answer(book, number, 40.0)
    assert (book.ask("p", "c").answered, book.ask("p", "c").value) == (True, 40.0)
    declined = book.ask("p", "d").id
    answer(book, declined, None, key="another key")
    assert (book.question(declined).answered, book.question(declined).value) == (True, None)
    assert book.tally() == Tally(2, 40.0, 4.0)


def test_the_first_answer_counts_and_a_repetition_changes_nothing(book):
    number = book.ask("p", "c").id
    answer(book, number, 40.0)
    answer(book, number, 40.0)
    with pytest.raises(ConflictError, match="answered by somebody else"):
        answer(book, number, 90.0, key="the key of Bob")
    assert book.tally() == Tally(1, 40.0, 2.0)


def test_a_question_nobody_asked(book):
    with pytest.raises(ConflictError, match="no question 5"):
        answer(book, 5, 1.0)
    with pytest.raises(ConflictError, match="no question 5"):
        book.question(5)


def test_an_empty_book_has_no_mean(book):
    assert book.tally() == Tally(0, None, 0.0)


def test_half_characters_can_be_asked_about(book):
    first, second = book.ask("p", "\ud800"), book.ask("p", "\ud801")
    assert first.id != second.id
    assert book.ask("p", "\ud800").id == first.id
    assert first.completion == "?"


def test_many_threads(book):
    numbers = [book.ask("p", str(i)).id for i in range(20)]
    with ThreadPoolExecutor(8) as executor:
        list(executor.map(lambda n: answer(book, n, 50.0, key=f"key number {n}"), numbers * 2))
    assert book.tally().answers == 20


def test_an_answer_survives_kill_9(tmp_path):
    code = (
        "import os, sys, signal\n"
        "from llm_gym.feedback.labelling.score_book import ScoreBook\n"
        "book = ScoreBook(sys.argv[1])\n"
        "book.answer(book.ask('p', 'c').id, 70.0, rater='Ada', seconds=1.0, key='12345678')\n"
        "os.kill(os.getpid(), signal.SIGKILL)"
    )
    path = tmp_path / "book.db"
    done = subprocess.run([sys.executable, "-c", code, path], check=False, timeout=60)
    assert done.returncode == -9
    book = ScoreBook(path)
    assert book.ask("p", "c").value == 70.0
    book.close()


def test_other_files_are_refused(tmp_path):
    (tmp_path / "text.db").write_text(
        "this is no database at all, but long enough for a header" * 9
    )
    with pytest.raises(ValueError, match="not a score book"):
        ScoreBook(tmp_path / "text.db")
    foreign = sqlite3.connect(tmp_path / "foreign.db")
    foreign.execute("CREATE TABLE t (x)")
    foreign.close()
    with pytest.raises(ValueError, match="another program"):
        ScoreBook(tmp_path / "foreign.db")
    ScoreBook(tmp_path / "newer.db").close()
    newer = sqlite3.connect(tmp_path / "newer.db")
    newer.execute("PRAGMA user_version = 2")
    newer.close()
    with pytest.raises(ValueError, match="version 2, newer than the 1"):
        ScoreBook(tmp_path / "newer.db")


def test_a_locked_book_is_an_error_that_can_be_tried_again(tmp_path):
    book = ScoreBook(tmp_path / "book.db", timeout=0.05)
    other = sqlite3.connect(book.path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(OSError, match="locked"):
        book.ask("p", "c")
    other.execute("ROLLBACK")
    other.close()
    assert book.ask("p", "c").id == 1
    book.close()


def test_a_book_with_a_trigger_is_refused_before_the_trigger_can_run(tmp_path):
    path = tmp_path / "book.db"
    ScoreBook(path).close()
    other = sqlite3.connect(path)
    other.execute("CREATE TRIGGER evil AFTER INSERT ON question BEGIN DELETE FROM answer; END")
    other.close()
    with pytest.raises(ValueError, match=r"no score book .* trigger 'evil'"):
        ScoreBook(path)


@pytest.mark.parametrize("number", [2**63, -1, 10**1000])
def test_a_number_that_no_question_can_have_is_refused(book, number):
    with pytest.raises(ValueError, match="question_id must be from 0"):
        book.question(number)
    with pytest.raises(ValueError, match="question_id must be from 0"):
        answer(book, number, 1.0)
