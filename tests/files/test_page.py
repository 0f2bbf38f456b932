from __future__ import annotations

import re
from html.parser import HTMLParser

import pytest

from llm_gym.files import (
    Chapter,
    Comparison,
    Figure,
    Report,
    Series,
    ShownAnswer,
    line_chart,
    render,
    write_report,
)

EVIL = "<script>alert(1)</script><img src=x onerror=alert(1)>\"'\x1b[0m"
VOID = {"meta", "link", "img", "br"}


class Page(HTMLParser):
    """Elements, attributes and text of a page; fails if the nesting is wrong."""

    def __init__(self, text):
        super().__init__()
        self.open, self.tags, self.attributes, self.text = [], [], [], ""
        self.feed(text)
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += attrs
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += attrs

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text += data


def report(text="plain"):
    return Report(
        title=text,
        summary=text,
        figures=[Figure(text, text, text)],
        charts=[line_chart([Series(text, [0, 1], [1, 2])], title=text, x_label=text, y_label=text)],
        models=(text, "b"),
        comparisons=[Comparison(text, (ShownAnswer(text, 12.34), ShownAnswer("", None)))],
        sections={text: {text: text}},
    )


def test_hostile_text_stays_text_everywhere():
    plain, hostile = Page(render(report())), Page(render(report(EVIL)))
    assert hostile.tags == plain.tags
    assert "script" not in hostile.tags
    assert [name for name, _ in hostile.attributes] == [name for name, _ in plain.attributes]
    assert "<script>alert(1)</script>" in hostile.text  # and it is shown
    assert "\x1b" not in hostile.text


def test_page_needs_no_other_file_and_runs_nothing():
    page = render(report())
    assert not re.search(r"https?:|url\(|@import|<script|<link|\bsrc=", page)
    assert "default-src 'none'" in page


def test_scores_are_shown_with_a_bar_in_the_range():
    page = render(report())
    assert "12.3" in page
    assert "width:12%" in page
    shown = render(
        Report("t", "s", models=("m",), comparisons=[Comparison("p", (ShownAnswer("a", 250.0),))])
    )
    assert "width:100%" in shown


def test_light_and_dark_use_the_same_variables():
    style = render(report()).partition("<style>")[2].partition("</style>")[0]
    light, dark = re.findall(r":root \{(.*?)\}", style, re.DOTALL)
    variables = [set(re.findall(r"(--\w+):", theme)) for theme in (light, dark)]
    assert variables[0] == variables[1]
    assert set(re.findall(r"var\((--\w+)\)", style)) <= variables[0]


def test_a_comparison_needs_an_answer_of_each_model():
    with pytest.raises(ValueError, match="1 answers, but there are 2 models"):
        Report("t", "s", models=("a", "b"), comparisons=[Comparison("p", (ShownAnswer("x"),))])


def test_a_chapter_has_examples_of_its_own():
    answers = ShownAnswer("<b>yes</b>"), ShownAnswer("no", note="why not")
    chapter = Chapter("Votes", models=("liked", "not"), comparisons=[Comparison("p?", answers)])
    part = render(Report("t", "s", chapters=[chapter])).split("<h2>Votes</h2>")[1]
    assert "<h3>p?</h3>" in part
    assert "&lt;b&gt;yes&lt;/b&gt;" in part
    assert part.index("<b>liked</b>") < part.index("yes") < part.index("<b>not</b>")
    with pytest.raises(ValueError, match="2 answers, but there are 1 models"):
        Report("t", "s", chapters=[Chapter("V", models=("a",), comparisons=chapter.comparisons)])


def test_written_file_is_the_page(tmp_path):
    path = write_report(report(), tmp_path / "out" / "report.html")
    assert path.read_text(encoding="utf-8") == render(report())
