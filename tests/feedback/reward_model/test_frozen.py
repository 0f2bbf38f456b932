"""Reward models on a frozen trunk: what is chosen, what is saved, and that words are no loss."""

from __future__ import annotations

import random
from dataclasses import replace

import numpy as np
import pytest
import torch

from llm_gym.feedback.preferences import Preference
from llm_gym.feedback.reward_model import (
    RatingModelConfig,
    RewardModelConfig,
    RewardModelScorer,
    differences_of,
    fit_rating_model,
    fit_reward_model,
    frozen,
    train_rating_model,
    train_reward_model,
)
from llm_gym.feedback.reward_model.fitting import scorer_to_train
from llm_gym.feedback.reward_model.layers import (
    Features,
    Reading,
    Target,
    choose_layers,
    readings,
    standardised,
)
from llm_gym.feedback.reward_model.parts import Part, Task, deal, weigh
from llm_gym.scorers import SequenceClassifierScorer
from llm_gym.scorers.by_name import scorer_from_name
from tests.feedback.reward_model.worlds import preferences, save_bert, texts_and_ratings
from tests.products import covering

ROWS, HELD_OUT = preferences(120), preferences(60, seed=1)
TEXTS, RATINGS = texts_and_ratings(160)


def rewards(scorer, rows):
    prompts, answers = [row.prompt for row in rows], [row.chosen for row in rows]
    return np.asarray(scorer(prompts, answers))


# ------------------------------------------------------------------ whole


@pytest.mark.parametrize(
    ("head", "architecture"), covering(["auto", "encoder", "words"], ["llama", "bert", "gpt2"])
)
def test_comparisons_are_learnt_saved_and_scored_alike(head, architecture, tiny_dir, tmp_path):
    bert = architecture == "bert"
    source = save_bert(tmp_path / "bert", with_head=False) if bert else tiny_dir(architecture)
    config = RewardModelConfig(model=source, head=head)
    metrics = train_reward_model(ROWS, tmp_path / "r", config, held_out=HELD_OUT, quiet=True)
    assert metrics["held_out"]["accuracy"]["value"] > (0.7 if head == "encoder" else 0.9)
    assert metrics["head"]["words"] is None if head == "encoder" else metrics["head"]["words"]
    assert metrics["centred"]
    assert metrics["mean_reward"] == pytest.approx(0, abs=1e-5)
    scorer = RewardModelScorer(tmp_path / "r")
    values = rewards(scorer, HELD_OUT)
    by_name = scorer_from_name(f"reward:{tmp_path / 'r'}")
    np.testing.assert_allclose(rewards(by_name, HELD_OUT), values, atol=1e-6)
    margins = differences_of(scorer, HELD_OUT)
    rejected = [replace(row, chosen=row.rejected, rejected=row.chosen) for row in HELD_OUT]
    np.testing.assert_allclose(margins, values - rewards(scorer, rejected), atol=1e-5)
    right = np.mean(np.sign(margins) / 2 + 0.5)
    assert metrics["held_out"]["accuracy"]["value"] == pytest.approx(right)
    answers = {(r.prompt, text) for r in ROWS for text in (r.chosen, r.rejected)}
    mean = np.mean(scorer([prompt for prompt, _ in answers], [text for _, text in answers]))
    assert mean == pytest.approx(0, abs=1e-4)


@pytest.mark.parametrize("head", ["auto", "encoder", "words"])
def test_ratings_are_learnt_in_their_own_units(head, tiny_dir, tmp_path):
    config = RatingModelConfig(model=tiny_dir(), head=head, rater_noise="weight")
    metrics = train_rating_model(TEXTS, RATINGS, tmp_path / "r", config, quiet=True)
    assert metrics["held_out"]["spearman"]["value"] > 0.6
    assert metrics["offset"] == 0
    scorer = RewardModelScorer(tmp_path / "r")
    predicted = np.asarray(scorer([""] * len(TEXTS), TEXTS))
    means = np.mean(RATINGS, axis=1)
    assert predicted.mean() == pytest.approx(means.mean(), abs=0.7)
    assert np.sqrt(np.mean((predicted - means) ** 2)) < means.std()


def test_a_plain_classifier_refuses_what_it_cannot_read(tiny_dir, tmp_path):
    config = RewardModelConfig(model=tiny_dir())
    train_reward_model(ROWS, tmp_path / "r", config, held_out=HELD_OUT, quiet=True)
    with pytest.raises(ValueError, match="not a complete sequence classifier"):
        SequenceClassifierScorer(tmp_path / "r")
    with pytest.raises(ValueError, match="there is nothing to train further; start from"):
        scorer_to_train(RewardModelConfig(model=str(tmp_path / "r"), head="finetune"))


def test_the_same_data_give_the_same_model(tiny_dir):
    config = RewardModelConfig(model=tiny_dir())
    both = [fit_reward_model(ROWS, config, held_out=HELD_OUT, quiet=True)[0] for _ in range(2)]
    assert rewards(both[0], HELD_OUT).tolist() == rewards(both[1], HELD_OUT).tolist()


