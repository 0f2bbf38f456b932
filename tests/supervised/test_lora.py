"""LoRA in supervised training: the adapter alone learns, and its directory opens everywhere."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest
import torch
from peft import PeftModel
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, pipeline

from llm_gym.language_models import load_causal_lm, load_tokenizer
from llm_gym.language_models.adapters import adapter_of
from llm_gym.supervised.lora import LoraSettings
from llm_gym.supervised.pairs import InstructionPair
from llm_gym.supervised.sft import SFTConfig, fine_tune

PAIRS = [InstructionPair(f"w{n} w{n + 1}", "w5 w6 w7") for n in range(20)]
IDS = torch.arange(8)[None]
BOTH = pytest.mark.parametrize("architecture", ["gpt2", "llama"])
SETTINGS = {
    "prompt_template": "{prompt}", "batch_size": 4, "learning_rate": 2e-2,
    "held_out_share": 0.2,
}  # fmt: skip


def digests(directory):
    files = sorted(path for path in Path(directory).rglob("*") if path.is_file())
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def logits(model):
    with torch.no_grad():
        return model(input_ids=IDS).logits


@BOTH
def test_the_adapter_learns_and_the_base_stays(architecture, tiny_dir, tmp_path):
    base = tiny_dir(architecture)
    before = digests(base)
    config = SFTConfig(**SETTINGS | {"prompt_template": "w9 {prompt}"}, epochs=8, lora_rank=4)
    metrics = fine_tune(base, PAIRS, tmp_path / "out", config, quiet=True)
    assert digests(base) == before
    assert (
        metrics["held_out_answer_perplexity"] < 0.7 * metrics["held_out_answer_perplexity_before"]
    )
    assert not (tmp_path / "out" / "config.json").exists()
    saved = load_file(tmp_path / "out" / "adapter_model.safetensors")
    assert all("lora_" in name for name in saved)
    assert any(value.any() for name, value in saved.items() if "lora_B" in name)

    ours = load_causal_lm(tmp_path / "out")
    assert not torch.allclose(logits(ours), logits(load_causal_lm(base)), atol=1e-2)
    plain = AutoModelForCausalLM.from_pretrained(base)
    for opened in (
        PeftModel.from_pretrained(plain, str(tmp_path / "out")),
        pipeline("text-generation", model=str(tmp_path / "out")).model,
    ):
        assert torch.equal(logits(opened), logits(ours))
    assert load_tokenizer(tmp_path / "out").chat_template  # its own, of the template
    assert not load_tokenizer(base).chat_template


def test_an_adapter_is_trained_further_on_the_same_base(tiny_dir, tmp_path):
    config = SFTConfig(**SETTINGS, lora_rank=2, lora_alpha=6, lora_target_modules="q_proj, v_proj")
    fine_tune(tiny_dir("llama"), PAIRS, tmp_path / "one", config, quiet=True)
    first = load_file(tmp_path / "one" / "adapter_model.safetensors")
    assert {name.split(".lora_")[0].rpartition(".")[2] for name in first} == {"q_proj", "v_proj"}
    fine_tune(tmp_path / "one", PAIRS, tmp_path / "two", SFTConfig(**SETTINGS), quiet=True)
    one, two = (
        json.loads((tmp_path / d / "adapter_config.json").read_text()) for d in ("one", "two")
    )
    assert one == two
    assert (one["r"], one["lora_alpha"]) == (2, 6)
    assert one["base_model_name_or_path"] == str(Path(tiny_dir("llama")).resolve())
    second = load_file(tmp_path / "two" / "adapter_model.safetensors")
    assert first.keys() == second.keys()
    assert all(not torch.equal(first[name], second[name]) for name in first)


def test_what_is_stored_in_16_bits_is_the_adapter(tiny_dir, tmp_path):
    config = SFTConfig(**SETTINGS, lora_rank=2, weights="bfloat16")
    fine_tune(tiny_dir("gpt2"), PAIRS, tmp_path / "out", config, quiet=True)
    stored = load_file(tmp_path / "out" / "adapter_model.safetensors")
    assert {value.dtype for value in stored.values()} == {torch.bfloat16}
    assert {p.dtype for p in load_causal_lm(tmp_path / "out").parameters()} == {torch.float32}


def test_the_same_seed_gives_the_same_adapter(tiny_dir, tmp_path):
    for name, seed in (("one", 0), ("two", 0), ("other", 1)):
        config = SFTConfig(**SETTINGS, lora_rank=2, seed=seed)
        fine_tune(tiny_dir("gpt2"), PAIRS, tmp_path / name, config, quiet=True)
    files = [
        (tmp_path / name / "adapter_model.safetensors").read_bytes()
        for name in ("one", "two", "other")
    ]
    assert files[0] == files[1] != files[2]


def test_what_is_trained_is_said_once(tiny_dir, tmp_path, capsys):
    settings = {name: value for name, value in SETTINGS.items() if name != "learning_rate"}
    for rate in ({}, {"learning_rate": 2e-2}):
        config = SFTConfig(**settings, **rate, lora_rank=2)
        fine_tune(tiny_dir("gpt2"), PAIRS, tmp_path / "out", config)
        out = capsys.readouterr().out
        model = load_causal_lm(tmp_path / "out")
        own = sum(p.numel() for p in model.parameters() if p.requires_grad)
        assert f"a LoRA adapter of rank 2 is trained: {own:,} of " in out
        assert ("learning_rate=0.001 is the default, and an adapter" in out) == (not rate)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"lora_rank": -1}, "lora_rank=-1 must be a whole number of at least 0"),
        ({"lora_rank": 2, "lora_alpha": 0}, "lora_alpha=0 must be a whole number of at least 1"),
        ({"lora_alpha": 16}, "lora_alpha=16 is of a LoRA adapter.*give lora_rank"),
        ({"lora_target_modules": "q_proj"}, "lora_target_modules='q_proj' is of a LoRA"),
        ({"lora_rank": 2, "lora_target_modules": " ,"}, "names no layer"),
    ],
)
def test_settings_that_make_no_adapter(settings, message):
    with pytest.raises(ValueError, match=message):
        SFTConfig(**settings)


def test_the_settings_are_those_of_peft():
    assert LoraSettings().lora is None
    assert LoraSettings(lora_rank=8).lora == {
        "r": 8, "lora_alpha": 32, "target_modules": "all-linear",
    }  # fmt: skip
    named = LoraSettings(lora_rank=8, lora_target_modules="q_proj,v_proj ").lora
    assert named["target_modules"] == ["q_proj", "v_proj"]


def test_a_base_is_not_replaced_by_its_adapter(tiny_dir, tmp_path):
    from llm_gym.files.owned import replace_directory

    with replace_directory(tmp_path / "model") as directory:
        load_causal_lm(tiny_dir("gpt2")).save_pretrained(directory)
        load_tokenizer(tiny_dir("gpt2")).save_pretrained(directory)
    before = digests(tmp_path / "model")
    config = SFTConfig(**SETTINGS, lora_rank=2)
    with pytest.raises(ValueError, match="holds the base model, which the adapter needs"):
        fine_tune(tmp_path / "model", PAIRS, tmp_path / "model", config, quiet=True)
    assert digests(tmp_path / "model") == before
    assert adapter_of(load_causal_lm(tmp_path / "model")) is None
