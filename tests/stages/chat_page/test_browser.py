"""Models side by side in a real Chromium, on a desktop and on a phone."""

from __future__ import annotations

import pytest

from llm_gym.scorers.by_name import scorer_from_name
from llm_gym.stages.chat_page.table import Table
from tests.browsing import READY
from tests.feedback.labelling.test_browser_looks import contrast
from tests.products import covering
from tests.stages.chat_page.speakers import Speaker

PHONE = {"viewport": {"width": 390, "height": 844}, "has_touch": True, "is_mobile": True}
WRITING = "body[data-state=writing]"


def models(**options):
    before = Speaker("runs/before", ["Give", " me", " Friday", "."], **options)
    after = Speaker("runs/after", ["Could", " I", " please", "?"], [1.0, 2.0, 4.0, 8.0], **options)
    return [before, after]


def ask(watched, prompt, then=READY):
    watched.page.fill("#prompt", prompt)
    watched.page.keyboard.press("Enter")
    watched.page.wait_for_selector(f"{then}:has(.turn)")
    watched.page.wait_for_selector(then)


def answers(watched, turn=0):
    columns = watched.page.locator(".turn").nth(turn).locator(".answer")
    return [columns.nth(n).text_content() for n in range(columns.count())]


def shades(watched, column):
    """How strongly the tokens of an answer are coloured, in percent; 0 is not at all."""
    return watched.page.evaluate(
        """(column) => [...document.querySelectorAll(".answer")[column].querySelectorAll(".token")]
          .map((token) => token.matches(".up") ? parseInt(token.style.getPropertyValue("--t")) : 0)
        """,
        column,
    )


def test_models_answer_side_by_side_turn_after_turn(serve, visit):
    table = models()
    watched = visit(serve(Table(table))).open()
    assert "no critic beside it: probabilities only" in watched.text("#models li:first-child")
    assert "values can be shown" in watched.text("#models li:last-child")
    ask(watched, "Ask for Friday off.")
    assert answers(watched) == ["Give me Friday.", "Could I please?"]
    assert watched.text(".said") == "Ask for Friday off."
    boxes = [watched.page.locator(".column").nth(n).bounding_box() for n in (0, 1)]
    assert boxes[0]["y"] == boxes[1]["y"]
    assert boxes[1]["x"] >= boxes[0]["x"] + boxes[0]["width"]
    ask(watched, "And again?")
    assert answers(watched, 1) == answers(watched, 0)
    assert [speaker.asked for speaker in table] == [["Ask for Friday off.", "And again?"]] * 2
    watched.page.reload()
    watched.page.wait_for_selector(READY)
    assert watched.page.locator(".turn").count() == 2  # a page that is closed loses nothing
    watched.assert_clean()


def test_answers_grow_while_they_are_written_and_can_be_stopped(serve, visit):
    slow = models(waits=True)
    table = Table(slow)
    watched = visit(serve(table)).open()
    ask(watched, "Well?", WRITING)
    assert not watched.page.is_visible("#send")
    for speaker in slow:
        speaker.go.release()
    for column in ("first", "last"):
        watched.page.wait_for_selector(f".column:{column}-child .token")
    assert answers(watched) == ["Give", "Could"]
    other = visit(watched.url).open(WRITING)  # a page that is opened meanwhile goes along
    watched.page.keyboard.press("Escape")
    while not table._stop:  # else they may have ended before they are stopped
        watched.page.wait_for_timeout(5)
    for speaker in slow:
        speaker.go.release(4)
    watched.page.wait_for_selector(READY)
    other.page.wait_for_selector(READY)
    assert "stopped" in watched.text(".column .small")
    assert other.text(".column:first-child .answer").startswith("Give")
    assert [speaker.closed for speaker in slow] == [1, 1]
    watched.assert_clean()


def test_colours_on_demand_over_one_scale(serve, visit):
    table = Table(models(), scorer_from_name("length:2", "cpu"), "length:2")
    watched = visit(serve(table)).open()
    ask(watched, "Well?")
    assert shades(watched, 0) == [0, 0, 0, 0]
    watched.page.select_option("#quantity", "prob")
    improbable_first = shades(watched, 0)
    assert improbable_first == sorted(improbable_first, reverse=True)
    assert improbable_first[0] > improbable_first[-1]
    watched.page.select_option("#quantity", "value")
    assert shades(watched, 0) == [0, 0, 0, 0]
    assert shades(watched, 1) == sorted(shades(watched, 1))
    notes = watched.page.locator(".column .small").all_text_contents()
    assert notes.count("no critic beside this model: no values") == 1
    assert watched.page.locator("svg.values").count() == 1
    assert watched.page.locator("#legend span").all_text_contents() == ["1", "8"]
    with watched.page.expect_response("**/api/scores"):
        watched.page.select_option("#quantity", "score")
    watched.page.wait_for_selector(".column:first-child .token.up")
    assert len(set(shades(watched, 0))) > 1
    assert watched.text(".column output").startswith("score ")
    ask(watched, "Once more?")  # what is asked later is coloured, too
    watched.page.wait_for_selector(".turn:last-child .token.up")
    watched.assert_clean()


