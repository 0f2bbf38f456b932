from __future__ import annotations

import pytest

from llm_gym.feedback.labelling.questions import Question, Reply, checked_rater

GOOD = {
    "question_id": 1,
    "fingerprint": "ab",
    "verdict": "left",
    "shown_first": 0,
    "seconds": 1.5,
    "key": "12345678",
}


def test_kind():
    assert Question(1, "p", ("a", "b")).kind == "comparison"
    assert Question(1, "p", ("a",)).kind == "score"


def test_fingerprint_is_of_the_texts_whatever_their_order():
    assert (
        Question(1, "p", ("a", "b"), 0).fingerprint == Question(9, "p", ("b", "a"), 1).fingerprint
    )
    others = [("q", ("a", "b")), ("p", ("a", "c")), ("p", ("a",)), ("pa", ("", "b"))]
    fingerprints = {Question(1, prompt, answers).fingerprint for prompt, answers in others}
    assert Question(1, "p", ("a", "b")).fingerprint not in fingerprints
    assert len(fingerprints) == len(others)


def test_fingerprint_of_half_a_character():
    assert Question(1, "\ud800", ("a", "b")).fingerprint


@pytest.mark.parametrize(
    ("name", "value", "error"),
    [
        ("verdict", "better", ValueError),
        ("verdict", 101, ValueError),
        ("verdict", -0.1, ValueError),
        ("verdict", float("nan"), ValueError),
        ("verdict", True, TypeError),
        ("shown_first", 2, ValueError),
        ("seconds", -1, ValueError),
        ("seconds", float("inf"), ValueError),
        ("seconds", "1", TypeError),
        ("key", "short", ValueError),
        ("key", "x" * 101, ValueError),
    ],
)
def test_a_reply_out_of_range_is_refused_by_name(name, value, error):
    with pytest.raises(error, match=name):
        Reply(**{**GOOD, name: value})


def test_a_page_left_open_overnight_counts_as_a_day():
    assert Reply(**{**GOOD, "seconds": 1e7}).seconds == 86_400
    assert Reply(**{**GOOD, "seconds": 7}).seconds == 7


def test_rater_names():
    assert checked_rater("  Ada Lovelace ") == "Ada Lovelace"
    assert checked_rater(7) == "7"
    assert checked_rater("Zoë 李") == "Zoë 李"
    for name in ("", "   ", "x" * 61, "a\u202eb", "a\nb"):
        with pytest.raises(ValueError, match="rater"):
            checked_rater(name)
    with pytest.raises(TypeError, match="rater"):
        checked_rater(["Ada"])
