"""Settings of a new adapter: heeded, or refused with what to write instead."""

from __future__ import annotations

import pytest
import torch
from peft import LoraConfig, PromptTuningConfig

from llm_gym.language_models import load_causal_lm
from llm_gym.language_models.adapters import lora_config

from .conftest import BOTH, logits


@pytest.mark.parametrize(
    ("settings", "match"),
    [
        ({"rank": 4}, "lora has no setting 'rank'"),
        ({"lora_alfa": 4}, "did you mean 'lora_alpha'"),
        ({"r": 0}, "r=0 must be a whole number of at least 1"),
        ({"r": True}, "r=True must be"),
        ({"lora_alpha": -1}, "lora_alpha=-1 must be a number above 0"),
        ({"lora_alpha": float("nan")}, "lora_alpha=nan must be"),
        ({"lora_dropout": 1.0}, "lora_dropout=1.0 must be at least 0 and below 1"),
        ({"bias": "all"}, "bias='all' must be 'none'"),
        ({"init_lora_weights": "pissa"}, "init_lora_weights='pissa' must be one of"),
        ({"rank_pattern": {"q_proj": 0}}, "rank_pattern=.*must be"),
        ({"target_modules": []}, "must be a text or a list of texts"),
        ({"target_modules": ["c_attn"]}, "match no layer of Llama.*down_proj.*q_proj.*all-linear"),
        ({"target_modules": ["q_proj", "c_attn"]}, "'c_attn' match no layer"),
        ({"target_modules": "c_attn"}, "match no layer of LlamaForCausalLM"),
        ({"target_modules": "(q"}, "no regular expression"),
        ({"target_modules": ["input_layernorm"]}, "is no linear layer"),
    ],
)
def test_settings_that_do_not_fit_are_refused(settings, match, tiny_dir):
    with pytest.raises(ValueError, match=match):
        lora_config(settings, load_causal_lm(tiny_dir("llama")))


def test_other_kinds_of_configuration_are_refused(tiny_dir):
    model = load_causal_lm(tiny_dir())
    with pytest.raises(TypeError, match=r"a dict of settings, .* or a peft.LoraConfig, not Prompt"):
        lora_config(PromptTuningConfig(), model)
    with pytest.raises(ValueError, match=r"layer_replication=.* is not supported"):
        lora_config(LoraConfig(layer_replication=[(0, 1)], target_modules=["c_attn"]), model)
    given = LoraConfig(r=2, lora_alpha=4)
    config = lora_config(given, model)
    assert (config.r, config.lora_alpha, config.target_modules) == (2, 4, "all-linear")
    assert given.target_modules is None
    assert given.task_type is None


def _wrong(directory, settings, told):
    model = load_causal_lm(directory)
    for given in (settings, LoraConfig(**settings)):
        with pytest.raises(ValueError, match=rf"^lora: {told}") as error:
            lora_config(given, model)
        assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"modules_to_save": ["nothing"]}, "modules_to_save: 'nothing' matches nothing"),
        ({"modules_to_save": "lm_head"}, "modules_to_save='lm_head' must be a list"),
        ({"exclude_modules": ["q_prjo"]}, "exclude_modules: 'q_prjo' matches nothing"),
        ({"exclude_modules": "q_proj"}, "exclude_modules: 'q_proj' matches nothing"),
        ({"exclude_modules": "(["}, r"exclude_modules='\(\[' is no regular expression"),
        ({"exclude_modules": 5}, "exclude_modules=5 must be"),
        ({"exclude_modules": ".*"}, "no layer is left to adapt"),
        ({"modules_to_save": ["layers"]}, "no layer is left to adapt"),
        ({"layers_to_transform": [0, 9]}, "layers_to_transform: 9 matches nothing"),
        ({"layers_to_transform": 2}, "layers_to_transform: 2 matches nothing"),
        ({"layers_to_transform": [-1]}, r"layers_to_transform=\[-1\] must be"),
        ({"layers_to_transform": "0"}, "layers_to_transform='0' must be"),
        (
            {"layers_to_transform": [0], "layers_pattern": "blocks"},
            "layers_to_transform: 0 matches nothing",
        ),
        ({"use_dora": "no"}, "use_dora='no' must be True or False"),
        ({"use_rslora": "no"}, "use_rslora='no' must be True or False"),
        ({"rank_pattern": {"nothing": 2}}, "rank_pattern: 'nothing' matches nothing"),
        ({"rank_pattern": {"(": 2}}, r"rank_pattern='\(' is no regular expression"),
        ({"alpha_pattern": {"q_proj": float("nan")}}, "alpha_pattern={'q_proj': nan} must be"),
        ({"alpha_pattern": 3}, "alpha_pattern=3 must be"),
        ({"r": 10**9}, r"r=1000000000: an adapter of this rank needs at least .*; lower r"),
        ({"target_parameters": ["mlp.up_proj.weight"]}, "target_parameters.* is not supported"),
        ({"trainable_token_indices": [1]}, "trainable_token_indices.* is not supported"),
        ({"init_lora_weights": "eva"}, "init_lora_weights='eva' must be one of"),
    ],
)
def test_what_would_be_passed_over_or_end_in_a_traceback_is_refused(tiny_dir, settings, told):
    _wrong(tiny_dir("llama"), settings, told)


@BOTH
@pytest.mark.parametrize("given", [None, "all-linear"])
def test_some_layers_of_all_linear_ones_are_adapted(architecture, given, saved_adapter):
    target = {} if given is None else {"target_modules": given}
    directory, model = saved_adapter(architecture, layers_to_transform=[1], **target)
    names = {name for name, p in model.named_parameters() if p.requires_grad}
    assert len(names) == {"gpt2": 2 * 4, "llama": 2 * 7}[architecture]
    assert all(".1." in name for name in names)
    assert torch.equal(logits(load_causal_lm(directory)), logits(model))