def test_colours_that_cannot_be_say_why(serve, visit):
    watched = visit(serve(Table(models()[:1]))).open()
    options = watched.page.locator("#quantity option")
    told = {options.nth(n).text_content(): options.nth(n).is_disabled() for n in range(5)}
    disabled = [text for text, off in told.items() if off]
    assert len(disabled) == 2
    assert "no critic beside these models" in disabled[0]
    assert "--scorer NAME" in disabled[1]


def test_a_token_tells_its_numbers_and_what_might_have_been(serve, visit):
    watched = visit(serve(Table(models())), **PHONE).open()
    ask(watched, "Well?")
    watched.page.locator(".column:last-child .token").nth(2).tap()
    told = watched.text(".column:last-child .told p")
    assert "Token 3 of 4" in told
    assert "probability 60 %" in told
    assert "value 4" in told
    assert watched.page.locator(".column:last-child .alternatives li").count() == 2
    assert " please" in watched.text(".column:last-child .alternatives .it")
    assert not watched.page.locator(".column:first-child .told").is_visible()
    watched.page.locator(".column:last-child .token").nth(2).press("ArrowRight")
    assert "Token 4 of 4" in watched.text(".column:last-child .told p")


def test_the_keyboard_does_it_all(serve, visit):
    watched = visit(serve(Table(models()))).open()
    assert watched.page.evaluate("document.activeElement.id") == "prompt"
    watched.page.keyboard.type("cc")  # a letter, and no key of the page
    watched.page.keyboard.press("Shift+Enter")
    assert watched.page.input_value("#prompt") == "cc\n"
    watched.page.keyboard.press("Enter")
    watched.page.wait_for_selector(f"{READY}:has(.turn)")
    watched.page.focus(".column .token")
    watched.page.keyboard.press("c")
    assert watched.page.input_value("#quantity") == "prob"
    watched.page.focus("#reset")
    watched.page.keyboard.press("Enter")
    watched.page.wait_for_selector("#hello", state="visible")
    assert watched.page.evaluate("document.activeElement.id") == "prompt"
    assert watched.page.locator(".turn").count() == 0
    watched.assert_clean()


def test_what_models_write_is_text(serve, visit):
    evil = ["<img src=x onerror='window.pwned=1'>", "\u202e", "<script>window.pwned=1</script>\n"]
    name = "<b>runs/evil</b>"
    watched = visit(serve(Table([Speaker(name, evil)]))).open()
    ask(watched, "<img src=x onerror='window.pwned=1'>")
    assert watched.text(".column h2 bdi") == name
    assert "<script>window.pwned=1</script>" in answers(watched)[0]
    assert watched.text(".column .spelled") == r"\u202e"
    assert watched.page.locator("main img, main script").count() == 0
    watched.assert_clean()


def test_a_prompt_that_cannot_be_answered_stays_to_be_corrected(serve, visit):
    watched = visit(serve(Table(models()))).open()
    watched.page.fill("#prompt", "too long")
    watched.page.keyboard.press("Enter")
    watched.page.wait_for_selector("#trouble:not([hidden])")
    assert "at most 64" in watched.text("#trouble")
    watched.page.wait_for_selector(READY)
    assert watched.page.input_value("#prompt") == "too long"


def test_a_connection_that_is_lost_goes_on_where_it_was(serve, visit):
    slow = models(waits=True)
    watched = visit(serve(Table(slow))).open()
    ask(watched, "Well?", WRITING)
    watched.page.route("**/api/turn", lambda route: route.abort())
    for speaker in slow:
        speaker.go.release()  # what was asked before is still answered
    watched.page.wait_for_selector("#trouble:not([hidden])")
    for speaker in slow:
        speaker.go.release(4)
    watched.page.unroute("**/api/turn")
    watched.page.wait_for_selector(READY)
    assert answers(watched) == ["Give me Friday.", "Could I please?"]
    assert not watched.page.is_visible("#trouble")


@pytest.mark.parametrize(("width", "scheme"), covering([320, 390, 1280], ["light", "dark"]))
def test_it_fits_and_can_be_read(serve, visit, width, scheme):
    long = Speaker("runs/a-very-long-path-without-a-space" * 3, ["w" * 300, " x"], [0.0, 1.0])
    watched = visit(
        serve(Table([long, *models()])),
        viewport={"width": width, "height": 800},
        color_scheme=scheme,
    ).open()
    ask(watched, "Ein/sehr/langes/Wort/ohne/Leerzeichen" * 10)
    watched.page.select_option("#quantity", "prob")
    watched.page.locator(".column .token").first.click()
    assert watched.page.evaluate("document.documentElement.scrollWidth") <= width
    columns = [watched.page.locator(".column").nth(n).bounding_box() for n in range(3)]
    assert (columns[0]["y"] == columns[1]["y"]) == (width > 760)
    pairs = watched.page.evaluate(
        """() => [[".answer", ".column"], [".told p", ".column"], [".column h2", ".column"],
                  [".said", ".said"], ["#send", "#send"]].map((pair) => pair.map((selector, n) =>
          getComputedStyle(document.querySelector(selector))[n ? "backgroundColor" : "color"]
            .match(/[\\d.]+/g).map(Number)))"""
    )
    assert all(contrast(ink, card) >= 4.5 for ink, card in pairs)  # WCAG 2.2, 1.4.3
