"""Learning curves and pictures."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace

import pytest

from llm_gym.feedback.preferences import Preference
from llm_gym.feedback.reward_model import (
    RewardModelConfig,
    evaluate_differences,
    evaluation_parts,
    learning_curve,
)
from llm_gym.feedback.reward_model import curve as curve_module
from llm_gym.feedback.reward_model.curve import doublings
from llm_gym.feedback.reward_model.pictures import learning_curve_chart, margin_chart
from tests.feedback.reward_model.worlds import preferences

TRAIN, HELD_OUT = preferences(160, seed=0), preferences(60, seed=1)
QUICK = RewardModelConfig(head="finetune", learning_rate=2e-3, epochs=2, batch_size=8)


def test_sizes_double_up_to_all_of_them():
    assert doublings(437) == [50, 100, 200, 400, 437]
    assert doublings(400) == [50, 100, 200, 400]
    assert doublings(30) == [30]


def test_more_comparisons_make_a_better_model(tiny_dir):
    config = replace(QUICK, model=tiny_dir())
    points = learning_curve(TRAIN, config, sizes=[10, 160], held_out=HELD_OUT, quiet=True)
    assert [point["comparisons"] for point in points] == [10, 160]
    first, last = (point["accuracy"] for point in points)
    assert last["value"] > max(first["value"], 0.9)
    assert first["n"] == last["n"] == 60


def test_subsets_are_nested_and_differ_between_seeds(tiny_dir, monkeypatch):
    seen = []

    def record(scorer, rows, held_out, config, **keywords):
        seen.append((config.seed, {row.prompt for row in rows}))
        measured = dict.fromkeys(("accuracy", "log_loss", "temperature"))
        return None, {"held_out": measured}

    monkeypatch.setattr(curve_module, "fit_short_comparisons", record)
    config = replace(QUICK, model=tiny_dir())
    points = learning_curve(TRAIN, config, sizes=[10, 40, 80], held_out=HELD_OUT, seeds=[0, 1])
    assert [(point["seed"], point["comparisons"]) for point in points] == [
        (seed, size) for seed in (0, 1) for size in (10, 40, 80)
    ]
    for start in (0, 3):
        small, middle, large = (prompts for _, prompts in seen[start : start + 3])
        assert small < middle < large
    assert seen[0][1] != seen[3][1]
    assert [seed for seed, _ in seen] == [0, 0, 0, 1, 1, 1]


@pytest.mark.parametrize("sizes", [[], [9, 100], [10, 161]])
def test_sizes_out_of_range_are_named(sizes):
    with pytest.raises(ValueError, match="sizes must be from 10 to 160"):
        learning_curve(TRAIN, sizes=sizes, held_out=HELD_OUT)


def test_what_a_page_shows_of_an_evaluation():
    rows = [Preference("p", "a", "b", {"vote_margin": n % 3 / 2}) for n in range(30)]
    with_margins = evaluate_differences([0.1 * n - 1 for n in range(30)], rows)
    points = [
        {"comparisons": size, "accuracy": {"value": 0.6 + size / 1000}, "seed": seed}
        for size in (50, 100)
        for seed in (0, 1)
    ]
    figures, charts = evaluation_parts(with_margins, points)
    assert len(charts) == 3
    assert "30 held-out comparisons" in figures[0].note
    assert "seed 1: 0.7 at 100" in charts[2]
    plain = evaluate_differences([0.5], [Preference("p", "a", "b")])
    assert len(evaluation_parts(plain)[1]) == 1


def test_a_learning_curve_is_the_mean_over_the_seeds_that_went_so_far():
    accuracies = {(50, 0): 0.5, (50, 1): 0.75, (100, 1): 1.0}
    chart = learning_curve_chart(
        [
            {"comparisons": size, "seed": seed, "accuracy": {"value": value}}
            for (size, seed), value in accuracies.items()
        ]
    )
    assert "mean over seeds: 0.625 at 50" in chart
    assert "mean over seeds: 1 at 100" in chart


def test_a_bin_of_margins_is_drawn_in_its_middle():
    chart = margin_chart([{"low": 0.0, "high": 0.5, "accuracy": 0.8}])
    assert "0.8 at 0.25" in chart


def test_the_package_is_light_to_import():
    heavy = ["torch", "transformers", "matplotlib", "tokenizers", "stable_baselines3"]
    module = "llm_gym.feedback.reward_model"
    code = f"import sys, {module}; print([n for n in {heavy} if n in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
