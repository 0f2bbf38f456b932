"""Training on ratings: in the raters' units, with several raters, some of them missing."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
import torch

from llm_gym.feedback.reward_model import (
    RatingModelConfig,
    RewardModelScorer,
    fit_rating_model,
    rating_weights,
    train_rating_model,
)
from llm_gym.feedback.reward_model.backbone import load_backbone
from llm_gym.feedback.reward_model.fitting import with_dropped_tokens
from tests.feedback.reward_model.worlds import save_bert, texts_and_ratings

TEXTS, RATINGS = texts_and_ratings(240, seed=0)
HELD_OUT = texts_and_ratings(60, seed=1)
QUICK = RatingModelConfig(head="finetune", learning_rate=3e-3, epochs=4, batch_size=8)


@pytest.mark.parametrize("kind", ["gpt2", "llama", "bert"])
def test_it_learns_to_rate_in_the_raters_units(kind, tiny_dir, tmp_path):
    source = save_bert(tmp_path / "source") if kind == "bert" else tiny_dir(kind)
    config = replace(QUICK, model=source)
    metrics = train_rating_model(
        TEXTS, RATINGS, tmp_path / "r", config, held_out=HELD_OUT, quiet=True
    )
    assert metrics["held_out"]["spearman"]["value"] > 0.8
    assert metrics["held_out"]["rmse"] < 2.5  # of ratings from 12 to 24 with a deviation of 4.3
    predicted = np.array(RewardModelScorer(tmp_path / "r")([""] * 60, HELD_OUT[0]))
    predicted += metrics["offset"]
    errors = predicted - np.mean(HELD_OUT[1], axis=1)
    assert metrics["held_out"]["rmse"] == pytest.approx(np.sqrt((errors**2).mean()), rel=1e-4)
    assert (metrics["offset"] == 0) == (kind != "llama")
    written = json.loads((tmp_path / "r" / "metrics.json").read_text())
    assert written["held_out"] == metrics["held_out"]


def test_one_rater_and_missing_ratings(tiny_dir):
    config = replace(QUICK, model=tiny_dir())
    means = [float(np.mean(row)) for row in RATINGS]
    _, single = fit_rating_model(TEXTS, means, config, held_out=HELD_OUT, quiet=True)
    _, table = fit_rating_model(TEXTS, RATINGS, config, held_out=HELD_OUT, quiet=True)
    assert single["loss"] == table["loss"]
    sparse = np.array(RATINGS)
    sparse[::2, 1:] = np.nan
    for noise in ("ignore", "weight"):
        config = replace(config, rater_noise=noise)
        _, metrics = fit_rating_model(TEXTS, sparse, config, held_out=HELD_OUT, quiet=True)
        assert metrics["held_out"]["spearman"]["value"] > 0.8


def test_texts_are_held_out(tiny_dir):
    config = replace(QUICK, model=tiny_dir(), epochs=1, held_out_share=0.25)
    _, metrics = fit_rating_model(TEXTS, RATINGS, config, quiet=True)
    assert (metrics["texts"], metrics["held_out"]["texts"]) == (180, 60)


def test_prompts_are_read_where_the_template_has_them(tiny_dir):
    config = replace(QUICK, model=tiny_dir(), epochs=1, template="{prompt} {completion}")
    prompts = ["w1 w1" if n % 2 else "w2" for n in range(240)]
    _, metrics = fit_rating_model(TEXTS, RATINGS, config, prompts=prompts, quiet=True)
    _, without = fit_rating_model(TEXTS, RATINGS, config, quiet=True)
    assert metrics["loss"] != without["loss"]


def test_training_goes_on_where_it_ended(tiny_dir, tmp_path):
    """Also in other units: stars instead of 12 to 24."""
    config = replace(QUICK, model=tiny_dir())
    train_rating_model(TEXTS, RATINGS, tmp_path / "r", config, held_out=HELD_OUT, quiet=True)
    stars = (np.array(RATINGS) - 12) / 3
    further = replace(config, model=str(tmp_path / "r"), learning_rate=1e-12, epochs=1)
    _, metrics = fit_rating_model(
        TEXTS, stars, further, held_out=(HELD_OUT[0], (np.array(HELD_OUT[1]) - 12) / 3), quiet=True
    )
    assert metrics["held_out"]["spearman"]["value"] > 0.8
    assert metrics["held_out"]["rmse"] < 2.5 / 3


def test_training_is_reproducible_with_dropped_tokens(tiny_dir):
    config = replace(QUICK, model=tiny_dir(), epochs=1, token_dropout=0.2)
    runs = []
    for seed in (1, 2):
        torch.manual_seed(seed)
        runs.append(fit_rating_model(TEXTS, RATINGS, config, held_out=HELD_OUT, quiet=True)[1])
    assert runs[0]["loss"] == runs[1]["loss"]
    _, plain = fit_rating_model(
        TEXTS, RATINGS, replace(config, token_dropout=0.0), held_out=HELD_OUT, quiet=True
    )
    assert plain["loss"] != runs[0]["loss"]


def test_a_large_epsilon_trains_rare_words_less(tiny_dir):
    """`w1` is in every text, `w2` in one of twenty; their gradients differ by as much."""
    texts = ["w1 w2" if index % 20 == 0 else "w1 w3" for index in range(200)]
    ratings = [float(index % 20 == 0) + 0.1 * (index % 3) for index in range(200)]
    shares = []
    for epsilon in (1e-8, 1.0):
        config = replace(
            QUICK, model=tiny_dir(), epochs=1, weight_decay=0.0, adam_epsilon=epsilon,
            learning_rate=1e-3, held_out_share=0.01,
        )  # fmt: skip
        before = load_backbone(config.model)[0].get_input_embeddings().weight
        scorer, _ = fit_rating_model(texts, ratings, config, quiet=True)
        moved = (scorer.model.get_input_embeddings().weight - before).detach().norm(dim=1)
        common, rare = (moved[scorer.tokenizer.convert_tokens_to_ids(w)] for w in ("w1", "w2"))
        shares.append(float(rare / common))
    assert shares[1] < shares[0]


def test_so_many_tokens_are_dropped():
    generator = torch.Generator().manual_seed(0)
    row = {"input_ids": list(range(10, 4010)), "attention_mask": [1] * 4000}
    dropped = with_dropped_tokens(row, 0.3, 2, generator)
    changed = [
        new for old, new in zip(row["input_ids"], dropped["input_ids"], strict=True) if old != new
    ]
    assert set(changed) == {2}
    assert len(changed) == pytest.approx(1200, abs=100)
    assert dropped["attention_mask"] == row["attention_mask"]
    assert row["input_ids"][0] == 10


def test_weights_are_inverse_variances_drawn_to_the_mean():
    """Pooled variance (0 + 8) / 2 = 4; the texts' own (0 + 16) / 5 and (8 + 16) / 5, over n = 2."""
    table = np.array([[3.0, 3.0], [1.0, 5.0]])
    weights = rating_weights(table)
    assert weights[0] / weights[1] == pytest.approx((24 / 5) / (16 / 5))
    assert weights.mean() == pytest.approx(1)


