"""The recipe runs from nothing to a card, and the card says what was done."""

from __future__ import annotations

import hashlib
import json
import re

import email_models as recipe
import pytest

from llm_gym.supervised.pretrain import PretrainConfig
from llm_gym.supervised.sft import SFTConfig

TINY = recipe.EmailModelsConfig(
    documents=80,
    held_out_documents=20,
    pairs=16,
    held_out_pairs=8,
    prompts=4,
    max_new_tokens=6,
    pretraining=PretrainConfig(
        vocab_size=400, context=192, width=16, layers=1, heads=2, steps=3, batch_size=2
    ),
    fine_tuning=SFTConfig(batch_size=8),
)


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    output = tmp_path_factory.mktemp("recipe")
    return output, recipe.build(output, TINY, seed=4, quiet=True)


def test_both_models_a_card_and_the_figures_are_written(made):
    output, figures = made
    for name in ("email-base", "email-sft"):
        weights = (output / name / "model.safetensors").read_bytes()
        assert figures["sha256"][name] == hashlib.sha256(weights).hexdigest()
    assert json.loads((output / "figures.json").read_text()) == figures
    assert figures["base"]["config"]["seed"] == figures["sft"]["config"]["seed"] == 4


def test_the_card_has_the_command_the_seed_and_the_measured_figures(made):
    output, figures = made
    card = (output / "MODEL_CARD.md").read_text()
    assert "email_models.py --output DIR --seed 4" in card
    assert f"{figures['base']['held_out_perplexity']:.2f}" in card
    assert f"{figures['sft']['held_out_answer_perplexity']:.2f}" in card
    assert f"{figures['answers']['email-sft']['mean_score']:.1f}" in card
    assert "vocab_size 400" in card
    assert figures["sha256"]["text"] == recipe.text_digest(4) != recipe.text_digest(0)
    assert set(re.findall(r"\{\w*\}", card)) == set(), "an unfilled slot"


def test_the_command_line_passes_its_options_on(monkeypatch, capsys, tmp_path):
    calls = []

    def build(output, **options):
        calls.append((output, options))
        return {"answers": {"email-sft": {"mean_score": 41.25}}}

    monkeypatch.setattr(recipe, "build", build)
    recipe.main(["--output", str(tmp_path), "--seed", "3", "--quiet"])
    assert calls == [(str(tmp_path), {"seed": 3, "quiet": True})]
    assert "41.25" in capsys.readouterr().out
