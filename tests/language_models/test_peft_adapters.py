"""Adapters that PEFT wrote: the same model here, or a sentence that says what to do."""

from __future__ import annotations

import json
import warnings

import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from transformers import AutoModelForCausalLM

from llm_gym.language_models import load_causal_lm, load_tokenizer
from llm_gym.language_models.adapter_bases import OtherBaseWarning
from llm_gym.language_models.adapters import adapter_of, load_adapter
from llm_gym.language_models.model_objects import named
from llm_gym.testing.tiny import tiny_tokenizer

IDS = torch.arange(8)[None]
TARGETS = {"gpt2": ["c_attn"], "llama": ["q_proj", "v_proj"], "opt": ["q_proj", "fc1"]}
EMBEDDINGS = {"gpt2": ["wte"], "llama": ["embed_tokens", "lm_head"], "opt": ["embed_tokens"]}
EACH = pytest.mark.parametrize("architecture", TARGETS)


@pytest.fixture
def base(tiny_dir):
    def get(architecture, **config):
        config |= {"tie_word_embeddings": False} if architecture == "llama" else {}
        return tiny_dir(architecture, **config)

    return get


def logits(model):
    with torch.no_grad():
        return model(IDS).logits


def trained(model, **settings):
    """An adapter of PEFT's that does something."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # PEFT's own
        theirs = get_peft_model(model, LoraConfig(r=2, task_type="CAUSAL_LM", **settings)).eval()
    generator = torch.manual_seed(1)
    for parameter in theirs.parameters():
        if parameter.requires_grad:
            parameter.data += 0.3 * torch.randn(parameter.shape, generator=generator)
    return theirs


def saved(model, directory):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model.save_pretrained(directory)
    return directory


def plain(directory):
    return AutoModelForCausalLM.from_pretrained(directory)


def moved(directory, base):
    path = directory / "adapter_config.json"
    settings = json.loads(path.read_text()) | {"base_model_name_or_path": str(base)}
    path.write_text(json.dumps(settings))


SETTINGS = {
    "rsLoRA": {"use_rslora": True},
    "DoRA": {"use_dora": True},
    "patterns": {"rank_pattern": {r".*\.0\..*": 5}, "alpha_pattern": {r".*\.1\..*": 3}},
    "all layers": {"target_modules": "all-linear"},
    "embeddings, trained": {},
    "embeddings, adapted": {},
    "norms, trained": {"modules_to_save": ["norm"]},
}


@EACH
@pytest.mark.parametrize("kind", SETTINGS)
def test_the_same_model_opens_here_and_again(kind, architecture, base, tmp_path):
    settings = {"target_modules": TARGETS[architecture], **SETTINGS[kind]}
    if kind == "norms, trained" and architecture == "gpt2":
        settings["modules_to_save"] = ["_f", "_1"]  # the end of a word is enough for PEFT
    elif kind == "embeddings, trained":
        settings["modules_to_save"] = EMBEDDINGS[architecture]
    elif kind == "embeddings, adapted":
        settings["target_modules"] = [*TARGETS[architecture], EMBEDDINGS[architecture][0]]
    theirs = trained(plain(base(architecture)), **settings)
    saved(theirs, tmp_path / "theirs")
    with warnings.catch_warnings():
        warnings.simplefilter("error", OtherBaseWarning)
        ours = load_causal_lm(tmp_path / "theirs")
    torch.testing.assert_close(logits(ours), logits(theirs))
    adapter_of(ours).save(tmp_path / "ours")
    torch.testing.assert_close(logits(load_causal_lm(tmp_path / "ours")), logits(theirs))


@pytest.mark.parametrize(
    "settings",
    [
        {"bias": "lora_only"},
        {"init_lora_weights": "pissa"},
        {"trainable_token_indices": [3, 4]},
        {"lora_bias": True},
    ],
)
def test_what_cannot_be_had_is_refused_by_name_with_a_way(settings, base, tmp_path):
    (name,) = settings
    model = trained(plain(base("gpt2")), target_modules=["c_attn"], **settings)
    saved(model, tmp_path)
    with pytest.raises(ValueError, match=rf"lora: {name}=.*merge the adapter into its base with"):
        load_causal_lm(tmp_path)
    with pytest.raises(ValueError, match=rf"lora: {name}=.*merge the adapter into its base with"):
        named(model)


@EACH
@pytest.mark.parametrize("whole", [False, True])
def test_of_added_tokens_the_sentence_says_what_works(whole, architecture, base, tmp_path):
    settings = {"target_modules": TARGETS[architecture]}
    settings |= {"modules_to_save": EMBEDDINGS[architecture]} if whole else {}
    model = plain(base(architecture))
    model.resize_token_embeddings(37, mean_resizing=False)
    model.save_pretrained(tmp_path / "resized")
    theirs = trained(model, **settings)
    adapter = saved(theirs, tmp_path / "adapter")
    with pytest.raises(ValueError, match=r"with 37 tokens, and there are 32; .*embeddings\(37\)"):
        load_causal_lm(adapter)
    again = plain(base(architecture))  # with other embeddings of the new tokens
    again.resize_token_embeddings(37, mean_resizing=False)
    again.save_pretrained(tmp_path / "again")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        merged = PeftModel.from_pretrained(again, str(adapter)).merge_and_unload()
    merged.save_pretrained(tmp_path / "merged")
    torch.testing.assert_close(
        logits(load_causal_lm(tmp_path / "merged")), logits(theirs), atol=1e-4, rtol=1e-4
    )
    moved(adapter, tmp_path / "resized")
    torch.testing.assert_close(logits(load_causal_lm(adapter)), logits(theirs))
    moved(adapter, tmp_path / "again")
    if whole and architecture == "llama":  # the adapter has both ends of it, and the base none
        torch.testing.assert_close(logits(load_causal_lm(adapter)), logits(theirs))
    else:
        with pytest.raises(ValueError, match=r"which was saved with it, is not what is there"):
            load_causal_lm(adapter)


@pytest.mark.parametrize("architecture", ["llama", "opt"])  # PEFT knows them by these names
def test_the_bases_embeddings_in_its_file_tell_another_base(architecture, base, tmp_path):
    targets = [*TARGETS[architecture], EMBEDDINGS[architecture][0]]
    theirs = trained(plain(base(architecture)), target_modules=targets)
    saved(theirs, tmp_path)
    for dtype in ("bfloat16", "float16"):  # rounded, it is the same
        assert load_causal_lm(tmp_path, dtype=dtype).dtype == getattr(torch, dtype)
    moved(tmp_path, base(architecture, seed=5))
    with pytest.raises(ValueError, match=r"base_layer.weight', which was saved with it, is not"):
        load_causal_lm(tmp_path)


def test_another_tokenizer_beside_it_tells_another_base(base, tmp_path):
    theirs = trained(plain(base("gpt2")), target_modules=["c_attn"])
    saved(theirs, tmp_path)
    tokenizer = load_tokenizer(base("gpt2"))
    tokenizer.add_tokens(["<mine>"])
    tokenizer.save_pretrained(tmp_path)
    with warnings.catch_warnings():
        warnings.simplefilter("error", OtherBaseWarning)
        load_causal_lm(tmp_path)
    other = tiny_tokenizer()
    content = json.loads(other.backend_tokenizer.to_str())
    vocabulary = content["model"]["vocab"]
    vocabulary["w0"], vocabulary["w1"] = vocabulary["w1"], vocabulary["w0"]
    (tmp_path / "tokenizer.json").write_text(json.dumps(content))
    with pytest.warns(OtherBaseWarning, match="was trained with another tokenizer than that of"):
        load_causal_lm(tmp_path)


def test_a_base_that_is_not_the_one_it_names_is_said(base, tmp_path):
    theirs = trained(plain(base("llama")), target_modules=["q_proj"])
    saved(theirs, tmp_path / "adapter")
    other = base("llama", seed=5)
    with pytest.warns(OtherBaseWarning, match="names .* as its base and is put on"):
        model = load_adapter(tmp_path / "adapter", base_model=load_causal_lm(other))
    assert adapter_of(model).base_name == other  # by which checkpoints find it
    with pytest.warns(OtherBaseWarning, match="names .* as its base, on"):
        named(PeftModel.from_pretrained(plain(other), str(tmp_path / "adapter")))
    (tmp_path / "link").symlink_to(base("llama"))
    with warnings.catch_warnings():
        warnings.simplefilter("error", OtherBaseWarning)
        load_adapter(tmp_path / "adapter", base_model=load_causal_lm(tmp_path / "link"))
        named(theirs)
    moved(tmp_path / "adapter", "/elsewhere/base")
    with pytest.warns(OtherBaseWarning, match="names '/elsewhere/base' as its base"):
        load_adapter(tmp_path / "adapter", base_model=load_causal_lm(other))
    moved(tmp_path / "adapter", base("llama"))
    small = load_causal_lm(base("llama", hidden_size=16, head_dim=4))
    with pytest.raises(ValueError, match=rf"an adapter of '{base('llama')}', does not fit"):
        load_adapter(tmp_path / "adapter", base_model=small)


def test_a_fingerprint_decides_where_there_is_one(base, tmp_path):
    ours = load_causal_lm(saved(trained(plain(base("opt")), target_modules=["q_proj"]), tmp_path))
    adapter_of(ours).save(tmp_path / "ours")
    plain(base("opt")).save_pretrained(tmp_path / "copy")
    with warnings.catch_warnings():
        warnings.simplefilter("error", OtherBaseWarning)
        load_adapter(tmp_path / "ours", base_model=load_causal_lm(tmp_path / "copy"))
    with pytest.warns(OtherBaseWarning, match="on other weights than those of .*put on"):
        load_adapter(tmp_path / "ours", base_model=load_causal_lm(base("opt", seed=5)))
