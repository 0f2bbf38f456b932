"""LoRA adapters: put in, saved, opened by others, taken out, shared and merged."""

from __future__ import annotations

import copy
import sys

import pytest
import torch
from peft import AutoPeftModelForCausalLM, LoraConfig, PeftModel
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification, pipeline

from llm_gym.language_models import load_causal_lm, load_tokenizer
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

from .conftest import BOTH, IDS, adapted, logits


def _frozen_places(model):
    return {p.data_ptr() for p in model.parameters() if not p.requires_grad}


@BOTH
def test_a_new_adapter_changes_nothing_and_all_else_is_frozen(architecture, tiny_dir):
    state = torch.random.get_rng_state()
    model = adapted(tiny_dir(architecture), trained=False)
    assert torch.equal(torch.random.get_rng_state(), state)
    assert torch.equal(logits(model), logits(load_causal_lm(tiny_dir(architecture))))
    learnt = {name for name, p in model.named_parameters() if p.requires_grad}
    assert learnt == {name for name, _ in model.named_parameters() if "lora_" in name}
    assert len(learnt) == {"gpt2": 2 * 4 * 2, "llama": 2 * 7 * 2}[architecture]
    other = adapted(tiny_dir(architecture), trained=False, seed=1)
    same = adapted(tiny_dir(architecture), trained=False)
    for name, parameter in model.named_parameters():
        assert torch.equal(parameter, same.get_parameter(name))
        if "lora_A" in name:
            assert not torch.equal(parameter, other.get_parameter(name))


def test_a_new_adapter_is_in_the_mode_of_its_model(tiny_dir):
    model = adapted(tiny_dir("llama"), lora_dropout=0.5)
    assert not any(module.training for module in model.modules())
    assert torch.equal(logits(model), logits(model))


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
        assert logits(each).dtype == getattr(torch, dtype)


def test_a_second_adapter_is_refused(tiny_dir):
    model = adapted(tiny_dir())
    with pytest.raises(ValueError, match="has an adapter already: merge"):
        add_adapter(model, lora_config({}, model), seed=0)


def test_without_peft_it_says_what_to_install(saved_adapter, tiny_dir, monkeypatch):
    directory, _ = saved_adapter()
    model = load_causal_lm(tiny_dir())
    monkeypatch.setitem(sys.modules, "peft", None)
    for use in (lambda: load_causal_lm(directory), lambda: lora_config({}, model)):
        with pytest.raises(ImportError, match=r"pip install 'llm-gym\[lora\]'"):
            use()


# ------------------------------------------------------------------ saved and opened


@BOTH
def test_a_saved_adapter_opens_everywhere(architecture, saved_adapter, tiny_dir):
    directory, model = saved_adapter(architecture, target_modules="all-linear", use_rslora=True)
    expected = logits(model)
    assert not torch.allclose(expected, logits(load_causal_lm(tiny_dir(architecture))), atol=0.1)
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
        assert torch.equal(logits(opened), expected)
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
    assert torch.equal(logits(ours), logits(theirs))
    assert adapter_of(ours).config.r == 2
    assert adapter_of(ours).directory == str(tmp_path)
    trainable = {name for name, p in ours.named_parameters() if p.requires_grad}
    assert trainable == {name for name, _ in ours.named_parameters() if "lora_" in name}
    assert not any(p.requires_grad for p in load_adapter(tmp_path, trainable=False).parameters())


def test_saving_again_writes_the_same_files(saved_adapter, tmp_path):
    directory, _ = saved_adapter("llama")
    save_model(load_causal_lm(directory), tmp_path / "again")
    for file in directory.iterdir():
        assert (tmp_path / "again" / file.name).read_bytes() == file.read_bytes(), file.name


def test_transformers_own_save_writes_the_adapter(saved_adapter, tmp_path):
    directory, model = saved_adapter("llama")
    model.save_pretrained(tmp_path / "theirs")
    theirs = load_file(tmp_path / "theirs" / "adapter_model.safetensors")
    ours = load_file(directory / "adapter_model.safetensors")
    assert theirs.keys() == ours.keys()
    assert not (tmp_path / "theirs" / "model.safetensors").exists()


# ------------------------------------------------------------------ taken out, and shared


@BOTH
@pytest.mark.parametrize("settings", [{}, {"use_dora": True}, {"modules_to_save": ["lm_head"]}])
def test_taken_out_it_is_the_base_bit_for_bit(architecture, settings, tiny_dir):
    config = {} if architecture == "gpt2" else {"tie_word_embeddings": False}
    directory = tiny_dir(architecture, **config)
    if architecture == "gpt2" and "modules_to_save" in settings:
        pytest.skip("GPT-2's head is its embedding")
    model = adapted(directory, **settings)
    learnt = logits(model)
    twin = frozen_twin(model)
    assert torch.equal(logits(twin), learnt)
    base = without_adapter(twin)
    assert adapter_of(base) is None
    assert type(base) is type(model)
    alone = load_causal_lm(directory)
    assert torch.equal(logits(base), logits(alone))
    assert base.state_dict().keys() == alone.state_dict().keys()
    assert {p.data_ptr() for p in base.parameters()} == _frozen_places(model)
    assert torch.equal(logits(model), learnt)
    assert without_adapter(alone) is alone


