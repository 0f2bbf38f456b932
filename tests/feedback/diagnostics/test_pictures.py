"""Pictures of proxy and gold."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest

from llm_gym.feedback.diagnostics import (
    GoldProxyCurve,
    gold_proxy_charts,
    write_pictures,
)
from llm_gym.statistics.scaling_laws import law_value

D = np.linspace(0, 3, 13)


def curve(name="small <proxy>"):
    gold = law_value("best_of_n", D, 2.0, 0.5)
    return GoldProxyCurve(name, tuple(D), tuple(2.0 * D), tuple(gold))


def test_rows_become_gains_over_the_first_and_roots_of_divergences():
    rows = [
        {"kl": -1e-4, "proxy": 1.0, "gold": 5.0},
        {"proxy": 9.0, "gold": 9.0},
        {"kl": 4.0, "proxy": 3.0, "gold": 4.5},
    ]
    made = GoldProxyCurve.of_rows(rows, name="run")
    assert (made.distance, made.proxy, made.gold) == ((0.0, 2.0), (0.0, 2.0), (0.0, -0.5))
    assert made.fit("rl") is None  # one distance above 0 is too few


def test_charts_show_every_point_once_and_the_fitted_line():
    [chart] = gold_proxy_charts([curve()], law="best_of_n")
    assert chart.count('r="3"') == 2 * len(D)  # dots
    assert chart.count("<polyline") == 1  # nothing joins them but the law
    assert "small &lt;proxy&gt;" in chart
    assert "law fitted to gold" in chart
    assert "<script" not in chart


def test_everything_there_is_to_see(tmp_path):
    write_pictures([curve("a"), curve("b")], tmp_path, law="best_of_n")
    fits = json.loads((tmp_path / "fits.json").read_text())
    assert fits["a"]["peak_distance"] == pytest.approx(2.0)
    page = (tmp_path / "gold_proxy.html").read_text(encoding="utf-8")
    assert page.count("<svg") == 2
    assert "peak at √KL 2.00" in page
    assert "src=" not in page.replace("default-src", "").replace("img-src", "")
    assert {path.name for path in tmp_path.iterdir()} == {"fits.json", "gold_proxy.html"}


def test_a_curve_without_points_to_fit_is_still_drawn(tmp_path):
    flat = GoldProxyCurve("start", (0.0,), (0.0,), (0.0,))
    write_pictures([flat], tmp_path, law="rl")
    assert json.loads((tmp_path / "fits.json").read_text()) == {"start": None}
    assert "no fit" in (tmp_path / "gold_proxy.html").read_text(encoding="utf-8")


def test_bad_curves_are_refused():
    with pytest.raises(ValueError, match="2, 1 and 1 points"):
        GoldProxyCurve("x", (0.0, 1.0), (0.0,), (0.0,))
    with pytest.raises(ValueError, match="has no points"):
        GoldProxyCurve("x", (), (), ())
    with pytest.raises(ValueError, match="NaN"):
        GoldProxyCurve("x", (0.0, 1.0, 2.0), (0.0,) * 3, (0.0, math.nan, 0.0)).fit("rl")
