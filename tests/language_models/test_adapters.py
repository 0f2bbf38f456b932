"""LoRA adapters: put in, saved, opened by others, taken out, merged, and refused with a reason."""

from __future__ import annotations

import copy
import json
import shutil
import sys
import warnings
from pathlib import Path

import pytest
import torch
from peft import AutoPeftModelForCausalLM, LoraConfig, PeftModel, PromptTuningConfig
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification, pipeline

from llm_gym.language_models import SFT_MODEL, load_causal_lm, load_tokenizer, resolve
from llm_gym.language_models.adapter_files import base_of
from llm_gym.language_models.adapter_loading import OtherBaseWarning
from llm_gym.language_models.adapters import (
    adapter_of,
    add_adapter,
    frozen_twin,
    load_adapter,
    lora_config,
    merge,
    save_model,
    share_weights,
    trainable_twin,
    without_adapter,
)
from llm_gym.language_models.generation import generation_end_ids
from llm_gym.language_models.loading import load_config

IDS = torch.arange(8)[None]
BOTH = pytest.mark.parametrize("architecture", ["gpt2", "llama"])


def _logits(model):
    with torch.no_grad():
        return model(input_ids=IDS).logits


def _adapted(directory, *, trained=True, seed=0, **settings):
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
def saved(tiny_dir, tmp_path):
    """Makes the directory of a trained adapter of a tiny model; returns it and the model."""

    def make(architecture="gpt2", **settings):
        model = _adapted(tiny_dir(architecture), **settings)
        adapter_of(model).save(tmp_path / "adapter")
        return tmp_path / "adapter", model

    return make


def _frozen_places(model):
    return {p.data_ptr() for p in model.parameters() if not p.requires_grad}


@BOTH
def test_a_new_adapter_changes_nothing_and_all_else_is_frozen(architecture, tiny_dir):
    state = torch.random.get_rng_state()
    model = _adapted(tiny_dir(architecture), trained=False)
    assert torch.equal(torch.random.get_rng_state(), state)
    assert torch.equal(_logits(model), _logits(load_causal_lm(tiny_dir(architecture))))
    learnt = {name for name, p in model.named_parameters() if p.requires_grad}
    assert learnt == {name for name, _ in model.named_parameters() if "lora_" in name}
    assert len(learnt) == {"gpt2": 2 * 4 * 2, "llama": 2 * 7 * 2}[architecture]
    other = _adapted(tiny_dir(architecture), trained=False, seed=1)
    same = _adapted(tiny_dir(architecture), trained=False)
    for name, parameter in model.named_parameters():
        assert torch.equal(parameter, same.get_parameter(name))
        if "lora_A" in name:
            assert not torch.equal(parameter, other.get_parameter(name))


@pytest.mark.parametrize(
    ("dtype", "own"),
    [("bfloat16", torch.float32), ("float32", torch.float32), ("float64", torch.float64)],
)
def test_the_adapter_is_float32_at_least(dtype, own, tiny_dir, tmp_path):
    model = load_causal_lm(tiny_dir("llama"), dtype=dtype)
    add_adapter(model, lora_config({}, model), seed=0)
    adapter_of(model).save(tmp_path)
    for each in (model, load_adapter(tmp_path, dtype=dtype)):
        assert {p.dtype for name, p in each.named_parameters() if "lora_" in name} == {own}
        assert each.lm_head.weight.dtype == getattr(torch, dtype)
        assert _logits(each).dtype == getattr(torch, dtype)


