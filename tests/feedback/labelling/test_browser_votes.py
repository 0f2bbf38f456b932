"""Voting in a real Chromium, by keys and buttons."""

from __future__ import annotations

import pytest

from llm_gym.feedback.labelling.store_desk import StoreDesk
from llm_gym.feedback.preferences.records import Choice, Comparison
from tests.browsing import READY
from tests.feedback.labelling.conftest import fill


def test_keys_become_votes_in_the_store(store, serve, visit):
    fill(store, 9)
    watched = visit(serve(StoreDesk(store), rater="Ada")).open()
    preferred = []
    for key in ("ArrowLeft", "ArrowRight", "1", "2", "ArrowDown", "t", "s", "T"):
        side = {"ArrowLeft": "left", "1": "left", "ArrowRight": "right", "2": "right"}.get(key)
        preferred.append(watched.text(f"#answer-{side}") if side else key)
        watched.press(key)
    assert watched.text("#progress").startswith("8 of 9")
    votes = list(store.votes())
    for vote, expected in zip(votes, preferred, strict=True):
        answers = store.comparison(vote.comparison_id).answers
        got = {
            Choice.FIRST: answers[0],
            Choice.SECOND: answers[1],
            Choice.TIE: "tie",
            Choice.SKIP: "s",
        }[vote.choice]
        assert got == (expected if got in answers or got == "s" else "tie")
        assert vote.rater == "Ada"
        assert 0.2 <= vote.seconds < 600
    assert [vote.choice for vote in votes[4:]] == ["tie", "tie", "skip", "tie"]
    watched.press("1", then="body[data-state=resting]")
    assert "That was all" in watched.text("#rest-title")
    watched.assert_clean()


def test_buttons_and_hints(store, serve, visit):
    fill(store)
    watched = visit(serve(StoreDesk(store), rater="Ada")).open()
    hints = {"left": "←", "tie": "↓", "right": "→", "skip": "S", "undo": "U"}
    for name, hint in hints.items():
        assert watched.text(f"#{name} kbd") == hint
        assert watched.page.get_attribute(f"#{name}", "aria-keyshortcuts")
    for name in ("right", "tie", "skip", "left"):
        watched.page.wait_for_selector(READY)
        with watched.page.expect_response("**/api/vote"):
            watched.page.click(f"#{name}")
    watched.page.wait_for_selector(READY)
    with watched.page.expect_response("**/api/undo"):
        watched.page.click("#undo")
    watched.page.wait_for_selector(READY)
    choices = [vote.choice.value for vote in store.votes()]
    assert choices[1:] == ["tie", "skip"]
    assert choices[0] in ("first", "second")


def test_a_card_is_a_button_unless_text_is_being_marked(store, serve, visit):
    fill(store)
    watched = visit(serve(StoreDesk(store), rater="Ada")).open()
    for side in ("left", "right"):
        watched.page.wait_for_selector(READY)
        shown = watched.text(f"#answer-{side}")
        with watched.page.expect_response("**/api/vote"):
            watched.page.click(f"#card-{side} .text")
        vote = list(store.votes())[-1]
        chosen = store.comparison(vote.comparison_id).answers[vote.choice.value == "second"]
        assert chosen == shown
    watched.page.wait_for_selector(READY)
    watched.page.evaluate(
        "getSelection().selectAllChildren(document.querySelector('#answer-left'))"
    )
    watched.page.evaluate("document.querySelector('#answer-left').click()")
    assert len(list(store.votes())) == 2
    watched.assert_clean()


def test_undo_shows_the_question_again_and_takes_the_vote_back(store, serve, visit):
    fill(store)
    watched = visit(serve(StoreDesk(store), rater="Ada")).open()
    assert watched.page.is_disabled("#undo")
    before = watched.text("#question")
    watched.press("1")
    assert watched.text("#question") != before
    watched.press("u")
    assert watched.text("#question").split("votes")[0] == before.split("votes")[0]
    assert not list(store.votes())
    assert watched.page.is_disabled("#undo")
    watched.assert_clean()


def test_a_key_held_down_or_with_a_modifier_is_no_vote(store, serve, visit):
    fill(store)
    watched = visit(serve(StoreDesk(store), rater="Ada")).open()
    for keys in ("Control+1", "Alt+ArrowLeft", "Meta+t", "x", "Enter"):
        watched.page.keyboard.press(keys)
    watched.page.wait_for_selector(READY)
    with watched.page.expect_response("**/api/vote"):
        watched.page.keyboard.down("1")
    for _ in range(5):
        watched.page.keyboard.down("1")  # what a held key sends: repeats
    watched.page.keyboard.up("1")
    watched.page.wait_for_selector(READY)
    assert len(list(store.votes())) == 1


def test_the_down_key_scrolls_a_long_answer_that_has_the_focus(store, serve, visit):
    store.add([Comparison("p", ("line\n" * 500, "line\n" * 400))])
    watched = visit(serve(StoreDesk(store), rater="Ada")).open()
    watched.page.focus("#answer-left")
    watched.page.keyboard.press("ArrowDown")
    for _ in range(100):
        if watched.page.evaluate("document.getElementById('answer-left').scrollTop"):
            break
        watched.page.wait_for_timeout(50)
    else:
        pytest.fail("the answer did not scroll")
    assert not list(store.votes())


def test_reload_resumes(store, serve, visit):
    fill(store)
    watched = visit(serve(StoreDesk(store))).open("#welcome:not([hidden])")
    watched.page.fill("#rater", "Ada")
    watched.page.click("#welcome button")
    watched.press("1")
    before = watched.text("#question")
    watched.page.reload()
    watched.page.wait_for_selector(READY)  # the name was asked once
    assert watched.text("#name") == "Ada"
    assert watched.text("#question") == before
    assert watched.text("#progress").startswith("1 of 5")


def test_two_raters_side_by_side(store, serve, visit):
    fill(store, 2)
    url = serve(StoreDesk(store, votes_per_comparison=2))
    for name in ("Ada", "Bob"):
        watched = visit(url).open("#welcome:not([hidden])")
        watched.page.fill("#rater", name)
        watched.page.click("#welcome button")
        watched.press("t")
        watched.press("t", then="body[data-state=resting]")
    assert store.progress().by_rater == {"Ada": 2, "Bob": 2}
    watched.page.keyboard.press("u")
    watched.page.wait_for_selector(READY)
    assert "2 raters say the same on 100 % of 1 shared pair" in watched.text("#notes")


def test_change_of_rater(store, serve, visit):
    fill(store)
    watched = visit(serve(StoreDesk(store), rater="Ada")).open()
    watched.press("1")
    watched.page.click("#change")
    watched.page.fill("#rater", "Bob")
    watched.page.keyboard.press("1")  # typed into the name, not a vote
    watched.page.keyboard.press("Enter")
    watched.page.wait_for_selector(READY)
    watched.press("2")
    assert [vote.rater for vote in store.votes()] == ["Ada", "Bob1"]
    watched.page.reload()
    watched.page.wait_for_selector(READY)
    assert watched.text("#name") == "Bob1"
