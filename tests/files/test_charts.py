from __future__ import annotations

import itertools
import math
from xml.etree import ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llm_gym.files.charts import Series, line_chart, ticks

finite = st.floats(-1e9, 1e9).map(lambda x: round(x, 6))


@given(finite, finite)
def test_ticks_cover_the_range_with_few_even_round_steps(a, b):
    low, high = min(a, b), max(a, b)
    positions = ticks(low, high)
    slack = 0.021 * (positions[1] - positions[0])
    assert positions[0] <= low + slack
    assert positions[-1] >= high - slack
    assert 2 <= len(positions) <= 8
    steps = [y - x for x, y in itertools.pairwise(positions)]
    assert max(steps) == pytest.approx(min(steps), rel=1e-3)
    mantissa = steps[0] / 10 ** math.floor(math.log10(steps[0]) + 1e-6)
    assert min(abs(mantissa - m) for m in (1, 2, 5, 10)) < 1e-2


def test_ticks_of_known_ranges():
    assert ticks(0, 10) == [0, 2, 4, 6, 8, 10]
    assert ticks(-1e-7, 78) == [0, 20, 40, 60, 80]
    assert ticks(38, 85) == [30, 40, 50, 60, 70, 80, 90]
    assert ticks(3, 3)[0] < 3 < ticks(3, 3)[-1]
    assert ticks(0, 0)[0] < 0 < ticks(0, 0)[-1]


def draw(*series, **kwargs):
    labels = {"title": "t", "x_label": "x", "y_label": "y", **kwargs}
    return ElementTree.fromstring(line_chart(series, **labels))


def points(figure):
    return [
        [tuple(map(float, pair.split(","))) for pair in line.get("points").split()]
        for line in figure.iter("polyline")
    ]


def test_curve_goes_through_its_points_in_scale():
    [curve] = points(draw(Series("s", [0, 5, 10], [0, 10, 5])))
    (x0, y0), (x1, y1), (x2, y2) = curve
    assert x1 - x0 == pytest.approx(x2 - x1)
    assert y0 - y1 == pytest.approx(2 * (y2 - y1), abs=0.2)  # y grows downwards


def test_line_is_interrupted_where_a_value_is_missing():
    figure = draw(Series("s", [0, 1, 2, 3, 4], [1, 2, math.nan, 4, 5]))
    assert [len(curve) for curve in points(figure)] == [2, 2]


def test_single_point_is_a_dot_not_an_empty_line():
    figure = draw(Series("s", [7], [1.5]))
    assert points(figure) == []
    assert any("dot" in circle.get("class") for circle in figure.iter("circle"))


@pytest.mark.parametrize("series", [[], [Series("s", [], [])], [Series("s", [1], [math.inf])]])
def test_says_so_when_there_is_nothing_to_draw(series):
    figure = draw(*series)
    assert "nothing was recorded" in "".join(figure.itertext())
    assert figure.find("svg") is None


def test_legend_only_for_several_curves_and_reference_line_with_its_name():
    alpha = Series("alpha", [0, 1], [0, 1])
    assert "alpha" not in "".join(draw(alpha).find("figcaption").itertext())
    both = draw(alpha, Series("beta", [0, 1], [1, 0]), reference=("before", 0.5))
    assert {"alpha", "beta"} <= {key.find("i").tail for key in both.iter("span")}
    assert "before" in [text.text for text in both.iter("text")]


def test_names_are_escaped():
    figure = draw(Series("<b>", [0, 1], [0, 1]), title="<i>", reference=("<u>", 1.0))
    assert [*figure.iter("b"), *figure.iter("i"), *figure.iter("u")] == []


def test_lengths_must_agree():
    with pytest.raises(ValueError, match="2 positions but 1 values"):
        Series("s", [1, 2], [1])