@BOTH
def test_a_saved_adapter_opens_everywhere(architecture, saved, tiny_dir):
    directory, model = saved(architecture, target_modules="all-linear", use_rslora=True)
    expected = _logits(model)
    assert not torch.allclose(expected, _logits(load_causal_lm(tiny_dir(architecture))), atol=0.1)
    base = AutoModelForCausalLM.from_pretrained(tiny_dir(architecture))
    load_tokenizer(tiny_dir(architecture)).save_pretrained(directory)
    for opened in (
        load_causal_lm(directory),
        load_adapter(directory, trainable=False),
        PeftModel.from_pretrained(base, str(directory)),
        AutoPeftModelForCausalLM.from_pretrained(str(directory)),
        AutoModelForCausalLM.from_pretrained(directory),
        pipeline("text-generation", str(directory)).model,
    ):
        assert torch.equal(_logits(opened), expected)
    names = {file.name for file in directory.iterdir()}
    assert "config.json" not in names
    assert {"adapter_config.json", "adapter_model.safetensors"} < names


def test_what_peft_saved_opens_here(tiny_dir, tmp_path):
    from peft import get_peft_model

    base = AutoModelForCausalLM.from_pretrained(tiny_dir("llama"))
    config = LoraConfig(r=2, target_modules=["q_proj", "v_proj"], task_type="CAUSAL_LM")
    theirs = get_peft_model(base, config)
    for name, parameter in theirs.named_parameters():
        if "lora_" in name:
            torch.nn.init.normal_(parameter, std=0.3, generator=torch.manual_seed(3))
    theirs.save_pretrained(tmp_path)
    ours = load_causal_lm(tmp_path)
    assert torch.equal(_logits(ours), _logits(theirs))
    assert adapter_of(ours).config.r == 2
    assert adapter_of(ours).directory == str(tmp_path)
    trainable = {name for name, p in ours.named_parameters() if p.requires_grad}
    assert trainable == {name for name, _ in ours.named_parameters() if "lora_" in name}
    assert not any(p.requires_grad for p in load_adapter(tmp_path, trainable=False).parameters())


def test_saving_again_writes_the_same_files(saved, tmp_path):
    directory, _ = saved("llama")
    save_model(load_causal_lm(directory), tmp_path / "again")
    for file in directory.iterdir():
        assert (tmp_path / "again" / file.name).read_bytes() == file.read_bytes(), file.name


def test_transformers_own_save_writes_the_adapter(saved, tmp_path):
    directory, model = saved("llama")
    model.save_pretrained(tmp_path / "theirs")
    theirs = load_file(tmp_path / "theirs" / "adapter_model.safetensors")
    ours = load_file(directory / "adapter_model.safetensors")
    assert theirs.keys() == ours.keys()
    assert not (tmp_path / "theirs" / "model.safetensors").exists()


@BOTH
@pytest.mark.parametrize("settings", [{}, {"use_dora": True}, {"modules_to_save": ["lm_head"]}])
def test_taken_out_it_is_the_base_bit_for_bit(architecture, settings, tiny_dir):
    config = {} if architecture == "gpt2" else {"tie_word_embeddings": False}
    directory = tiny_dir(architecture, **config)
    if architecture == "gpt2" and "modules_to_save" in settings:
        pytest.skip("GPT-2's head is its embedding")
    model = _adapted(directory, **settings)
    learnt = _logits(model)
    twin = frozen_twin(model)
    assert torch.equal(_logits(twin), learnt)
    base = without_adapter(twin)
    assert adapter_of(base) is None
    assert type(base) is type(model)
    alone = load_causal_lm(directory)
    assert torch.equal(_logits(base), _logits(alone))
    assert base.state_dict().keys() == alone.state_dict().keys()
    assert {p.data_ptr() for p in base.parameters()} == _frozen_places(model)
    assert torch.equal(_logits(model), learnt)
    assert without_adapter(alone) is alone


