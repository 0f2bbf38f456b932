"""Files of adapters that are damaged or of another model, and where an adapter finds its base."""

from __future__ import annotations

import json
import shutil
import warnings

import pytest
import torch
from safetensors.torch import load_file, save_file

from llm_gym.language_models import SFT_MODEL, load_causal_lm, load_tokenizer, resolve
from llm_gym.language_models.adapter_files import base_of
from llm_gym.language_models.adapter_loading import OtherBaseWarning
from llm_gym.language_models.adapters import adapter_of, merge
from llm_gym.language_models.generation import generation_end_ids
from llm_gym.language_models.loading import load_config

from .conftest import BOTH, adapted, logits


def _change(directory, **settings):
    path = directory / "adapter_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | settings))


@pytest.mark.parametrize(
    ("settings", "match"),
    [
        ({"peft_type": "PROMPT_TUNING"}, "peft_type='PROMPT_TUNING' is another kind .* merge"),
        ({"r": 10**9}, "rank 1000000000 is more than the weights can fill"),
        ({"rank_pattern": {"c_attn": 10**9}}, "rank 1000000000 is more"),
        ({"r": "four"}, "adapter_config.json: lora: r='four' must be"),
        ({"init_lora_weights": "pissa"}, "others change the base"),
        ({"layer_replication": [[0, 2]]}, "layer_replication=.* is not supported"),
        ({"target_modules": ["c_proj"]}, "does not fit .*is it an adapter of another model"),
        ({"target_modules": ["q_proj"]}, "does not fit .*whose linear layers are called c_attn"),
        ({"r": 3}, "does not fit .*size mismatch.*is it an adapter of another model"),
    ],
)
def test_files_that_do_not_fit_are_refused(settings, match, saved_adapter):
    directory, _ = saved_adapter(target_modules=["c_attn"])
    _change(directory, **settings)
    with pytest.raises(ValueError, match=f"(?s){match}"):
        load_causal_lm(directory)


@pytest.mark.parametrize("part", ["lora_A.weight", "lora_B.weight"])
def test_each_layer_has_both_of_its_weights_and_no_layer_is_missing(part, saved_adapter):
    directory, _ = saved_adapter(target_modules=["c_attn"])
    path = directory / "adapter_model.safetensors"
    weights = load_file(path)
    name = next(name for name in weights if name.endswith(part))
    save_file({n: t for n, t in weights.items() if n != name}, path)
    with pytest.raises(ValueError, match=rf"it has no weights for '[^']*h\.0\.attn[^']*{part[:6]}"):
        load_causal_lm(directory)
    save_file({**weights, name.replace("h.0.", "h.7."): weights[name].clone()}, path)
    with pytest.raises(
        ValueError, match=r"it has a layer that the base has not for '[^']*h\.7\.attn"
    ):
        load_causal_lm(directory)


def test_damaged_weights_are_refused(saved_adapter):
    directory, _ = saved_adapter()
    path = directory / "adapter_model.safetensors"
    weights = load_file(path)
    name = sorted(weights)[0]
    save_file({n: t for n, t in weights.items() if n != name}, path)
    with pytest.raises(ValueError, match="it has no weights for"):
        load_causal_lm(directory)
    save_file({**weights, name: weights[name] * float("nan")}, path)
    with pytest.raises(ValueError, match="NaN or infinity"):
        load_causal_lm(directory)
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(ValueError, match="is corrupt"):
        load_causal_lm(directory)
    path.unlink()
    with pytest.raises(FileNotFoundError, match=r"adapter without adapter_model\.safetensors"):
        load_causal_lm(directory)


@pytest.mark.parametrize("content", ["", "[]", "{", '{"peft_type": 3}', "[" * 100_000])
def test_damaged_settings_are_refused(content, saved_adapter):
    directory, _ = saved_adapter()
    (directory / "adapter_config.json").write_text(content)
    with pytest.raises(ValueError, match=r"adapter_config\.json"):
        load_causal_lm(directory)


# ------------------------------------------------------------------ its base


def test_what_the_adapter_lacks_comes_from_its_base(saved_adapter, tiny_dir):
    directory, _ = saved_adapter()
    (directory / "generation_config.json").unlink()
    assert load_config(directory).n_embd == 32
    assert len(load_tokenizer(directory)) == 32
    assert generation_end_ids(name_or_path=directory) == (1,)


