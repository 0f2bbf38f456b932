"""A stranger with the page alone can tell what an update did: in a real Chromium."""

from __future__ import annotations

import numpy as np
import pytest

from tests.browsing import READY
from tests.feedback.labelling.test_browser_looks import contrast, luminance
from tests.stages.watch.looks import VOCABULARY, answer, probe, write_look

HOSTILE = [
    "<script>window.pwned=1</script>", "<img src=x onerror='window.pwned=1'>", "\u202egnp.exe",
    "</bdi></span><b>", "{{7*7}}", "javascript:alert(1)", "\x1b[31m", "\u200b", "a\n\nb",
    "\ud800", "&lt;i&gt;", "\ufffd",
]  # fmt: skip
STILL = {"reduced_motion": "reduce"}


def choose(watched, tab):
    watched.page.click(f"#tabs button >> text=/^{tab}$/")
    watched.page.wait_for_selector(READY)


def selected(watched):
    return watched.text(".token.chosen"), watched.page.input_value("#quantity")


@pytest.fixture
def sample(run, serve, visit):
    """The page at the answer that was learnt from and not cut."""
    watched = visit(serve(run), **STILL).open()
    choose(watched, "Sample 1")
    yield watched
    watched.assert_clean()


@pytest.mark.parametrize(
    ("question", "told", "token", "colour"),
    [
        ("won", "at you, advantage +12.5", " you", "advantage"),
        (
            "critic", "it expected 40 at the beginning and 71 at the end; the score was 72", "Dear",
            "value",
        ),
        ("likelier", "thank, 13 % → 63 %", " thank", "change"),
        ("moved", "most at Ada, +3.5 nats; +3.5 nats in all", " Ada", "kl"),
        ("cut", "no, it ended by itself after 6 tokens", "!", None),
    ],
    ids=["won", "critic", "likelier", "moved", "cut"],
)  # fmt: skip
def test_the_page_answers_what_happened_and_shows_where(sample, question, told, token, colour):
    finding = f"#finding-{question}"
    assert " ".join(sample.text(finding).split()).replace(" ,", ",") == told
    before = sample.page.input_value("#quantity")
    sample.page.click(f"{finding} button")
    assert selected(sample) == (token, colour or before)
    assert token.strip() in sample.text("#detail h2")


def test_an_answer_that_was_cut_says_so(run, serve, visit):
    watched = visit(serve(run), **STILL).open()
    choose(watched, "Sample 2")
    assert watched.text("#finding-cut") == "yes, its length budget ended it after 6 tokens"


def test_the_same_prompts_answer_is_followed_through_training(run, serve, visit):
    watched = visit(serve(run), **STILL).open()
    assert watched.text("#prompt") == "Ask for a day off."
    assert watched.text("#answer") == "Please, sir."
    assert watched.text("#when") == "Look 2 of 2, after 100 tokens of PPO"
    watched.page.keyboard.press(",")
    watched.page.wait_for_selector("#when >> text=/^Look 1/")
    watched.page.wait_for_selector(READY)
    assert (watched.text("#prompt"), watched.text("#answer")) == ("Ask for a day off.", "No way.")
    assert watched.text("#finding-won").startswith("not known: nothing was learnt from this answer")
    watched.page.keyboard.press("2")
    watched.page.wait_for_selector(READY)
    watched.page.keyboard.press(".")
    watched.page.wait_for_selector("#when >> text=/^Look 2/")
    assert watched.text("#answer") == "Dear Ada, thank you!"  # the sample stays chosen
    watched.assert_clean()


def test_answers_are_written_token_by_token_and_the_film_plays(run, serve, visit):
    watched = visit(serve(run))
    seen = "window.most = 0; new MutationObserver(() => { window.most = Math.max(window.most, "
    seen += "document.querySelectorAll('.unwritten').length); }).observe(document, "
    watched.page.add_init_script(
        f"addEventListener('DOMContentLoaded', () => {{ {seen}"
        "{subtree: true, attributes: true, childList: true}) })"
    )
    watched.open()
    assert watched.page.evaluate("window.most") >= 3
    assert watched.page.locator(".unwritten").count() == 0
    watched.page.keyboard.press("p")
    watched.page.wait_for_selector("#when >> text=/^Look 1/")
    watched.page.wait_for_selector("#when >> text=/^Look 2/")
    watched.page.wait_for_selector("#play-text >> text=Play")


