"""Pre-training from scratch: tokenizer, split, loss, schedule, saved files, determinism."""

from __future__ import annotations

import json
import math
from dataclasses import replace

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, AutoTokenizer

from llm_gym.files.owned import replace_directory
from llm_gym.polite_email import documents
from llm_gym.supervised.loop import cosine_learning_rate, next_token_loss
from llm_gym.supervised.pretrain import PretrainConfig, pretrain, stream_perplexity

TINY = PretrainConfig(
    vocab_size=300, context=32, width=16, layers=1, heads=2, steps=12, batch_size=4
)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A tiny model trained on 60 documents: (directory, metrics)."""
    directory = tmp_path_factory.mktemp("pretrained") / "model"
    return directory, pretrain(documents("train", 60), directory, TINY, quiet=True)


def test_held_out_perplexity_falls_and_is_written_down(trained):
    directory, metrics = trained
    assert metrics["held_out_perplexity"] < 0.9 * metrics["held_out_perplexity_before"]
    assert metrics["held_out_perplexity_before"] == pytest.approx(300, rel=0.2)
    assert json.loads((directory / "metrics.json").read_text()) == metrics
    assert metrics["tokens_seen"] == 12 * 4 * 32
    assert metrics["config"]["vocab_size"] == 300


def test_plain_transformers_loads_what_was_saved(trained):
    directory, _ = trained
    model = AutoModelForCausalLM.from_pretrained(directory)
    tokenizer = AutoTokenizer.from_pretrained(directory)
    assert model.config.vocab_size == len(tokenizer) == 300
    assert model.config.eos_token_id == tokenizer.eos_token_id
    assert not list(directory.glob("*.bin"))


def test_the_same_seed_gives_the_same_weights_and_leaves_the_global_generator_alone(
    trained, tmp_path
):
    before = torch.random.get_rng_state()
    pretrain(documents("train", 60), tmp_path / "again", TINY, quiet=True)
    assert torch.equal(torch.random.get_rng_state(), before)
    other = replace(TINY, seed=1, steps=1)
    pretrain(documents("train", 60), tmp_path / "other", other, quiet=True)
    first, again, other = (
        load_file(path / "model.safetensors")
        for path in (trained[0], tmp_path / "again", tmp_path / "other")
    )
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert not all(torch.equal(first[name], other[name]) for name in first)


def test_weights_can_be_stored_in_half_precision(tmp_path):
    config = replace(TINY, steps=1, weights="float16")
    pretrain(documents("train", 60), tmp_path / "half", config, quiet=True)
    stored = load_file(tmp_path / "half" / "model.safetensors")
    assert {tensor.dtype for tensor in stored.values()} == {torch.float16}


def test_a_failed_run_leaves_nothing_behind_and_an_old_model_as_it_was(tmp_path, monkeypatch):
    output = tmp_path / "model"
    with replace_directory(output) as temporary:
        (temporary / "config.json").write_text("old")

    def interrupted(*args, **kwargs):
        raise KeyboardInterrupt

    monkeypatch.setattr("llm_gym.supervised.pretrain.save_model", interrupted)
    with pytest.raises(KeyboardInterrupt):
        pretrain(documents("train", 60), output, replace(TINY, steps=1), quiet=True)
    assert [path.name for path in tmp_path.iterdir()] == ["model"]
    assert (output / "config.json").read_text() == "old"


def test_a_text_file_of_ones_own_works(tmp_path):
    (tmp_path / "own.txt").write_text("To be or not to be, that is the question.\n" * 60)
    metrics = pretrain(tmp_path / "own.txt", tmp_path / "out", TINY, quiet=True)
    assert metrics["held_out_perplexity"] < metrics["held_out_perplexity_before"]


def test_perplexity_of_a_uniform_model_is_the_size_of_its_vocabulary(tiny_dir):
    model = AutoModelForCausalLM.from_pretrained(tiny_dir("gpt2"))
    torch.nn.init.zeros_(model.lm_head.weight)
    blocks = torch.randint(0, 32, (5, 8), generator=torch.Generator().manual_seed(0))
    assert stream_perplexity(model, blocks, batch_size=2) == pytest.approx(32, rel=1e-5)


def test_the_loss_predicts_the_next_token():
    """Against a loop over positions; ignored labels do not count."""
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(2, 5, 7, generator=generator)
    labels = torch.tensor([[1, 2, 3, 4, 5], [-100, -100, 6, 0, -100]])
    expected = []
    for row in range(2):
        for t in range(4):
            target = labels[row, t + 1]
            if target != -100:
                expected.append(-logits[row, t].log_softmax(-1)[target])
    torch.testing.assert_close(next_token_loss(logits, labels), torch.stack(expected).mean())


def test_the_learning_rate_warms_up_and_decays_to_its_last_share():
    rates = [
        cosine_learning_rate(step, 100, 2.0, warmup_share=0.1, final_share=0.1)
        for step in range(100)
    ]
    assert rates[0] == pytest.approx(0.2)
    assert rates[9] == rates[10] == pytest.approx(2.0)
    assert rates[-1] == pytest.approx(0.2)
    assert rates[10:] == sorted(rates[10:], reverse=True)
    middle = cosine_learning_rate(50, 101, 1.0, warmup_share=0.0, final_share=0.0)
    assert middle == pytest.approx(0.5 * (1 + math.cos(math.pi / 2)))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"steps": 0}, "steps=0 must be a .*number of at least 1"),
        ({"vocab_size": 100}, "vocab_size=.* must be a .*number of at least 260"),
        ({"heads": 3}, "heads=3 must divide width=16"),
        ({"held_out_share": 1.0}, "held_out_share=.* must be a number above 0 and below 1"),
        ({"weights": "int4"}, "weights='int4' must be one of 'float32'"),
        ({"learning_rate": 0.0}, "learning_rate=.* must be a finite number above 0"),
    ],
)
def test_bad_settings_are_named(change, message):
    with pytest.raises(ValueError, match=message):
        replace(TINY, **change)


def test_text_that_is_too_short_is_named(tmp_path):
    with pytest.raises(ValueError, match="less than one block of 32"):
        pretrain(["too short", "also"], tmp_path / "out", TINY, quiet=True)
    with pytest.raises(ValueError, match="text is empty"):
        pretrain([], tmp_path / "out", TINY, quiet=True)


def test_a_model_that_memory_cannot_hold_is_refused_with_the_numbers(tmp_path):
    large = replace(TINY, width=2**20, layers=40)
    with pytest.raises(
        ValueError, match=r"width=1048576, layers=40 needs .*gradients.*; lower one"
    ):
        pretrain(documents("train", 60), tmp_path / "model", large, quiet=True)
    assert not (tmp_path / "model").exists()
