"""Learning curves and pictures."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace

import pytest

from llm_gym.feedback.preferences import Preference
from llm_gym.feedback.reward_model import (
    RewardModelConfig,
    draw_evaluation,
    draw_learning_curve,
    evaluate_differences,
    learning_curve,
)
from llm_gym.feedback.reward_model import curve as curve_module
from llm_gym.feedback.reward_model.curve import doublings
from tests.feedback.reward_model.worlds import preferences

TRAIN, HELD_OUT = preferences(160, seed=0), preferences(60, seed=1)
QUICK = RewardModelConfig(learning_rate=2e-3, epochs=2, batch_size=8)


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

    def record(rows, config, **keywords):
        seen.append((config.seed, {row.prompt for row in rows}))
        measured = dict.fromkeys(("accuracy", "log_loss", "temperature"))
        return None, {"held_out": measured}

    monkeypatch.setattr(curve_module, "fit_reward_model", record)
    points = learning_curve(TRAIN, sizes=[10, 40, 80], held_out=HELD_OUT, seeds=[0, 1])
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


def test_pictures_are_drawn(tmp_path):
    rows = [Preference("p", "a", "b", {"vote_margin": n % 3 / 2}) for n in range(30)]
    with_margins = evaluate_differences([0.1 * n - 1 for n in range(30)], rows)
    draw_evaluation(with_margins, tmp_path / "deep" / "margins.png")
    plain = evaluate_differences([0.5], [Preference("p", "a", "b")])
    draw_evaluation(plain, tmp_path / "plain.png")
    points = [
        {"comparisons": size, "accuracy": {"value": 0.6 + size / 1000}, "seed": seed}
        for size in (50, 100)
        for seed in (0, 1)
    ]
    draw_learning_curve(points, tmp_path / "curve.svg")
    sizes = [path.stat().st_size for path in sorted(tmp_path.rglob("*.*g"))]
    assert len(sizes) == 3
    assert min(sizes) > 5000


def test_without_matplotlib_the_extra_is_named(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(ImportError, match=r"llm-gym\[plots\]"):
        draw_learning_curve([], tmp_path / "curve.png")


def test_the_package_is_light_to_import():
    heavy = ["torch", "transformers", "matplotlib", "tokenizers", "stable_baselines3"]
    module = "llm_gym.feedback.reward_model"
    code = f"import sys, {module}; print([n for n in {heavy} if n in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
