"""Trunks with a linear head on pooled hidden states: what is read, and what is saved."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from transformers import AutoModel

from llm_gym.feedback.reward_model import RewardModelConfig, RewardModelScorer, train_reward_model
from llm_gym.feedback.reward_model.pooled import (
    PooledRewardModel,
    is_causal,
    load_pooled,
    load_trunk,
    new_head,
    pool,
    without_unread_blocks,
)
from llm_gym.language_models.packing import pad_inputs
from llm_gym.testing.tiny import tiny_tokenizer
from tests.feedback.reward_model.worlds import preferences, save_bert

ROWS = [[3, 5, 7, 9, 4], [4, 8], [6], [5, 5, 3]]


@pytest.fixture(params=["gpt2", "llama", "gemma2", "bert"])
def source(request, tiny_dir, tmp_path):
    if request.param == "bert":
        return save_bert(tmp_path / "bert", with_head=False)
    return tiny_dir(request.param)


def padded(rows, pad=0):
    table = [{"input_ids": row, "attention_mask": [1] * len(row)} for row in rows]
    return pad_inputs(table, pad)


@pytest.mark.parametrize("pooling", ["mean", "answer", "last", "first"])
def test_the_reward_is_the_head_on_pooled_states_row_by_row(source, pooling):
    trunk, _ = load_trunk(source)
    model = PooledRewardModel(trunk, [0, 2], pooling).eval()
    new_head(model, seed=3)
    with torch.no_grad():
        found = model(**padded(ROWS)).logits[:, 0]
        other = model(**padded(ROWS, pad=9)).logits[:, 0]
        for row, value in zip(ROWS, found, strict=True):
            states = trunk(torch.tensor([row]), output_hidden_states=True).hidden_states
            read = [states[layer][0] for layer in (0, 2)]  # (S, D) each
            places = {"last": [len(row) - 1], "first": [0]}.get(pooling, range(len(row)))
            vector = torch.cat([part[list(places)].mean(0) for part in read])
            expected = vector @ model.score.weight[0] + model.score.bias[0]
            torch.testing.assert_close(value, expected, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(found, other, atol=1e-5, rtol=1e-5)


def test_the_answer_is_the_second_segment_and_all_of_a_text_alone():
    states = torch.arange(24.0).reshape(2, 4, 3)
    mask = torch.tensor([[1, 1, 1, 0], [1, 1, 1, 1]])
    segments = torch.tensor([[0, 1, 1, 1], [0, 0, 0, 0]])
    from llm_gym.feedback.reward_model.pooled import _answers

    found = pool(states, _answers(mask, segments), "answer")
    torch.testing.assert_close(found[0], states[0, 1:3].mean(0))
    torch.testing.assert_close(found[1], states[1].mean(0))


def test_a_text_without_tokens_has_the_intercept_as_its_reward(tiny_dir):
    model = PooledRewardModel(load_trunk(tiny_dir())[0], [1], "mean").eval()
    empty = torch.zeros((2, 0), dtype=torch.long)
    assert model(empty).logits[:, 0].tolist() == [model.score.bias.item()] * 2


def test_what_is_saved_is_read_again_and_the_trunk_is_an_ordinary_directory(source, tmp_path):
    trunk, tokenizer = load_trunk(source)
    model = PooledRewardModel(trunk, [1], "mean").eval()
    new_head(model, seed=1)
    model.save_pretrained(tmp_path / "out")
    tokenizer.save_pretrained(tmp_path / "out")
    loaded = load_pooled(tmp_path / "out")
    assert (loaded.layers, loaded.pooling) == ([1], "mean")
    with torch.no_grad():
        assert torch.equal(loaded(**padded(ROWS)).logits, model(**padded(ROWS)).logits)
        plain = AutoModel.from_pretrained(tmp_path / "out")(**padded(ROWS)).last_hidden_state
        assert torch.equal(plain, trunk(**padded(ROWS)).last_hidden_state)


def test_blocks_behind_what_is_read_are_left_out(source):
    trunk, _ = load_trunk(source)
    before = {name: value.clone() for name, value in trunk.state_dict().items()}
    shorter = without_unread_blocks(trunk, [1])
    ends_in_norm = "bert" not in type(trunk).__name__.lower()
    assert shorter.config.num_hidden_layers == (2 if ends_in_norm else 1)
    with torch.no_grad():
        states = [
            m(**padded(ROWS), output_hidden_states=True).hidden_states for m in (trunk, shorter)
        ]
    for layer in (0, 1):
        assert torch.equal(states[0][layer], states[1][layer])
    assert without_unread_blocks(trunk, [2]) is trunk
    assert all(torch.equal(value, before[name]) for name, value in trunk.state_dict().items())


def test_a_shortened_trunk_is_loaded_as_it_was_saved(tmp_path):
    trunk, tokenizer = load_trunk(save_bert(tmp_path / "bert", with_head=False))
    shorter = without_unread_blocks(trunk, [0, 1])
    model = PooledRewardModel(shorter, [0, 1], "mean").eval()
    model.save_pretrained(tmp_path / "out")
    tokenizer.save_pretrained(tmp_path / "out")
    assert load_pooled(tmp_path / "out").config.num_hidden_layers == 1
    with torch.no_grad():
        loaded = load_pooled(tmp_path / "out")(**padded(ROWS)).logits
        assert torch.equal(loaded, model(**padded(ROWS)).logits)


def test_decoders_are_told_from_encoders(tiny_dir, tmp_path):
    assert is_causal(load_trunk(tiny_dir("gpt2"))[0])
    assert is_causal(load_trunk(tiny_dir("llama"))[0])
    assert not is_causal(load_trunk(save_bert(tmp_path))[0])


def test_what_cannot_be_read_is_named(tiny_dir, tmp_path):
    trunk, _ = load_trunk(tiny_dir())
    with pytest.raises(ValueError, match=r"hidden_layers=\[3\]: the model has layers 0 .* to 2"):
        PooledRewardModel(trunk, [3], "mean")
    with pytest.raises(ValueError, match="pooling='max' must be one of 'mean'"):
        PooledRewardModel(trunk, [1], "max")
    with pytest.raises(FileNotFoundError, match="there is no directory"):
        load_trunk("./nowhere")
    t5 = tmp_path / "t5"
    from transformers import T5Config, T5Model

    from llm_gym.testing.tiny import tiny_tokenizer

    config = T5Config(vocab_size=32, d_model=16, d_kv=8, d_ff=16, num_layers=1, num_heads=2)
    T5Model(config).save_pretrained(t5)
    tiny_tokenizer(29).save_pretrained(t5)
    with pytest.raises(ValueError, match="no hidden states that can be pooled: take an encoder"):
        load_trunk(t5)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("reward_head.json", {"format": 1, "pooling": "max", "layers": [1]}, "pooling"),
        ("reward_head.json", {"format": 1, "pooling": "mean", "layers": [9]}, "layers 0 .* to 2"),
        ("reward_head.json", {"format": 1, "pooling": "mean", "layers": [1, 2]}, "does not fit"),
        ("reward_head.safetensors", None, "is corrupt"),
    ],
)
def test_damaged_heads_are_named(name, content, message, tiny_dir, tmp_path):
    trunk, tokenizer = load_trunk(tiny_dir())
    PooledRewardModel(trunk, [1], "mean").save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    broken = b"no tensors" if content is None else json.dumps(content).encode()
    (tmp_path / name).write_bytes(broken)
    with pytest.raises(ValueError, match=message):
        load_pooled(tmp_path)


def test_heads_that_are_no_numbers_are_refused(tiny_dir, tmp_path):
    trunk, tokenizer = load_trunk(tiny_dir())
    model = PooledRewardModel(trunk, [1], "mean")
    model.score.bias.data.fill_(np.nan)
    model.save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    with pytest.raises(ValueError, match="no finite numbers"):
        load_pooled(tmp_path)


def test_an_encoder_without_a_limit_reads_texts_of_any_length(tmp_path):
    """XLNet's configuration says -1."""
    from transformers import XLNetConfig, XLNetModel

    config = XLNetConfig(vocab_size=32, d_model=32, n_layer=2, n_head=4, d_inner=64, pad_token_id=0)
    assert config.max_position_embeddings == -1
    XLNetModel(config).save_pretrained(tmp_path / "start")
    tiny_tokenizer().save_pretrained(tmp_path / "start")
    reward = RewardModelConfig(model=str(tmp_path / "start"), head="encoder")
    train_reward_model(preferences(24), tmp_path / "out", reward, quiet=True)
    scorer = RewardModelScorer(tmp_path / "out")
    assert scorer.max_length is None
    short, long = scorer(["w1", "w1 " * 90], ["w2", "w2"])
    assert short != long