def test_the_trunk_is_left_as_it_was(tiny_dir):
    config = RewardModelConfig(model=tiny_dir())
    scorer, metrics = fit_reward_model(ROWS, config, held_out=HELD_OUT, quiet=True)
    first, _ = scorer_to_train(config)
    kept = scorer.model.trunk.state_dict()
    assert kept
    assert all(torch.equal(first.model.trunk.state_dict()[name], kept[name]) for name in kept)
    assert metrics["loss"] == []


def test_stored_types_are_those_that_were_measured(tiny_dir, tmp_path):
    config = RewardModelConfig(model=tiny_dir(), weights="bfloat16")
    scorer, _ = fit_reward_model(ROWS, config, held_out=HELD_OUT, quiet=True)
    train_reward_model(ROWS, tmp_path / "r", config, held_out=HELD_OUT, quiet=True)
    np.testing.assert_allclose(
        rewards(RewardModelScorer(tmp_path / "r"), HELD_OUT), rewards(scorer, HELD_OUT), atol=1e-5
    )


# ------------------------------------------------------------------ choices


def test_what_does_not_predict_counts_nothing(tiny_dir):
    """The order of words decides, which words alone do not tell; then only words do."""
    rng = random.Random(0)
    rows = []
    for n in range(200):
        words = [f"w{rng.randrange(2, 12)}" for _ in range(4)]
        rows.append(Preference(f"p{n}", " ".join(["w1", *words]), " ".join([*words, "w0"])))
    _, metrics = fit_reward_model(rows, RewardModelConfig(model=tiny_dir()), quiet=True)
    assert metrics["held_out"]["accuracy"]["value"] == 1
    assert metrics["head"]["both"] <= metrics["head"]["words"]["loss"] + 1e-9
    assert metrics["head"]["both"] <= metrics["head"]["states"]["loss"] + 1e-9


def test_noise_is_no_worse_than_chance_says(tiny_dir):
    rng = random.Random(0)
    texts = [" ".join(f"w{rng.randrange(20)}" for _ in range(5)) for _ in range(400)]
    rows = [Preference(f"p{n}", texts[n], texts[200 + n]) for n in range(200)]
    _, metrics = fit_reward_model(
        rows[:140], RewardModelConfig(model=tiny_dir()), held_out=rows[140:], quiet=True
    )
    assert abs(metrics["held_out"]["accuracy"]["value"] - 0.5) < 0.26  # 4 standard errors of 60
    assert metrics["held_out"]["log_loss"] < 1.0


def test_the_chosen_layer_is_the_one_that_knows():
    rng = np.random.default_rng(0)
    values = rng.normal(size=(4, 300, 8)).astype(np.float32)
    truth = values[2] @ rng.normal(size=8)
    features = Features(values, np.arange(300)[None])
    target = Target(truth + 5, np.ones(300), free=True)
    choice = choose_layers(features, readings(4, 1000), target, deal(map(str, range(300)), 0))
    assert choice.reading == Reading((2,))
    assert dict(choice.alone)[2] > 0.8 > 0.3 > dict(choice.alone)[1]
    assert choice.predictions.mean() == pytest.approx(truth.mean() + 5, abs=0.3)
    assert np.corrcoef(choice.predictions, truth)[0, 1] > 0.9


@pytest.mark.parametrize("free", [True, False])
@pytest.mark.parametrize("width", [5, 90])
def test_left_out_predictions_are_those_of_the_obvious_loop(width, free):
    """Whether there are more rows or more columns; and a row of trust 0 counts nothing."""
    rng = np.random.default_rng(1)
    columns = standardised(rng.normal(2, 3, size=(60, width)).astype(np.float32), free=free)[0]
    trust = np.where(np.arange(60) == 7, 0.0, rng.uniform(0.5, 2, size=60))
    target = Target(rng.normal(size=60), trust, free=free)
    folds = deal([str(n) for n in range(60)], 0)
    features = Features(columns[None], np.arange(60)[None])
    found = choose_layers(features, [Reading((0,))], target, folds)
    expected = np.zeros(60)
    for fold in range(5):
        train = folds != fold
        trust, part = target.trust[train], columns[train].astype(np.float64)
        mean = trust @ target.values[train] / trust.sum() if free else 0.0
        square = part.T * trust @ part + found.penalty * np.eye(width)
        weights = np.linalg.solve(square, part.T @ (trust * (target.values[train] - mean)))
        expected[~train] = columns[~train] @ weights + mean
    np.testing.assert_allclose(found.predictions, expected, atol=1e-4)


def test_readings_cover_all_layers_and_stay_few():
    assert readings(1, 64) == [Reading((0,))]
    wide = readings(3, 4096)
    assert wide == [Reading((0,)), Reading((1,)), Reading((2,)), Reading((1, 2), averaged=True)]
    many = readings(40, 384)
    assert len(many) <= 3 * 12 + 1
    assert all(len(reading.layers) in (1, 4, 39) for reading in many)
    assert Reading((4, 5)).split(3) == (1, Reading((1, 2)))


