from __future__ import annotations

import pytest
import torch

from llm_gym.language_models import load_causal_lm
from llm_gym.language_models.adapters import adapter_of, add_adapter, lora_config

IDS = torch.arange(8)[None]
BOTH = pytest.mark.parametrize("architecture", ["gpt2", "llama"])


def logits(model):
    with torch.no_grad():
        return model(input_ids=IDS).logits


def adapted(directory, *, trained=True, seed=0, **settings):
    """A model with an adapter that does something."""
    model = load_causal_lm(directory)
    add_adapter(model, lora_config({"r": 4, **settings}, model), seed=seed)
    if trained:
        generator = torch.manual_seed(9)
        for parameter in model.parameters():
            if parameter.requires_grad:
                torch.nn.init.normal_(parameter, std=0.3, generator=generator)
    return model


@pytest.fixture
def saved_adapter(tiny_dir, tmp_path):
    """Makes the directory of a trained adapter of a tiny model; returns it and the model."""

    def make(architecture="gpt2", **settings):
        model = adapted(tiny_dir(architecture), **settings)
        adapter_of(model).save(tmp_path / "adapter")
        return tmp_path / "adapter", model

    return make
