"""What is too long to be read is an error by place, left out, or cut; never in silence."""

from __future__ import annotations

import json
import re
import warnings
from dataclasses import replace

import pytest
import typer
from typer.testing import CliRunner

from llm_gym.cli.reward_model import reward_model
from llm_gym.feedback.preferences import Preference, write_preferences
from llm_gym.feedback.reward_model import RatingModelConfig, RewardModelConfig, learning_curve
from llm_gym.feedback.reward_model.comparisons import fit_reward_model
from llm_gym.feedback.reward_model.ratings import fit_rating_model
from llm_gym.files.rows import DataWarning, TooLongError
from tests.feedback.reward_model.worlds import preferences, texts_and_ratings

LONG = " ".join(["w9"] * 40)
ROWS = preferences(60)
ROWS[3] = replace(ROWS[3], chosen=f"{LONG} w1")
ROWS[8] = replace(ROWS[8], rejected=f"{LONG} w2")
TEXTS, RATINGS = texts_and_ratings(40)
TEXTS[5] = f"{LONG} w1"


@pytest.fixture
def config(tiny_dir):
    def make(kind=RewardModelConfig, **more):
        return kind(
            **{"head": "finetune", "model": tiny_dir(), "epochs": 1, "max_length": 20} | more
        )

    return make


def fit(config, rows=ROWS, **more):
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        _, metrics = fit_reward_model(rows, config, quiet=True, **more)
    return metrics, [str(each.message) for each in told if each.category is DataWarning]


def rate(config, **more):
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        _, metrics = fit_rating_model(TEXTS, RATINGS, config, quiet=True, **more)
    return metrics, [str(each.message) for each in told if each.category is DataWarning]


@pytest.mark.parametrize("template", ["auto", "pair", "{prompt} {completion}"])
def test_a_comparison_that_is_too_long_is_named(config, template):
    with pytest.raises(
        TooLongError, match=r"preferences\[3\] has 4\d tokens, more than max_length"
    ):
        fit(config(template=template))


@pytest.mark.parametrize("side", [3, 8])
def test_either_answer_may_be_the_one_that_is_too_long(config, side):
    rows = [row for index, row in enumerate(ROWS) if index in (side, *range(10, 60))]
    with pytest.raises(TooLongError, match=r"preferences\[0\] has"):
        fit(config(), rows)


def test_the_limit_is_the_model_s_where_none_is_given(config):
    assert fit(config(max_length=0)) is not None
    rows = [*ROWS, replace(ROWS[9], chosen=" ".join(["w1"] * 70))]
    with pytest.raises(TooLongError, match=r"\[60\] has 7\d tokens, more than the 64 that the mod"):
        fit(config(max_length=0), rows)


def test_what_is_dropped_or_cut_is_counted_and_said_once(config):
    metrics, told = fit(config(too_long="drop"))
    assert metrics["comparisons"] + metrics["held_out"]["comparisons"] == 58
    assert (metrics["too_long"], metrics["cut"]) == (2, 0)
    assert len(told) == 1
    assert told[0].startswith("2 of 60 comparisons are too long and are left out (preferences[3]")
    metrics, told = fit(config(too_long="truncate"), held_out=ROWS[20:30])
    assert (metrics["too_long"], metrics["cut"], metrics["comparisons"]) == (0, 2, 60)
    assert len(told) == 1
    assert told[0].startswith("2 of 60 comparisons are too long and are cut (preferences[3]")


def test_what_fits_exactly_is_neither_cut_nor_spoken_of(config):
    words = [Preference(f"w{n}", f"w1 w1 w{n}", "w2 w3 w4") for n in range(3, 23)]
    metrics, told = fit(config(max_length=4, template="{prompt} {completion}"), words)
    assert (metrics["cut"], told) == (0, [])
    with pytest.raises(TooLongError, match="has 4 tokens, more than max_length=3"):
        fit(config(max_length=3, template="{prompt} {completion}"), words)


def test_held_out_comparisons_are_held_to_the_same_length(config):
    with pytest.raises(TooLongError, match=r"held_out\[0\] has"):
        fit(config(), ROWS[10:], held_out=[ROWS[3], *ROWS[50:]])
    metrics, told = fit(config(too_long="drop"), ROWS[10:], held_out=[ROWS[3], *ROWS[50:]])
    assert metrics["held_out"]["comparisons"] == 10
    assert metrics["too_long"] == 1
    assert told[0].startswith("1 of 11 held-out comparisons are too long and are left out")


def test_a_learning_curve_says_it_once(config):
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        points = learning_curve(ROWS, config(too_long="drop"), sizes=[20, 40], quiet=True)
    assert [point["comparisons"] for point in points] == [20, 40]
    assert len([each for each in told if each.category is DataWarning]) == 1


def test_too_few_comparisons_that_are_short_enough_are_too_few(config):
    rows = [*ROWS[10:18], *(replace(row, chosen=f"{LONG} {row.chosen}") for row in ROWS[20:30])]
    with pytest.warns(DataWarning), pytest.raises(ValueError, match="comparisons to train on, too"):
        fit_reward_model(rows, config(too_long="drop"), quiet=True)


def test_rated_texts_are_held_to_the_same_length(config):
    settings = config(RatingModelConfig)
    with pytest.raises(TooLongError, match=r"texts\[5\] has 41 tokens, more than max_length=20"):
        rate(settings)
    metrics, told = rate(replace(settings, too_long="drop"))
    assert metrics["texts"] + metrics["held_out"]["spearman"]["n"] == 39
    assert metrics["too_long"] == 1
    assert len(told) == 1
    assert "1 of 40 texts are too long and are left out (texts[5]" in told[0]
    metrics, told = rate(replace(settings, too_long="truncate"))
    assert metrics["texts"] + metrics["held_out"]["spearman"]["n"] == 40
    assert "1 of 40 texts are too long and are cut" in told[0]
    held_out = ([LONG, *TEXTS[10:20]], [1.0, *(row[0] for row in RATINGS[10:20])])
    metrics, told = rate(replace(settings, too_long="drop"), held_out=held_out)
    assert metrics["held_out"]["spearman"]["n"] == 10
    assert "1 of 11 held-out texts are too long and are left out" in told[1]


@pytest.mark.parametrize("ratings", [False, True])
def test_the_command_names_the_line_and_knows_the_option(tmp_path, tiny_dir, ratings):
    app = typer.Typer()
    app.command()(reward_model)
    if ratings:
        rows = [{"text": t, "ratings": r} for t, r in zip(TEXTS, RATINGS, strict=True)]
        data, line, more = tmp_path / "stars.jsonl", 6, ["--ratings"]
        data.write_text("\n".join(map(json.dumps, rows)))
    else:
        data = write_preferences(tmp_path / "rows.jsonl", ROWS)
        line, more = 4, ["--learning-curve"]
    arguments = [str(data), "--model", tiny_dir(), "--output", str(tmp_path / "out"), *more]
    arguments += ["--max-length", "20", "--head", "finetune", "--batch-size", "8", "--epochs", "1"]
    refused = CliRunner().invoke(app, arguments)
    problem = re.escape(str(data)) + rf", line {line} has 4\d tokens, more than max_length=20; "
    assert re.match(problem + r".*\(--too-long\)", str(refused.exception))
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("default")
        done = CliRunner().invoke(app, [*arguments, "--too-long", "drop"])
    assert done.exit_code == 0, done.exception
    assert len([each for each in told if each.category is DataWarning]) == 1