def test_alternatives_are_shown_under_pointer_and_keyboard(sample):
    page = sample.page
    page.hover(".token:nth-child(4)")
    assert " thank" in sample.text("#detail h2")
    items = page.locator(".alternatives li")
    assert items.count() == 5
    assert items.nth(0).text_content() == f"{VOCABULARY[3]}50 % → 2.5 %(chosen)"
    assert items.nth(1).text_content() == f"{VOCABULARY[4]}25 % → 5.0 %"
    page.focus(".token.chosen")
    page.keyboard.press("ArrowRight")
    assert selected(sample)[0] == " you"
    assert page.locator(".alternatives .it .word").text_content() == VOCABULARY[4]
    page.keyboard.press("Home")
    assert selected(sample)[0] == "Dear"
    assert items.count() == 6  # what was chosen is none of the five
    assert items.nth(5).text_content() == "Dear50 % → 40 %(chosen)"


def test_colours_lie_on_the_scale_that_the_legend_tells(sample):
    def amounts():
        tokens = sample.page.locator(".token")
        return tokens.evaluate_all(
            "all => all.map(e => [e.className.match(/up|down/)?.[0] ?? '',"
            " e.style.getPropertyValue('--t')])"
        )

    sample.page.select_option("#quantity", "advantage")
    assert amounts()[4] == ["up", "62%"]
    assert amounts()[2] == ["down", f"{round(62 * 3 / 12.5)}%"]
    assert sample.text("#legend") == "\N{MINUS SIGN}12.5+12.5"
    sample.page.select_option("#quantity", "prob")
    assert amounts()[3] == ["up", f"{round(62 * 0.875)}%"]  # the least probable is the darkest
    assert sample.text("#legend") == "100 %0 %"
    sample.page.select_option("#quantity", "clipped")
    assert [name for name, _ in amounts()] == ["", "", "", "up", "", ""]
    sample.page.locator("#quantity").blur()
    sample.page.keyboard.press("c")
    assert sample.page.input_value("#quantity") == "reward"


def test_the_critics_line_runs_over_the_text(sample):
    points = sample.page.get_attribute("svg.values polyline", "points")
    heights = [float(point.split(",")[1]) for point in points.split(" ")]
    assert len(heights) == 6
    assert heights[5] == min(heights)  # 71, the highest, is at the top
    assert heights[0] == max(heights)


def test_what_an_algorithm_does_not_have_is_said(tmp_path, serve, visit):
    made = answer()
    columns = {n: c for n, c in made.quantities.items() if n not in ("value", "kl", "clipped")}
    columns["advantage"] = np.full(6, 1.5, dtype=np.float32)
    absent = {"value": "RLOO has no critic", "kl": "RLOO has no reference model here"}
    write_look(tmp_path, 0, answer(quantities=columns), algorithm="RLOO", absent=absent, clip=None)
    watched = visit(serve(tmp_path), **STILL).open()
    assert watched.text("#finding-critic") == "not known: RLOO has no critic"
    assert watched.text("#finding-moved") == "not known: RLOO has no reference model here"
    assert watched.text("#finding-won") == "every token has the same advantage, +1.5"
    assert watched.page.locator("svg.values").count() == 0
    assert "No line over the text: RLOO has no critic." in watched.text("#note")
    assert watched.page.is_disabled("#quantity option[value=value]")


def test_a_worlds_words_are_told_apart(tmp_path, serve, visit):
    by_agent = np.array([1, 1, 0, 0, 1, 1], dtype=bool)
    made = answer()
    columns = {n: np.where(by_agent, c, np.nan) for n, c in made.quantities.items()}
    write_look(tmp_path, 0, answer(by_agent=by_agent, quantities=columns))
    watched = visit(serve(tmp_path), **STILL).open()
    assert watched.page.locator(".token.world").all_text_contents() == [",", " thank"]
    watched.page.click(".token.world >> nth=0")
    assert "The world wrote this" in watched.text("#detail")
    assert watched.text("#finding-cut") == "no, it ended by itself after 4 tokens"


