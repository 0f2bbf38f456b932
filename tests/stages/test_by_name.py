from __future__ import annotations

import gymnasium as gym
import pytest

import llm_gym
from llm_gym.language_models import load_tokenizer
from llm_gym.language_models.loading import torch_device
from llm_gym.stages.by_name import TEXT_GENERATION, environment_kwargs, no_score
from llm_gym.testing.tiny import tiny_tokenizer


def test_auto_is_cuda_where_there_is_one(monkeypatch):
    for available, expected in ((True, "cuda"), (False, "cpu")):
        monkeypatch.setattr("torch.cuda.is_available", lambda available=available: available)
        assert torch_device("auto") == expected
    assert torch_device("cuda:1") == "cuda:1"


def test_environment_fits_the_model_even_if_its_table_is_larger(tmp_path):
    from llm_gym.testing.tiny import tiny_model

    tiny_model(vocab_size=40).save_pretrained(tmp_path)
    tokenizer = tiny_tokenizer(29)
    tokenizer.pad_token = None
    tokenizer.save_pretrained(tmp_path)
    kwargs = environment_kwargs(TEXT_GENERATION, str(tmp_path), max_new_tokens=None)
    assert kwargs["vocab_size"] == 40
    assert kwargs["pad_token_id"] == 1  # the EOS: masks say what is padding
    assert "max_new_tokens" not in kwargs
    assert "prompt_template" not in kwargs


def test_a_model_that_was_not_resized_is_told_to_be(tmp_path, tiny_dir):
    """Its tokenizer has a token more, at whichever door that is noticed."""
    tokenizer = load_tokenizer(tiny_dir())
    tokenizer.add_tokens(["<think>"])
    tokenizer.save_pretrained(tmp_path)
    task = {"prompts": ["w1 <think>"], "scorer": no_score, "max_new_tokens": 2}
    by_name = {**environment_kwargs(TEXT_GENERATION, tiny_dir()), "tokenizer": str(tmp_path)}
    told = pytest.raises(ValueError, match=r"resize_token_embeddings\(.*save the model again")
    with told:
        gym.make(TEXT_GENERATION, **{**by_name, **task})
    with told:
        llm_gym.evaluate(tiny_dir(), {"tokenizer": str(tmp_path), **task})