def test_an_embedded_base_is_found_where_its_directory_is_another(tmp_path):
    model = adapted(SFT_MODEL)
    adapter_of(model).save(tmp_path)
    path = tmp_path / "adapter_config.json"
    settings = json.loads(path.read_text())
    assert settings["base_model_name_or_path"] == resolve(SFT_MODEL)
    path.write_text(json.dumps(settings | {"base_model_name_or_path": "/elsewhere/email-sft"}))
    assert torch.equal(logits(load_causal_lm(tmp_path)), logits(model))
    own = shutil.copytree(resolve(SFT_MODEL), tmp_path / "own")  # one that is there is not replaced
    path.write_text(json.dumps(settings | {"base_model_name_or_path": str(own)}))
    assert base_of(tmp_path) == str(own)


@pytest.mark.parametrize("other", [("llama", {}), ("gpt2", {"n_embd": 16})])
def test_an_adapter_of_another_base_is_refused(other, saved_adapter, tiny_dir):
    directory, _ = saved_adapter()
    architecture, config = other
    _change(directory, base_model_name_or_path=tiny_dir(architecture, **config))
    with pytest.raises(ValueError, match=r"(?s)does not fit .*names as its base"):
        load_causal_lm(directory)


def test_an_adapter_on_an_adapter_is_refused(saved_adapter, tmp_path):
    directory, _ = saved_adapter()
    shutil.copytree(directory, tmp_path / "second")
    for base in (directory, tmp_path / "second"):  # the second is of itself
        _change(tmp_path / "second", base_model_name_or_path=str(base))
        with pytest.raises(ValueError, match="is an adapter, too: merge that one first"):
            load_causal_lm(tmp_path / "second")


@BOTH
def test_another_model_of_the_same_shapes_is_said(architecture, tiny_dir, tmp_path):
    adapter_of(adapted(tiny_dir(architecture))).save(tmp_path / "adapter")
    model = load_causal_lm(tiny_dir(architecture), dtype="bfloat16")
    model.save_pretrained(tmp_path / "rounded")
    with warnings.catch_warnings():
        warnings.simplefilter("error", OtherBaseWarning)
        for base in (tiny_dir(architecture), tmp_path / "rounded"):
            _change(tmp_path / "adapter", base_model_name_or_path=str(base))
            for dtype in ("float32", "bfloat16", "float64", "float16", "auto"):
                load_causal_lm(tmp_path / "adapter", dtype=dtype)
    other = tiny_dir(architecture, seed=5)
    _change(tmp_path / "adapter", base_model_name_or_path=other)
    with pytest.warns(OtherBaseWarning, match="trained on other weights than those of"):
        merge(tmp_path / "adapter", tmp_path / "merged")


def test_a_base_in_float16_whose_rounding_says_nothing_is_not_called_another(saved_adapter):
    directory, _ = saved_adapter()
    with warnings.catch_warnings():
        warnings.simplefilter("error", OtherBaseWarning)
        load_causal_lm(directory, dtype="float16")


def test_a_base_of_other_shapes_is_one_sentence(tiny_dir, tmp_path):
    adapter_of(adapted(tiny_dir("llama"))).save(tmp_path)
    other = tiny_dir("llama", hidden_size=48, head_dim=12)
    _change(tmp_path, base_model_name_or_path=other)
    with pytest.raises(
        ValueError, match=r"does not fit .*size mismatch.*another model\?"
    ) as caught:
        load_causal_lm(tmp_path)
    assert "\n" not in str(caught.value)
    assert str(caught.value).count("mismatch") == 1


@pytest.mark.parametrize("base", ["C:\\models\\base", "~/models/base", "../base", "a/b/c", "/base"])
def test_a_base_that_was_moved_says_where_to_write_its_place(base, tiny_dir, tmp_path):
    adapter_of(adapted(tiny_dir())).save(tmp_path)
    _change(tmp_path, base_model_name_or_path=base)
    with pytest.raises(ValueError, match="write where its base is into base_model_name_or_path"):
        load_causal_lm(tmp_path)
