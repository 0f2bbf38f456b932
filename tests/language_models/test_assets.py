"""The models that ship with the package are what the card says."""

from __future__ import annotations

import hashlib
import json
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from email_figures import answer_figures, sample_answers
from email_models import text_digest
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, AutoTokenizer

from llm_gym.language_models import (
    BASE_MODEL,
    PROMPT_TEMPLATE,
    SFT_MODEL,
    load_causal_lm,
    load_tokenizer,
    resolve,
)
from llm_gym.polite_email import documents, email_prompts, instruction_pairs
from llm_gym.polite_email.judge import PolitenessScorer
from llm_gym.supervised.pairs import encode_pair
from llm_gym.supervised.sft import answer_perplexity

ASSETS = Path(resolve(SFT_MODEL)).parent


@pytest.fixture(scope="module")
def base():
    return load_causal_lm(BASE_MODEL)


@pytest.fixture(scope="module")
def sft():
    return load_causal_lm(SFT_MODEL)


@pytest.fixture(scope="module")
def tokenizer():
    return load_tokenizer(SFT_MODEL)


@pytest.fixture(scope="module")
def figures(base, sft, tokenizer):
    """Figures of both models on a few held-out prompts."""
    prompts = email_prompts("test", 20)
    settings = {"prompt_template": PROMPT_TEMPLATE, "max_new_tokens": 80, "samples": 4}
    return {
        name: answer_figures(model, tokenizer, prompts, PolitenessScorer(), **settings)
        for name, model in (("base", base), ("sft", sft))
    }


def test_all_assets_together_stay_under_four_megabytes():
    size = sum(path.stat().st_size for path in ASSETS.rglob("*") if path.is_file())
    assert size <= 4_000_000


def test_no_pickled_file_ships():
    suffixes = {path.suffix for path in ASSETS.rglob("*") if path.is_file()}
    assert suffixes <= {".safetensors", ".json", ".jinja", ".md"}


@pytest.mark.parametrize("name", [BASE_MODEL, SFT_MODEL])
def test_plain_transformers_loads_them_and_the_weights_are_halves(name):
    model = AutoModelForCausalLM.from_pretrained(resolve(name))
    tokenizer = AutoTokenizer.from_pretrained(resolve(name))
    assert model.config.vocab_size == len(tokenizer) == 1024
    weights = load_file(Path(resolve(name)) / "model.safetensors")
    assert {tensor.dtype for tensor in weights.values()} == {torch.float16}


def test_both_have_the_same_tokenizer():
    base, sft = (
        (Path(resolve(name)) / "tokenizer.json").read_text() for name in (BASE_MODEL, SFT_MODEL)
    )
    assert base == sft


def test_the_prompt_format_is_single_tokens(tokenizer):
    ids = tokenizer(PROMPT_TEMPLATE.format(prompt=""))["input_ids"]
    assert tokenizer.convert_ids_to_tokens(ids) == ["<|user|>", "<|assistant|>"]
    assert tokenizer.pad_token_id != tokenizer.eos_token_id


def test_the_card_names_the_weights_that_ship():
    card = (ASSETS / "MODEL_CARD.md").read_text()
    for name in (BASE_MODEL, SFT_MODEL):
        weights = Path(resolve(name)) / "model.safetensors"
        assert hashlib.sha256(weights.read_bytes()).hexdigest() in card
    for section in (
        "license: apache-2.0",
        "email_models",
        "## Figures",
        "limits",
    ):
        assert section in card


def test_the_models_were_made_from_the_text_the_generator_writes_now():
    """Who changes the generator runs the recipe again and ships what it makes."""
    assert text_digest(seed=0) in (ASSETS / "MODEL_CARD.md").read_text()


def test_the_cards_perplexities_are_measured_ones(sft, tokenizer):
    """The same measurement on other held-out pairs comes out close to the card's."""
    pairs = [
        encode_pair(tokenizer, p, PROMPT_TEMPLATE) for p in instruction_pairs("test", 150, seed=9)
    ]
    stated = json.loads((Path(resolve(SFT_MODEL)) / "metrics.json").read_text())
    measured = answer_perplexity(sft, pairs)
    assert measured == pytest.approx(stated["held_out_answer_perplexity"], rel=0.06)
    assert measured < 2.2


def test_the_base_model_continues_office_text(base, tokenizer):
    """Far better than chance on unseen documents, and its samples are words of that world."""
    text = tokenizer.eos_token.join(documents("test", 40, seed=11))
    ids = torch.tensor([tokenizer(text)["input_ids"][: 192 * 8]]).view(-1, 192)
    with torch.no_grad():
        loss = base(ids, labels=ids).loss.item()
    assert np.exp(loss) < 4


def test_only_the_fine_tuned_model_follows_instructions(figures):
    """The base model's text is neither on the topic nor an email; answers of the other are."""
    assert figures["sft"].ended_share > 0.95
    assert figures["sft"].mean_score > figures["base"].mean_score + 20


def test_there_is_something_left_to_learn(figures):
    """Rude answers in the mix, and polite ones: the best of a few beats the mean by far."""
    sft = figures["sft"]
    assert 28 < sft.mean_score < 55
    assert sft.score_std > 15
    assert sft.best_score > sft.mean_score + 20


def test_greedy_answers_are_deterministic_and_about_the_topic(sft, tokenizer):
    prompts = email_prompts("test", 8)
    texts = [PROMPT_TEMPLATE.format(prompt=prompt) for prompt in prompts]
    first = sample_answers(sft, tokenizer, texts, max_new_tokens=80, seed=None)
    second = sample_answers(sft, tokenizer, texts, max_new_tokens=80, seed=None, batch_size=3)
    assert first == second
    content = (
        PolitenessScorer().score(prompts, [answer.completion for answer in first]).parts["content"]
    )
    assert content.mean() > 10


def test_samples_depend_on_the_seed_alone(sft, tokenizer):
    state = torch.random.get_rng_state()
    texts = [PROMPT_TEMPLATE.format(prompt=prompt) for prompt in email_prompts("test", 4)]
    draws = [
        sample_answers(sft, tokenizer, texts, max_new_tokens=20, seed=seed) for seed in (0, 0, 1)
    ]
    assert draws[0] == draws[1]
    assert draws[0] != draws[2]
    assert torch.equal(torch.random.get_rng_state(), state)
    for answer in draws[0]:
        assert (answer.stop_reason == "eos") == (
            answer.completion_ids[-1] == tokenizer.eos_token_id
        )
        assert answer.stop_reason == "eos" or len(answer.completion_ids) == 20


def test_answers_contain_no_marks_of_the_format(sft, tokenizer):
    texts = [PROMPT_TEMPLATE.format(prompt=prompt) for prompt in email_prompts("test", 16)]
    for answer in sample_answers(sft, tokenizer, texts, max_new_tokens=80, seed=3):
        assert not re.search(r"<\|", answer.completion)