@BOTH
def test_twins_share_what_is_frozen_and_learn_apart(architecture, tiny_dir):
    model = _adapted(tiny_dir(architecture))
    before = _logits(model)
    frozen, learning = frozen_twin(model), trainable_twin(model)
    assert _frozen_places(learning) == _frozen_places(model)
    assert _frozen_places(model) < _frozen_places(frozen)
    assert not any(p.requires_grad for p in frozen.parameters())
    trainable = [p for p in learning.parameters() if p.requires_grad]
    assert len(trainable) == sum(p.requires_grad for p in model.parameters())
    optimizer = torch.optim.SGD(trainable, lr=0.1)
    learning(input_ids=IDS, labels=IDS).loss.backward()
    optimizer.step()
    assert not torch.allclose(_logits(learning), before)
    assert torch.equal(_logits(model), before)
    assert torch.equal(_logits(frozen), before)
    assert adapter_of(learning).model is learning
    assert adapter_of(copy.deepcopy(model)).base_name == adapter_of(model).base_name


def test_a_partly_frozen_model_shares_its_frozen_part(tiny_dir):
    model = load_causal_lm(tiny_dir("llama"))
    model.model.layers[0].requires_grad_(False)
    twin = frozen_twin(model)
    shared = {name for name, p in model.named_parameters() if twin.get_parameter(name) is p}
    assert shared == {n for n, _ in model.named_parameters() if n.startswith("model.layers.0.")}
    assert torch.equal(_logits(twin), _logits(model))


@BOTH
def test_another_model_takes_the_owners_weights(architecture, tiny_dir):
    policy = _adapted(tiny_dir(architecture))
    rewards = AutoModelForSequenceClassification.from_pretrained(
        tiny_dir(architecture), num_labels=1
    )
    rewards.config.pad_token_id = 0
    name = {"gpt2": "transformer.h.1.ln_2.weight", "llama": "model.norm.weight"}[architecture]
    changed = rewards.get_parameter(name)
    changed.data += 0.5
    expected = _logits(rewards)
    wanted = sum(p.nbytes for p in rewards.base_model.parameters()) - changed.nbytes
    assert share_weights(rewards, policy) == wanted
    assert torch.equal(_logits(rewards), expected)
    apart = {name for name, p in rewards.named_parameters() if p.requires_grad}
    assert apart == {name, "score.weight"}
    assert _frozen_places(rewards) <= _frozen_places(policy)


def test_a_reward_model_with_an_adapter_of_its_own_shares_the_base(tiny_dir):
    policy = _adapted(tiny_dir("llama"))
    rewards = AutoModelForSequenceClassification.from_pretrained(tiny_dir("llama"), num_labels=1)
    rewards.config.pad_token_id = 0
    config = lora_config({"r": 2, "target_modules": ["q_proj"]}, rewards)
    assert config.task_type == "SEQ_CLS"
    add_adapter(rewards, config, seed=2)
    expected = _logits(rewards)
    shared = share_weights(rewards, policy)
    assert shared == sum(p.nbytes for p in load_causal_lm(tiny_dir("llama")).model.parameters())
    assert torch.equal(_logits(rewards), expected)


def test_nothing_that_learns_is_shared(tiny_dir):
    owner, other = load_causal_lm(tiny_dir()), load_causal_lm(tiny_dir())
    assert share_weights(other, owner) == 0


@BOTH
def test_merged_is_one_plain_model(architecture, saved, tiny_dir, tmp_path):
    directory, model = saved(architecture)
    save_file({"weight": torch.ones(1, 32)}, directory / "value_head.safetensors")
    merge(directory, tmp_path / "merged")
    plain = load_causal_lm(tmp_path / "merged")
    assert adapter_of(plain) is None
    torch.testing.assert_close(_logits(plain), _logits(model), atol=1e-4, rtol=0)
    assert (tmp_path / "merged" / "value_head.safetensors").is_file()
    assert len(load_tokenizer(tmp_path / "merged")) == len(load_tokenizer(tiny_dir(architecture)))
    with pytest.raises(ValueError, match="is no adapter"):
        merge(tmp_path / "merged", tmp_path / "twice")


