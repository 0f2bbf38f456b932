"""`llm-gym reward-model`: from a file or a store to a model, and what it says."""

from __future__ import annotations

import json

import pytest
import typer
from typer.testing import CliRunner

from llm_gym.cli.reward_model import EXAMPLES, reward_model
from llm_gym.feedback.preferences import Choice, Comparison, PreferenceStore, write_preferences
from llm_gym.feedback.reward_model import RewardModelScorer
from llm_gym.feedback.reward_model.rated_texts import read_ratings
from tests.feedback.reward_model.worlds import preferences, texts_and_ratings

QUICK = ["--head", "finetune", "--epochs", "1", "--learning-rate", "2e-3", "--batch-size", "8"]


@pytest.fixture
def run(tiny_dir, tmp_path):
    app = typer.Typer()
    app.command(epilog=EXAMPLES)(reward_model)

    def call(data, *arguments):
        line = [str(data), "--model", tiny_dir(), "--output", str(tmp_path / "out"), *QUICK]
        return CliRunner().invoke(app, [*line, *arguments])

    return call


def test_from_a_preference_file(run, tmp_path):
    data = write_preferences(tmp_path / "rows.jsonl", preferences(120))
    done = run(data, "--held-out-share", "0.3")
    assert done.exit_code == 0, done.output
    assert "held-out accuracy 0." in done.output or "held-out accuracy 1." in done.output
    assert f"model:  {tmp_path / 'out' / 'model'}" in done.output
    assert len(RewardModelScorer(tmp_path / "out" / "model")(["w1"], ["w2 w3"])) == 1
    assert (tmp_path / "out" / "report.html").read_text(encoding="utf-8").count("<svg") == 2


@pytest.mark.parametrize("ratings", [False, True])
def test_the_defaults_say_what_they_are_made_of_and_what_words_alone_give(
    ratings, tiny_dir, tmp_path
):
    app = typer.Typer()
    app.command()(reward_model)
    data, more = tmp_path / "rows.jsonl", []
    if ratings:
        texts, values = texts_and_ratings(80)
        rows = [{"text": t, "ratings": of} for t, of in zip(texts, values, strict=True)]
        data.write_text("\n".join(map(json.dumps, rows)))
        more = ["--ratings"]
    else:
        write_preferences(data, preferences(120))
    line = [str(data), "--model", tiny_dir(), "--output", str(tmp_path / "out"), *more]
    done = CliRunner().invoke(app, line)
    assert done.exit_code == 0, done.output
    assert "TF-IDF of words and pairs of words, on the same: " in done.output
    assert "paired)" in done.output
    assert "made of words (" in done.output
    metrics = json.loads((tmp_path / "out" / "model" / "metrics.json").read_text())
    own = metrics["held_out"]["spearman" if ratings else "accuracy"]["value"]
    rival = metrics["tfidf"]["spearman" if ratings else "accuracy"]["value"]
    assert metrics["tfidf"]["gain"]["value"] == pytest.approx(own - rival)
    page = (tmp_path / "out" / "report.html").read_text(encoding="utf-8")
    assert "What each layer knows by itself" in page
    refused = CliRunner().invoke(app, [*line, "--epochs", "2"])
    assert "epochs=2 is for gradient steps" in str(refused.exception)


def test_from_a_store_of_votes(run, tmp_path):
    path = tmp_path / "votes.db"
    rows = preferences(60)
    with PreferenceStore(path) as store:
        ids = store.add(Comparison(row.prompt, (row.chosen, row.rejected)) for row in rows)
        for number, comparison in enumerate(ids):
            store.vote(comparison, "ann", Choice.FIRST, seconds=1.0, shown_first=number % 2)
    done = run(path)
    assert done.exit_code == 0, done.output
    metrics = json.loads((tmp_path / "out" / "model" / "metrics.json").read_text())
    assert metrics["comparisons"] + metrics["held_out"]["comparisons"] == 60
    assert set(metrics["held_out"]["agreement_by_rater"]) == {"ann"}


def test_a_learning_curve_on_request(run, tmp_path):
    data = write_preferences(tmp_path / "rows.jsonl", preferences(120))
    done = run(data, "--learning-curve")
    assert done.exit_code == 0, done.output
    points = json.loads((tmp_path / "out" / "learning_curve.json").read_text())
    sizes = [point["comparisons"] for point in points]
    assert sizes[:2] == [50, 100]
    for size in sizes:
        assert f"{size:>8} comparisons: accuracy" in done.output
    assert (tmp_path / "out" / "report.html").read_text(encoding="utf-8").count("<svg") == 3


def test_from_ratings(run, tmp_path):
    texts, ratings = texts_and_ratings(80)
    rows = [
        {"text": text, "ratings": of_text} for text, of_text in zip(texts, ratings, strict=True)
    ]
    data = tmp_path / "stars.jsonl"
    data.write_text("\n".join(map(json.dumps, rows)))
    done = run(data, "--ratings")
    assert done.exit_code == 0, done.output
    assert "held-out rank correlation with the mean rating" in done.output
    refused = run(data, "--ratings", "--margin", "1")
    assert "--margin is for comparisons" in str(refused.exception)
    refused = run(data, "--ratings", "--learning-curve")
    assert "--learning-curve needs comparisons" in str(refused.exception)


def test_ratings_may_be_one_many_or_missing(tmp_path):
    path = tmp_path / "stars.jsonl"
    path.write_text('{"text": "a", "ratings": 3}\n{"text": "b", "ratings": [1, null, 2.5]}\n')
    texts, table = read_ratings(path)
    assert texts == ["a", "b"]
    assert str(table.tolist()) == "[[3.0, nan, nan], [1.0, nan, 2.5]]"


@pytest.mark.parametrize("ratings", ['"good"', "null", "[true]", '[1, "2"]'])
def test_ratings_that_are_none_are_named(ratings, tmp_path):
    path = tmp_path / "stars.jsonl"
    path.write_text(f'{{"text": "a", "ratings": 3}}\n{{"text": "b", "ratings": {ratings}}}\n')
    with pytest.raises(ValueError, match='line 2: "ratings" must be a number or a list'):
        read_ratings(path)


def test_a_text_without_a_rating_is_named_or_left_out(tmp_path):
    rows = [{"text": "a", "ratings": 3}]
    for value in (float("nan"), [], [None], float("inf"), [1, float("-inf")]):
        with pytest.raises(ValueError, match=r"ratings\[1\]: .*(is not rated|must be finite)"):
            read_ratings([*rows, {"text": "b", "ratings": value}])
        with pytest.warns(UserWarning, match="1 of 2 rows cannot be read"):
            texts, table = read_ratings([*rows, {"text": "b", "ratings": value}], bad_rows="skip")
        assert (texts, table.tolist()) == (["a"], [[3.0]])


def test_a_missing_store_is_not_made(run, tmp_path):
    done = run(tmp_path / "none.db")
    assert "there is no preference store" in str(done.exception)
    assert not (tmp_path / "none.db").exists()


def test_a_directory_that_is_no_model_is_left_alone(run, tmp_path):
    data = write_preferences(tmp_path / "rows.jsonl", preferences(60))
    (tmp_path / "out" / "model").mkdir(parents=True)
    (tmp_path / "out" / "model" / "thesis.txt").write_text("mine")
    done = run(data)
    assert "holds no run of llm_gym" in str(done.exception)
    assert (tmp_path / "out" / "model" / "thesis.txt").read_text() == "mine"
