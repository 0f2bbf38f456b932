"""Narrow screens, dark mode, screen readers, and single answers to score, in a real Chromium."""

from __future__ import annotations

import pytest

from llm_gym.feedback.labelling.askers import LiveDesk
from llm_gym.feedback.labelling.questions import Question, Summary
from llm_gym.feedback.labelling.store_desk import StoreDesk
from llm_gym.feedback.preferences.records import Comparison
from tests.feedback.labelling.conftest import fill
from tests.products import covering


@pytest.mark.parametrize(("width", "kind"), covering([320, 390, 760], ["comparison", "score"]))
def test_narrow_screens_have_no_horizontal_scroll(store, serve, visit, width, kind):
    long = "Ein/sehr/langes/Wort/ohne/Leerzeichen" * 20
    store.add([Comparison(f"p {long}", (f"a {long}", f"b {long}"))])
    desk = StoreDesk(store)
    if kind == "score":
        desk = OneScore(Question(1, long, (long,)))
    phone = {"viewport": {"width": width, "height": 700}, "has_touch": True, "is_mobile": True}
    watched = visit(serve(desk, rater="A rather long name of a rater"), **phone).open()
    assert watched.page.evaluate("document.documentElement.scrollWidth") <= width
    boxes = [watched.page.locator(f"#card-{side}").bounding_box() for side in ("left", "right")]
    if kind == "comparison":
        assert boxes[1]["y"] >= boxes[0]["y"] + boxes[0]["height"]  # one below the other
        watched.page.tap("#right")
        watched.page.wait_for_selector("body[data-state=resting]")
        assert len(list(store.votes())) == 1


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_colours_follow_the_system_and_can_be_read(store, serve, visit, scheme):
    fill(store)
    watched = visit(serve(StoreDesk(store), rater="Ada"), color_scheme=scheme).open()
    colours = watched.page.evaluate(
        """() => {
          const of = (selector, property) =>
            getComputedStyle(document.querySelector(selector))[property].match(/[\\d.]+/g).map(Number);
          return {
            page: of("body", "backgroundColor"), card: of(".answer", "backgroundColor"),
            text: of(".answer", "color"), muted: of(".notes", "color"),
            button: of("#left", "backgroundColor"), label: of("#left", "color"),
          };
        }"""
    )
    assert (luminance(colours["page"]) < 0.1) == (scheme == "dark")
    # WCAG 2.2, 1.4.3: at least 4.5 to 1.
    assert contrast(colours["text"], colours["card"]) >= 4.5
    assert contrast(colours["muted"], colours["page"]) >= 4.5
    assert contrast(colours["label"], colours["button"]) >= 4.5


def luminance(colour):
    """Relative luminance (WCAG 2.2) of red, green and blue from 0 to 255."""
    parts = [part / 255 for part in colour[:3]]
    linear = [p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(first, second):
    dark, light = sorted((luminance(first), luminance(second)))
    return (light + 0.05) / (dark + 0.05)


def test_it_can_be_used_with_the_keyboard_and_a_screen_reader(store, serve, visit):
    fill(store)
    watched = visit(serve(StoreDesk(store), rater="Ada")).open()
    seen = []
    for _ in range(8):  # as many as can have the focus: there is nothing to undo yet
        watched.page.keyboard.press("Tab")
        seen.append(watched.page.evaluate("document.activeElement.id"))
        outline = watched.page.evaluate("getComputedStyle(document.activeElement).outlineStyle")
        assert outline == "solid", seen[-1]
    expected = ["change", "prompt", "answer-left", "answer-right", "left", "tie", "right", "skip"]
    assert seen == expected
    names = watched.page.evaluate(
        """() => [...document.querySelectorAll("button, input, [role=group], [role=progressbar]")]
          .filter((e) => e.checkVisibility())
          .map((e) => e.labels?.[0]?.textContent || e.getAttribute("aria-label") || e.textContent
            || document.getElementById(e.getAttribute("aria-labelledby"))?.textContent)"""
    )
    assert all(names)
    assert watched.page.get_attribute("#track", "aria-valuetext").startswith("0 of 5")
    assert watched.text("#status") == "Question 1 of 5"


class OneScore:
    """A desk with one answer to score."""

    def __init__(self, question):
        self.question, self.replies = question, []

    def next(self, rater):
        return None if self.replies else self.question

    def answer(self, rater, reply):
        self.replies.append(reply)

    def undo(self, rater, undo_id):
        return None

    def summary(self, rater):
        return Summary(rater, len(self.replies), None, None, None, live=True)


@pytest.mark.parametrize("how", ["keys", "slider", "skip"])
def test_a_score(serve, visit, how):
    desk = OneScore(Question(7, "How good?", ("Dear <b>you</b>",)))
    watched = visit(serve(desk, rater="Ada")).open()
    assert watched.text("#title") == "How good is this answer?"
    assert watched.text("#answer-left") == "Dear <b>you</b>"
    assert not watched.page.is_visible("#card-right")
    assert not watched.page.is_visible("#undo")
    if how == "keys":
        for key in ("1", "0", "7", "Backspace", "Enter"):  # 107 is refused by the number itself
            watched.page.keyboard.press(key)
    elif how == "slider":
        watched.page.fill("#slider", "10")
        assert watched.page.input_value("#number") == "10"
        watched.page.click("#score button")
    else:
        watched.page.keyboard.press("s")
    watched.page.wait_for_selector("body[data-view=rest]")
    assert [reply.verdict for reply in desk.replies] == ["skip" if how == "skip" else 10]
    assert watched.text("#rest-title") == "The model is writing"
    watched.assert_clean()


def test_a_question_that_comes_later_appears_by_itself(serve, visit):
    desk = LiveDesk(
        lambda rater, reply: None, lambda rater: Summary(rater, 0, None, None, None, live=True)
    )
    watched = visit(serve(desk, rater="Ada")).open("body[data-view=rest]")
    desk._waiting = [Question(1, "Now?", ("yes",))]
    watched.page.wait_for_selector("body[data-view=question]")
    assert watched.text("#prompt") == "Now?"