@pytest.mark.parametrize("settings", [{}, {"use_dora": True}, {"modules_to_save": ["ln_f"]}])
@pytest.mark.parametrize("target", ["wte", "lm_head"])
def test_of_tied_weights_only_the_adapted_ones_are_merged(target, settings, saved, tmp_path):
    directory, model = saved("gpt2", target_modules=[target], **settings)
    assert model.config.tie_word_embeddings
    merge(directory, tmp_path / "merged")
    plain = load_causal_lm(tmp_path / "merged")
    assert not plain.config.tie_word_embeddings
    torch.testing.assert_close(_logits(plain), _logits(model), atol=1e-4, rtol=0)


def test_a_head_of_its_own_is_merged_and_saved(tiny_dir, tmp_path):
    model = _adapted(tiny_dir("llama"), modules_to_save=["lm_head"])
    adapter_of(model).save(tmp_path / "adapter")
    assert torch.equal(_logits(load_causal_lm(tmp_path / "adapter")), _logits(model))
    merge(tmp_path / "adapter", tmp_path / "merged")
    plain = load_causal_lm(tmp_path / "merged")
    torch.testing.assert_close(_logits(plain), _logits(model), atol=1e-4, rtol=0)


def test_what_the_adapter_lacks_comes_from_its_base(saved, tiny_dir):
    directory, _ = saved()
    (directory / "generation_config.json").unlink()
    assert load_config(directory).n_embd == 32
    assert len(load_tokenizer(directory)) == 32
    assert generation_end_ids(name_or_path=directory) == (1,)


def test_an_embedded_base_is_found_where_its_directory_is_another(tmp_path):
    model = _adapted(SFT_MODEL)
    adapter_of(model).save(tmp_path)
    path = tmp_path / "adapter_config.json"
    settings = json.loads(path.read_text())
    assert settings["base_model_name_or_path"] == resolve(SFT_MODEL)
    path.write_text(json.dumps(settings | {"base_model_name_or_path": "/elsewhere/email-sft"}))
    assert torch.equal(_logits(load_causal_lm(tmp_path)), _logits(model))
    own = shutil.copytree(resolve(SFT_MODEL), tmp_path / "own")  # one that is there is not replaced
    path.write_text(json.dumps(settings | {"base_model_name_or_path": str(own)}))
    assert base_of(tmp_path) == str(own)


# ------------------------------------------------------------------ what is refused


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


def test_a_second_adapter_is_refused(tiny_dir):
    model = _adapted(tiny_dir())
    with pytest.raises(ValueError, match="has an adapter already: merge"):
        add_adapter(model, lora_config({}, model), seed=0)


def test_without_peft_it_says_what_to_install(saved, tiny_dir, monkeypatch):
    directory, _ = saved()
    model = load_causal_lm(tiny_dir())
    monkeypatch.setitem(sys.modules, "peft", None)
    for use in (lambda: load_causal_lm(directory), lambda: lora_config({}, model)):
        with pytest.raises(ImportError, match=r"pip install 'llm-gym\[lora\]'"):
            use()


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
def test_files_that_do_not_fit_are_refused(settings, match, saved):
    directory, _ = saved(target_modules=["c_attn"])
    _change(directory, **settings)
    with pytest.raises(ValueError, match=f"(?s){match}"):
        load_causal_lm(directory)


@pytest.mark.parametrize("other", [("llama", {}), ("gpt2", {"n_embd": 16})])
def test_an_adapter_of_another_base_is_refused(other, saved, tiny_dir):
    directory, _ = saved()
    architecture, config = other
    _change(directory, base_model_name_or_path=tiny_dir(architecture, **config))
    with pytest.raises(ValueError, match=r"(?s)does not fit .*names as its base"):
        load_causal_lm(directory)


def test_an_adapter_on_an_adapter_is_refused(saved, tmp_path):
    directory, _ = saved()
    shutil.copytree(directory, tmp_path / "second")
    for base in (directory, tmp_path / "second"):  # the second is of itself
        _change(tmp_path / "second", base_model_name_or_path=str(base))
        with pytest.raises(ValueError, match="is an adapter, too: merge that one first"):
            load_causal_lm(tmp_path / "second")