def test_hostile_texts_are_shown_and_never_obeyed(tmp_path, serve, visit):
    directory = tmp_path / "<img src=x onerror=alert(1)>\u202e"
    vocabulary = {token: HOSTILE[token % len(HOSTILE)] for token in range(20)}
    absent = {"kl": "<script>window.pwned=1</script>"}
    made = answer(HOSTILE, prompt="".join(HOSTILE))
    del made.quantities["kl"]
    write_look(directory, 0, made, vocabulary=vocabulary, absent=absent, algorithm="<i>PPO</i>")
    watched = visit(serve(directory), **STILL).open()
    assert watched.page.locator(".token").count() == len(HOSTILE)
    for place in range(len(HOSTILE)):
        watched.page.focus(f".token:nth-child({place + 1})")
    text = watched.text("#answer")
    assert "<script>window.pwned=1</script>" in text
    assert r"\u202egnp.exe" in text
    assert r"\x1b[31m" in text
    assert r"\ud800" in text
    assert "<script>" in watched.text("#finding-moved")
    assert "<i>PPO</i>" in watched.text("#when")
    assert watched.text("#name").startswith("<img src=x")
    assert watched.page.locator("main script, main img, main b b").count() == 0
    watched.assert_clean()


@pytest.mark.parametrize("width", [320, 390])
def test_a_phone_shows_alternatives_under_the_finger_and_never_scrolls_sideways(
    run, serve, visit, width
):
    long = "Ein/sehr/langes/Wort/ohne/Leerzeichen" * 8
    write_look(run, 200, probe([long, " kurz"]), answer([long, *["a"] * 60], prompt=long))
    phone = {"viewport": {"width": width, "height": 740}, "has_touch": True, "is_mobile": True}
    watched = visit(serve(run), **phone, **STILL).open()
    assert watched.page.evaluate("document.documentElement.scrollWidth") <= width
    choose(watched, "Sample 1")
    assert watched.page.evaluate("document.documentElement.scrollWidth") <= width
    watched.page.tap(".token:nth-child(3)")
    assert "3 of 61" in watched.text("#detail h2")
    box = watched.page.locator(".alternatives").bounding_box()
    assert box["y"] < 740  # on the screen, whatever part of the answer is


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_colours_follow_the_system_and_can_be_read(run, serve, visit, scheme):
    watched = visit(serve(run), color_scheme=scheme, **STILL).open()
    choose(watched, "Sample 1")
    watched.page.select_option("#quantity", "advantage")
    watched.page.wait_for_timeout(300)  # colours change slowly
    colours = watched.page.evaluate(
        """() => {
          const canvas = document.createElement("canvas").getContext("2d");
          const over = (...layers) => {
            for (const layer of layers) {
              canvas.fillStyle = layer;
              canvas.fillRect(0, 0, 1, 1);
            }
            return [...canvas.getImageData(0, 0, 1, 1).data];
          };
          const of = (selector) => getComputedStyle(document.querySelector(selector));
          const card = of(".card").backgroundColor;
          return {
            page: over(of("body").backgroundColor), card: over(card),
            ink: over(of(".answer").color), muted: over(of(".small").color),
            up: over(card, of(".token:nth-child(5)").backgroundColor),
          };
        }"""
    )
    assert (luminance(colours["page"]) < 0.1) == (scheme == "dark")
    # WCAG 2.2, 1.4.3: at least 4.5 to 1.
    assert contrast(colours["ink"], colours["card"]) >= 4.5
    assert contrast(colours["ink"], colours["up"]) >= 4.5
    assert contrast(colours["muted"], colours["card"]) >= 4.5


def test_a_new_look_appears_by_itself(run, serve, visit):
    watched = visit(serve(run), **STILL).open()
    write_look(run, 200, probe(["Kind", " sir"]))
    watched.page.wait_for_selector("#when >> text=/^Look 3 of 3/")
    watched.page.wait_for_selector("#answer >> text=Kind sir")
    (run / "trace" / "look-000000000200.safetensors").unlink()  # the run goes on from before
    watched.page.wait_for_selector("#when >> text=/^Look 2 of 2/")
    watched.page.click("figure svg", position={"x": 2, "y": 20})
    watched.page.wait_for_selector("#when >> text=/^Look 1 of 2/")


def test_a_run_without_looks_says_so_and_has_its_curves(tmp_path, serve, visit):
    (tmp_path / "metrics.jsonl").write_text('{"step": 1, "train/loss": 2.5}\n')
    watched = visit(serve(tmp_path)).open("body[data-state=resting]")
    assert watched.text("#rest-title") == "No looks at tokens"
    assert watched.text("#curves figcaption") == "loss2.5"
    watched.assert_clean()