def test_an_averaged_reading_is_the_average():
    values = np.random.default_rng(0).normal(size=(3, 5, 4)).astype(np.float32)
    weights = np.arange(4.0)
    mean, beside = Reading((0, 2), averaged=True), Reading((0, 2))
    direct = mean.columns(values) @ weights
    np.testing.assert_allclose(beside.columns(values) @ mean.spread(weights), direct, atol=1e-5)


def test_equal_texts_and_prompts_are_in_one_fold():
    folds = deal(["a", "b", "a", "c", "d", "e", "b"], 0)
    assert folds[0] == folds[2]
    assert folds[1] == folds[6]
    assert set(folds.tolist()) == set(range(5))
    assert len(set(deal(["a"] * 10, 0).tolist())) == 5  # a single prompt cannot be left out


def test_where_nothing_helps_the_least_harm_is_taken():
    task = Task((["a"] * 4,), np.array([1.0, -1.0, 1.0, -1.0]), np.ones(4), list("abcd"))
    parts = [Part(-2 * task.values, {"loss": 9.0}), Part(-task.values, {"loss": 4.0})]
    assert weigh(parts, task).tolist() == [0.0, 1.0]


def test_many_rows_are_chosen_on_some_and_fitted_on_all(tiny_dir, monkeypatch):
    config = RewardModelConfig(model=tiny_dir(), head="encoder", hidden_layers="1", pooling="mean")
    whole, _ = fit_reward_model(ROWS, config, held_out=HELD_OUT, quiet=True)
    monkeypatch.setattr(frozen, "_MOST", 90)
    some, metrics = fit_reward_model(ROWS, config, held_out=HELD_OUT, quiet=True)
    assert metrics["head"]["chosen_on"] == 90
    correlation = np.corrcoef(differences_of(whole, HELD_OUT), differences_of(some, HELD_OUT))
    assert correlation[0, 1] > 0.95


def test_margins_and_weights_of_comparisons_count(tiny_dir):
    rows = [replace(row, columns={"weight": float(n % 2)}) for n, row in enumerate(ROWS)]
    kept = [row for row in rows if row.columns["weight"]]
    config = RewardModelConfig(model=tiny_dir(), head="words", weight_column="weight")
    weighed = fit_reward_model(rows, config, held_out=HELD_OUT, quiet=True)[0]
    plain = replace(config, weight_column="")
    alone = fit_reward_model(kept, plain, held_out=HELD_OUT, quiet=True)[0]
    assert weighed.words.weights.any()
    assert alone.words.weights.any()
    gains = [
        np.abs(differences_of(fit_reward_model(ROWS, c, held_out=HELD_OUT, quiet=True)[0], ROWS))
        for c in (plain, replace(plain, margin=2.0))
    ]
    assert gains[1].mean() > gains[0].mean() + 0.5


# ------------------------------------------------------------------ a trainable trunk


@pytest.mark.parametrize("architecture", ["gpt2", "bert"])
def test_a_trunk_is_trained_through_pooled_layers(architecture, tiny_dir, tmp_path):
    bert = architecture == "bert"
    source = save_bert(tmp_path / "bert", with_head=False) if bert else tiny_dir()
    config = RewardModelConfig(
        model=source, head="finetune", pooling="mean", hidden_layers="1-2",
        learning_rate=3e-3, epochs=3, batch_size=8,
    )  # fmt: skip
    metrics = train_reward_model(ROWS, tmp_path / "r", config, held_out=HELD_OUT, quiet=True)
    assert metrics["held_out"]["accuracy"]["value"] > 0.9
    assert metrics["head"] is None
    scorer = RewardModelScorer(tmp_path / "r")
    assert scorer.model.layers == [1, 2]
    start = scorer_to_train(config)[0].model.trunk.state_dict()
    moved = [name for name, value in scorer.model.trunk.state_dict().items()
             if not torch.equal(value, start[name])]  # fmt: skip
    assert moved


# ------------------------------------------------------------------ settings


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"head": "svm"}, "head='svm' must be one of 'auto', 'encoder', 'words', 'finetune'"),
        ({"pooling": "max"}, "pooling='max' must be one of 'auto', 'mean'"),
        ({"hidden_layers": "5-2"}, "hidden_layers='5-2' must be auto, one layer"),
        ({"hidden_layers": "top"}, "hidden_layers='top' must be auto, one layer"),
        ({"epochs": 2}, "epochs=2 is for gradient steps, and head='auto' takes none"),
        ({"head": "words", "dropout": True}, "dropout=True is for gradient steps"),
    ],
)
def test_settings_that_do_not_fit_are_named(change, message):
    with pytest.raises(ValueError, match=message):
        RewardModelConfig(**change)


def test_a_layer_that_the_model_has_not_is_named(tiny_dir):
    for head in ("auto", "finetune"):
        config = RatingModelConfig(model=tiny_dir(), hidden_layers="7", head=head)
        with pytest.raises(ValueError, match=r"the model has layers 0 .* to 2"):
            fit_rating_model(TEXTS, RATINGS, config, quiet=True)
