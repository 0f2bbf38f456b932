"""Scatter charts and chapters."""

from __future__ import annotations

import re

import pytest

from llm_gym.files import Chapter, Comparison, Report, Series, ShownAnswer, render, scatter_chart


def points(chart):
    return [
        tuple(map(float, position))
        for position in re.findall(r'<circle class="s\d point" cx="([\d.]+)" cy="([\d.]+)"', chart)
    ]


def test_points_stand_where_their_values_are():
    chart = scatter_chart(
        [Series("a", [10, 0, 5], [1, 0, 0.5])], title="t", x_label="x", y_label="y"
    )
    # The frame is 560 x 260 with margins of 62, 14, 12 and 40; x runs from 0 to 10, y from 0 to 1.
    assert points(chart) == [(546, 12), (62, 220), (304, 116)]
    assert "<title>a: 0.5 at 5</title>" in chart


def test_points_that_are_not_finite_are_left_out_and_an_empty_chart_says_so():
    nan = float("nan")
    chart = scatter_chart(
        [Series("a", [0, 1, 2], [0, nan, 1]), Series("b", [1], [float("inf")])],
        title="t", x_label="x", y_label="y",
    )  # fmt: skip
    assert len(points(chart)) == 2
    assert "nothing was recorded" in scatter_chart(
        [Series("a", [], [])], title="t", x_label="x", y_label="y"
    )


def test_diagonal_joins_equal_values_inside_the_frame():
    chart = scatter_chart(
        [Series("a", [0.5, 1], [0.2, 1])], title="t", x_label="x", y_label="y", diagonal=True
    )
    match = re.search(
        r'class="diagonal" x1="([\d.]+)" x2="([\d.]+)" y1="([\d.]+)" y2="([\d.]+)"', chart
    )
    x1, x2, y1, y2 = map(float, match.groups())
    assert (x1, x2) == (62, 546)  # 0.5 and 1 on the x axis
    # The y axis runs from 0.2 to 1, so 0.5 is 0.3 of 0.8 up.
    assert (y1, y2) == (pytest.approx(220 - 208 * 0.3 / 0.8), 12)
    apart = scatter_chart(
        [Series("a", [5, 6], [0, 1])], title="t", x_label="x", y_label="y", diagonal=True
    )
    assert "diagonal" not in apart


def test_chapters_stand_between_figures_and_answers_and_are_escaped():
    page = render(
        Report(
            title="t",
            summary="s",
            chapters=[Chapter("<b>1</b>", "a & b", {"<i>": "<u>"}, ["<figure>chart</figure>"])],
            models=("m",),
            comparisons=[Comparison("the prompt", (ShownAnswer("text", 1.0, "<em>note</em>"),))],
        )
    )
    for text in ("&lt;b&gt;1&lt;/b&gt;", "a &amp; b", "&lt;i&gt;", "&lt;u&gt;", "&lt;em&gt;note"):
        assert text in page
    assert page.index("a &amp; b") < page.index("<figure>chart</figure>") < page.index("the prompt")