@pytest.mark.parametrize("part", ["lora_A.weight", "lora_B.weight"])
def test_each_layer_has_both_of_its_weights_and_no_layer_is_missing(part, saved):
    directory, _ = saved(target_modules=["c_attn"])
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


def test_a_base_in_float16_whose_rounding_says_nothing_is_not_called_another(saved):
    directory, _ = saved()
    with warnings.catch_warnings():
        warnings.simplefilter("error", OtherBaseWarning)
        load_causal_lm(directory, dtype="float16")


def test_damaged_weights_are_refused(saved):
    directory, _ = saved()
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
def test_damaged_settings_are_refused(content, saved):
    directory, _ = saved()
    (directory / "adapter_config.json").write_text(content)
    with pytest.raises(ValueError, match=r"adapter_config\.json"):
        load_causal_lm(directory)


# ------------------------------------------------------------------ settings that PEFT passes over


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
def test_some_layers_of_all_linear_ones_are_adapted(architecture, given, saved):
    target = {} if given is None else {"target_modules": given}
    directory, model = saved(architecture, layers_to_transform=[1], **target)
    names = {name for name, p in model.named_parameters() if p.requires_grad}
    assert len(names) == {"gpt2": 2 * 4, "llama": 2 * 7}[architecture]
    assert all(".1." in name for name in names)
    assert torch.equal(_logits(load_causal_lm(directory)), _logits(model))


def test_a_new_adapter_is_in_the_mode_of_its_model(tiny_dir):
    model = _adapted(tiny_dir("llama"), lora_dropout=0.5)
    assert not any(module.training for module in model.modules())
    assert torch.equal(_logits(model), _logits(model))


# ------------------------------------------------------------------ another base


def _moved(directory, base):
    path = Path(directory) / "adapter_config.json"
    settings = json.loads(path.read_text()) | {"base_model_name_or_path": str(base)}
    path.write_text(json.dumps(settings))


@BOTH
def test_another_model_of_the_same_shapes_is_said(architecture, tiny_dir, tmp_path):
    adapter_of(_adapted(tiny_dir(architecture))).save(tmp_path / "adapter")
    model = load_causal_lm(tiny_dir(architecture), dtype="bfloat16")
    model.save_pretrained(tmp_path / "rounded")
    with warnings.catch_warnings():
        warnings.simplefilter("error", OtherBaseWarning)
        for base in (tiny_dir(architecture), tmp_path / "rounded"):
            _moved(tmp_path / "adapter", base)
            for dtype in ("float32", "bfloat16", "float64", "float16", "auto"):
                load_causal_lm(tmp_path / "adapter", dtype=dtype)
    other = tiny_dir(architecture, seed=5)
    _moved(tmp_path / "adapter", other)
    with pytest.warns(OtherBaseWarning, match="trained on other weights than those of"):
        merge(tmp_path / "adapter", tmp_path / "merged")


def test_a_base_of_other_shapes_is_one_sentence(tiny_dir, tmp_path):
    adapter_of(_adapted(tiny_dir("llama"))).save(tmp_path)
    _moved(tmp_path, tiny_dir("llama", hidden_size=48, head_dim=12))
    with pytest.raises(
        ValueError, match=r"does not fit .*size mismatch.*another model\?"
    ) as caught:
        load_causal_lm(tmp_path)
    assert "\n" not in str(caught.value)
    assert str(caught.value).count("mismatch") == 1


@pytest.mark.parametrize("base", ["C:\\models\\base", "~/models/base", "../base", "a/b/c", "/base"])
def test_a_base_that_was_moved_says_where_to_write_its_place(base, tiny_dir, tmp_path):
    adapter_of(_adapted(tiny_dir())).save(tmp_path)
    _moved(tmp_path, base)
    with pytest.raises(ValueError, match="write where its base is into base_model_name_or_path"):
        load_causal_lm(tmp_path)