def test_more_raters_count_for_more():
    table = np.array([[1.0, np.nan, np.nan], [1.0, 1.0, 1.0]])
    assert rating_weights(table).tolist() == pytest.approx([0.5, 1.5])
    spread = np.array([[1.0, np.nan], [1.0, 3.0]])  # pooled 2; 2 / 1 and (2 + 8) / 5 / 2
    assert rating_weights(spread).tolist() == pytest.approx([2 / 3, 4 / 3])


@pytest.mark.parametrize(
    ("texts", "ratings", "message"),
    [
        (TEXTS[:9], RATINGS[:9], "there are 9 rated texts, too few: at least 10"),
        (TEXTS, RATINGS[:-1], r"a row for each of the 240 texts, got shape \(239, 3\)"),
        (TEXTS, [[[1.0]]] * 240, r"got shape \(240, 1, 1\)"),
        ([*TEXTS[:-1], " "], RATINGS, r"texts\[239\] is empty"),
        (TEXTS, [5.0] * 240, "all 240 texts have the same rating, 5"),
        (TEXTS, [*RATINGS[:-1], [np.nan] * 3], r"texts\[239\] has no rating"),
        (TEXTS, [*RATINGS[:-1], [1.0, np.inf, 1.0]], "one is infinite"),
    ],
)
def test_what_cannot_be_learnt_from_is_named(texts, ratings, message, tiny_dir, tmp_path):
    config = replace(QUICK, model=tiny_dir())
    with pytest.raises(ValueError, match=message):
        train_rating_model(texts, ratings, tmp_path / "r", config, quiet=True)
    assert not (tmp_path / "r").exists()


def test_prompts_that_do_not_fit_are_named(tiny_dir):
    with pytest.raises(ValueError, match="there are 2 prompts for 240 texts"):
        fit_rating_model(
            TEXTS, RATINGS, replace(QUICK, model=tiny_dir()), prompts=["a", "b"], quiet=True
        )


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"rater_noise": "model"}, "rater_noise='model' must be one of 'ignore', 'weight'"),
        ({"adam_epsilon": 0.0}, "adam_epsilon=0.0 must be a finite number above 0"),
        ({"token_dropout": 1.0}, "token_dropout=1.0 must be a number of at least 0 and below 1"),
        ({"batch_size": 0}, "batch_size=0 must be a .*number of at least 1"),
    ],
)
def test_bad_settings_are_named(change, message):
    with pytest.raises(ValueError, match=message):
        RatingModelConfig(**change)
