"""Files of models whose numbers are of another kind than they must be: refused by name."""

from __future__ import annotations

import json
import shutil

import pytest
import torch
from safetensors.torch import load_file, save_file

from llm_gym.language_models.adapters import add_adapter, merge, save_model
from llm_gym.language_models.loading import load_causal_lm, load_tokenizer
from llm_gym.language_models.lora_settings import lora_config


@pytest.mark.parametrize("kind", [torch.int8, torch.int64, torch.bool])
def test_weights_of_an_adapter_are_no_whole_numbers(tiny_dir, tmp_path, kind):
    model = load_causal_lm(tiny_dir("llama"))
    add_adapter(model, lora_config({"r": 2}, model), seed=0)
    save_model(model, tmp_path / "adapter")
    assert load_causal_lm(tmp_path / "adapter")
    path = tmp_path / "adapter" / "adapter_model.safetensors"
    save_file({name: tensor.to(kind) for name, tensor in load_file(path).items()}, path)
    for read in (load_causal_lm, lambda source: merge(source, tmp_path / "merged")):
        with pytest.raises(ValueError, match=rf"adapter_model\.safetensors: .* {kind}"):
            read(tmp_path / "adapter")
    assert not (tmp_path / "merged").exists()


@pytest.mark.parametrize("limit", ["x", [64], True])
def test_the_length_that_a_tokenizer_names_is_a_number(tiny_dir, tmp_path, limit):
    shutil.copytree(tiny_dir("llama"), tmp_path / "model")
    path = tmp_path / "model" / "tokenizer_config.json"
    settings = json.loads(path.read_text())
    path.write_text(json.dumps(settings | {"model_max_length": None}))
    assert load_tokenizer(tmp_path / "model")("w1")["input_ids"]
    path.write_text(json.dumps(settings | {"model_max_length": limit}))
    with pytest.raises(ValueError, match="model_max_length="):
        load_tokenizer(tmp_path / "model")
