"""The page about a run, piece by piece, on numbers that are easily followed."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from llm_gym.stages.rlhf import page
from llm_gym.stages.rlhf.shown import scored


@pytest.mark.parametrize(
    ("gold", "ends"),
    [
        ([30.0, 68.0], (0.0, 100.0)),
        ([0.25, 0.75], (0.0, 1.0)),
        ([0.0, 1.0], (0.0, 1.0)),
        ([-2.0, 5.0], (-2.0, 100.0)),
        ([-2.0, 0.5], (-2.0, 0.5)),
        ([-4.0, -3.5], (-4.0, -3.0)),
        ([10.0, 250.0], (0.0, 250.0)),
    ],
)
def test_bars_of_scores_have_a_scale_on_which_all_are_seen(gold, ends):
    judged = {
        "sft": SimpleNamespace(gold=np.array(gold[:1])),
        "ppo": SimpleNamespace(gold=gold[1:]),
    }
    assert page._range(SimpleNamespace(judged=judged)) == ends  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("assumed", "hours", "told"),
    [
        (True, 2.0, "50, at 25 an hour (assumed)"),
        (False, 2.0, "50, at 25 an hour (given)"),
        (False, 0.0, "50, at 0 an hour (given)"),
    ],
)
def test_what_votes_cost_says_whose_price_that_is(assumed, hours, told):
    assert page._cost({"cost": 50.0, "hours": hours, "price_is_assumed": assumed}) == told


def test_curves_have_zeros_and_no_holes():
    rows: list[dict[str, Any]] = [
        {"step": 0, "kl": 0.0}, {"step": 8, "kl": None}, {"step": 16}, {"step": 24, "kl": 2.0},
    ]  # fmt: skip
    assert page._curve(rows, "kl") == ([0, 24], [0.0, 2.0])


@pytest.fixture
def drawn(monkeypatch):
    """What charts are told to draw."""
    found: list[tuple[Any, dict[str, Any]]] = []
    for name in ("line_chart", "scatter_chart"):
        monkeypatch.setattr(page, name, lambda series, **told: found.append((series, told)) or "")
    return found


def test_a_loss_is_drawn_to_the_end_of_the_steps(drawn):
    page._loss_chart("Loss", [3.0, 2.0, 1.5, 1.25])
    [([curve], told)] = drawn
    assert (curve.x, curve.y) == ([25.0, 50.0, 75.0, 100.0], [3.0, 2.0, 1.5, 1.25])
    assert told["x_label"] == "% of the steps"


def test_both_judges_have_their_axes(drawn):
    def judged(gold, reward):
        estimate = SimpleNamespace(value=0.5, low=0.25, high=0.75)
        arrays = {"gold": np.array(gold), "reward": np.array(reward)}
        return SimpleNamespace(**arrays, correlation=estimate)

    results = SimpleNamespace(
        judged={"sft": judged([30.0, 40.0], [-1.0, 1.0]), "ppo": judged([50.0], [2.0])}
    )
    summary = {"correlation_sft": 0.5, "correlation_rlhf": None}
    chapter = page._judges(results, summary)  # type: ignore[arg-type]
    [([before, after], told)] = drawn
    assert (before.name, before.x, before.y) == ("fine-tuned", [30.0, 40.0], [-1.0, 1.0])
    assert (after.name, after.x, after.y) == ("after RLHF", [50.0], [2.0])
    assert (told["x_label"], told["y_label"]) == ("gold score", "reward")
    assert list(chapter.rows.values()) == [
        "0.50 (0.25 to 0.75)",
        "not defined: all scores are the same",
    ]


def test_what_training_changed_is_told_in_its_order():
    figures = {"perplexity_before": 812.34, "perplexity": 6.5}
    assert page._change(figures, "perplexity") == "812.3 before, 6.50 after"


def test_every_tile_has_the_interval_of_its_own_figure():
    names = ["gold_sft", "gold_rlhf", "gold_gain"]
    summary = {"gold_pretrained": 5.0, "kl": 12.5}
    for place, name in enumerate(names, start=1):
        ends = {f"{name}_low": 10.0 * place - 1, f"{name}_high": 10.0 * place + 1}
        summary |= {name: 10.0 * place, **ends}
    accuracy = {
        f"reward_model_accuracy{end}": v for end, v in (("", 0.7), ("_low", 0.6), ("_high", 0.8))
    }
    tiles = {tile.label: tile for tile in page._tiles(summary | accuracy)}
    expected = {
        "gold score, fine-tuned": ("10.0", page._interval(summary, "gold_sft")),
        "gold score, after RLHF": ("20.0", page._interval(summary, "gold_rlhf")),
        "gain from RLHF": ("+30.0", page._interval(summary, "gold_gain", "+.1f")),
    }
    assert {name: (tiles[name].value, tiles[name].note) for name in expected} == expected
    assert "+29.0" in tiles["gain from RLHF"].note
    assert tiles["reward model's accuracy"].note.startswith("60.0 to 80.0 %")
    assert tiles["divergence"].value == "12.5 nats"


def test_the_answers_that_are_shown_are_the_worst_the_middle_and_the_best():
    reward = np.array([3.0, -1.0, 0.5, 9.0, 1.0])
    rows = [{"prompt": f"p{n}", "completion": f"c{n}"} for n in range(5)]
    judged = SimpleNamespace(reward=reward, gold=10 * reward, rows=rows)
    found = scored(SimpleNamespace(judged={"sft": judged}))  # type: ignore[arg-type]
    assert [comparison.prompt for comparison in found] == ["p1", "p4", "p3"]
    notes = [comparison.answers[0].note for comparison in found]
    assert notes[0] == "the least: reward -1.00, gold score -10.0"
    assert notes[1].startswith("in the middle: reward +1.00")
    assert notes[2].startswith("the most: reward +9.00")
