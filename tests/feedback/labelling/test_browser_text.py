"""What a model writes, in a real Chromium: shown as text, and nothing of it runs."""

from __future__ import annotations

import re

import pytest

from llm_gym.feedback.labelling.store_desk import StoreDesk
from llm_gym.feedback.preferences.records import Comparison
from tests.browsing import READY
from tests.feedback.labelling.conftest import fill
from tests.products import sampled

ATTACKS = [
    "<script>window.pwned = 1; alert(1)</script>",
    '<img src=x onerror="window.pwned = 1; alert(1)">',
    "<svg onload='window.pwned = 1'><script>window.pwned = 1</script></svg>",
    '<a href="javascript:window.pwned=1">a link</a> [a link](javascript:window.pwned=1)',
    "</div></main><iframe srcdoc='<script>parent.pwned=1</script>'></iframe>",
    "{{7*7}} ${7*7} {% print(7*7) %} {{config}} <%= 7*7 %>",
    "<style>body { display: none }</style><link rel=stylesheet href=http://evil.example/x.css>",
    '"><form action=http://evil.example/><input name=x></form><base href=http://evil.example/>',
    "&lt;script&gt;window.pwned = 1&lt;/script&gt; &amp; &#x3c;b&#x3e;",
    "<math><mtext><table><mglyph><style><!--</style><img title='--><img src onerror=pwned=1>'>",
]


def test_what_a_model_writes_is_shown_as_text_and_nothing_of_it_runs(store, serve, visit):
    store.add(Comparison(text, (f"A {text}", f"B {text}")) for text in ATTACKS)
    watched = visit(serve(StoreDesk(store), rater="Ada")).open()
    for text in ATTACKS:
        assert watched.text("#prompt") == text
        shown = {watched.text("#answer-left"), watched.text("#answer-right")}
        assert shown == {f"A {text}", f"B {text}"}
        # Of elements inside a text there are only our own marks for hidden characters.
        assert watched.page.query_selector_all(".text *") == []
        watched.press("1", then="body[data-state=resting], " + READY)
    assert watched.page.query_selector_all("iframe, form:not(#welcome, #score), base") == []
    watched.assert_clean()


def test_the_watch_would_notice_a_script(store, serve, visit):
    """The same checks, on a page into which a script was put past the escaping."""
    fill(store)
    watched = visit(serve(StoreDesk(store), rater="Ada")).open()
    watched.page.evaluate(
        """() => {
          const script = document.createElement("script");
          try { script.textContent = "window.pwned = 1"; } catch { window.refused = true; }
          document.body.append(script);
          try { document.body.innerHTML = "<img src=x onerror='pwned = 1'>"; } catch {}
        }"""
    )
    assert watched.page.evaluate("typeof window.pwned") == "undefined"
    assert watched.page.evaluate("window.refused")
    with pytest.raises(AssertionError):
        watched.assert_clean()


def test_hidden_characters_are_spelled_out_and_marked(store, serve, visit):
    store.add([Comparison("safe\u202egpj.exe\u0007", ("\x00\u200bone", "two\ttab\n  indented"))])
    watched = visit(serve(StoreDesk(store), rater="Ada")).open()
    marks = watched.page.locator(".spelled").all_text_contents()
    assert sorted(marks) == ["\\u202e", "\\x00\\u200b", "\\x07"]
    texts = [watched.text("#answer-left"), watched.text("#answer-right")]
    assert sorted(texts) == ["\\x00\\u200bone", "two\ttab\n  indented"]
    boxes = watched.page.locator(".text")
    for index in range(3):
        assert boxes.nth(index).evaluate("e => getComputedStyle(e).whiteSpace") == "pre-wrap"
    watched.assert_clean()


def test_a_name_is_text_too(store, serve, visit):
    fill(store)
    name = "<img src=x onerror=alert(1)>"
    watched = visit(serve(StoreDesk(store))).open("#welcome:not([hidden])")
    watched.page.fill("#rater", name)
    watched.page.keyboard.press("Enter")
    watched.page.wait_for_selector(READY)
    assert watched.text("#name") == name
    watched.press("1")
    assert next(store.votes()).rater == name
    watched.assert_clean()


LONG = ["word " * 20_000, "x" * 50_000, "line\n" * 3_000]


@pytest.mark.parametrize("text", sampled(LONG, LONG[1]))
def test_very_long_text_scrolls_inside_the_page(store, serve, visit, text):
    store.add([Comparison(text, (text + "1", text + "2"))])
    watched = visit(serve(StoreDesk(store), rater="Ada"), viewport={"width": 1280, "height": 800})
    watched.open()
    sizes = watched.page.evaluate(
        """() => ({
          wide: document.documentElement.scrollWidth - innerWidth,
          high: document.documentElement.scrollHeight - innerHeight,
          bar: innerHeight - document.getElementById("bar").getBoundingClientRect().bottom,
          answer: document.getElementById("answer-left").clientHeight,
          scrolls: [...document.querySelectorAll(".text")]
            .map((e) => e.scrollHeight > e.clientHeight),
        })"""
    )
    assert sizes["wide"] <= 0
    assert sizes["high"] <= 0
    assert sizes["bar"] >= 0  # the buttons can be seen
    assert sizes["answer"] > 200
    assert sizes["scrolls"] == [True] * 3


UNITS = ["word ", "x", "\0", "a\0", "line\n", "\U0001f600"]


@pytest.mark.parametrize("unit", sampled(UNITS, "a\0", "\U0001f600"))
def test_answers_of_a_megabyte_are_few_elements_of_bounded_length(store, serve, visit, unit):
    """One paragraph of a megabyte takes a browser a minute; so would a million elements."""
    text = unit * (1_000_000 // len(unit.encode()))
    store.add([Comparison("Prompt", (f"A{text}", f"B{text}"))])
    watched = visit(serve(StoreDesk(store), rater="Ada")).open()
    shown = "".join(watched.text(f"#answer-{side}") for side in ("left", "right"))
    assert shown.count("\\x00") == 2 * text.count("\0")
    visible = text.replace("\0", "").strip()
    assert len(visible) < 2 or visible in shown.replace("\\x00", "")
    ours = watched.page.eval_on_selector_all(".text *", "all => all.map((e) => e.textContent)")
    assert len(ours) < 24_000
    assert max(map(len, ours)) <= 20_000
    assert not re.search("[\ufffd\ud800-\udfff]", "".join(ours))  # no half of a character
    watched.press("1", then="body[data-state=resting]")
    assert len(list(store.votes())) == 1
    watched.assert_clean()


def test_a_long_answer_is_one_paragraph_and_a_longer_one_is_cut_between_lines(store, serve, visit):
    lines = [f"line {number} of the answer" for number in range(3000)]
    store.add([Comparison("Prompt", ("\n".join(lines), "x" * 10_000))])
    watched = visit(serve(StoreDesk(store), rater="Ada")).open()
    blocks = watched.page.eval_on_selector_all(".block", "all => all.map((e) => e.textContent)")
    assert "".join(blocks) == "\n".join(lines)
    assert all(block.endswith("\n") for block in blocks[:-1])
    assert len(blocks) > 3
    assert {watched.text("#answer-left"), watched.text("#answer-right")} == {
        "\n".join(lines),
        "x" * 10_000,
    }