@BOTH
def test_twins_share_what_is_frozen_and_learn_apart(architecture, tiny_dir):
    model = adapted(tiny_dir(architecture))
    before = logits(model)
    frozen, learning = frozen_twin(model), trainable_twin(model)
    assert _frozen_places(learning) == _frozen_places(model)
    assert _frozen_places(model) < _frozen_places(frozen)
    assert not any(p.requires_grad for p in frozen.parameters())
    trainable = [p for p in learning.parameters() if p.requires_grad]
    assert len(trainable) == sum(p.requires_grad for p in model.parameters())
    optimizer = torch.optim.SGD(trainable, lr=0.1)
    learning(input_ids=IDS, labels=IDS).loss.backward()
    optimizer.step()
    assert not torch.allclose(logits(learning), before)
    assert torch.equal(logits(model), before)
    assert torch.equal(logits(frozen), before)
    assert adapter_of(learning).model is learning
    assert adapter_of(copy.deepcopy(model)).base_name == adapter_of(model).base_name


def test_a_partly_frozen_model_shares_its_frozen_part(tiny_dir):
    model = load_causal_lm(tiny_dir("llama"))
    model.model.layers[0].requires_grad_(False)
    twin = frozen_twin(model)
    shared = {name for name, p in model.named_parameters() if twin.get_parameter(name) is p}
    assert shared == {n for n, _ in model.named_parameters() if n.startswith("model.layers.0.")}
    assert torch.equal(logits(twin), logits(model))


@BOTH
def test_another_model_takes_the_owners_weights(architecture, tiny_dir):
    policy = adapted(tiny_dir(architecture))
    rewards = AutoModelForSequenceClassification.from_pretrained(
        tiny_dir(architecture), num_labels=1
    )
    rewards.config.pad_token_id = 0
    name = {"gpt2": "transformer.h.1.ln_2.weight", "llama": "model.norm.weight"}[architecture]
    changed = rewards.get_parameter(name)
    changed.data += 0.5
    expected = logits(rewards)
    wanted = sum(p.nbytes for p in rewards.base_model.parameters()) - changed.nbytes
    assert share_weights(rewards, policy) == wanted
    assert torch.equal(logits(rewards), expected)
    apart = {name for name, p in rewards.named_parameters() if p.requires_grad}
    assert apart == {name, "score.weight"}
    assert _frozen_places(rewards) <= _frozen_places(policy)


def test_a_reward_model_with_an_adapter_of_its_own_shares_the_base(tiny_dir):
    policy = adapted(tiny_dir("llama"))
    rewards = AutoModelForSequenceClassification.from_pretrained(tiny_dir("llama"), num_labels=1)
    rewards.config.pad_token_id = 0
    config = lora_config({"r": 2, "target_modules": ["q_proj"]}, rewards)
    assert config.task_type == "SEQ_CLS"
    add_adapter(rewards, config, seed=2)
    expected = logits(rewards)
    shared = share_weights(rewards, policy)
    assert shared == sum(p.nbytes for p in load_causal_lm(tiny_dir("llama")).model.parameters())
    assert torch.equal(logits(rewards), expected)


def test_nothing_that_learns_is_shared(tiny_dir):
    owner, other = load_causal_lm(tiny_dir()), load_causal_lm(tiny_dir())
    assert share_weights(other, owner) == 0


# ------------------------------------------------------------------ merged


@BOTH
def test_merged_is_one_plain_model(architecture, saved_adapter, tiny_dir, tmp_path):
    directory, model = saved_adapter(architecture)
    save_file({"weight": torch.ones(1, 32)}, directory / "value_head.safetensors")
    merge(directory, tmp_path / "merged")
    plain = load_causal_lm(tmp_path / "merged")
    assert adapter_of(plain) is None
    torch.testing.assert_close(logits(plain), logits(model), atol=1e-4, rtol=0)
    assert (tmp_path / "merged" / "value_head.safetensors").is_file()
    assert len(load_tokenizer(tmp_path / "merged")) == len(load_tokenizer(tiny_dir(architecture)))
    with pytest.raises(ValueError, match="is no adapter"):
        merge(tmp_path / "merged", tmp_path / "twice")


@pytest.mark.parametrize("settings", [{}, {"use_dora": True}, {"modules_to_save": ["ln_f"]}])
@pytest.mark.parametrize("target", ["wte", "lm_head"])
def test_of_tied_weights_only_the_adapted_ones_are_merged(
    target, settings, saved_adapter, tmp_path
):
    directory, model = saved_adapter("gpt2", target_modules=[target], **settings)
    assert model.config.tie_word_embeddings
    merge(directory, tmp_path / "merged")
    plain = load_causal_lm(tmp_path / "merged")
    assert not plain.config.tie_word_embeddings
    torch.testing.assert_close(logits(plain), logits(model), atol=1e-4, rtol=0)


def test_a_head_of_its_own_is_merged_and_saved(tiny_dir, tmp_path):
    model = adapted(tiny_dir("llama"), modules_to_save=["lm_head"])
    adapter_of(model).save(tmp_path / "adapter")
    assert torch.equal(logits(load_causal_lm(tmp_path / "adapter")), logits(model))
    merge(tmp_path / "adapter", tmp_path / "merged")
    plain = load_causal_lm(tmp_path / "merged")
    torch.testing.assert_close(logits(plain), logits(model), atol=1e-4, rtol=0)
