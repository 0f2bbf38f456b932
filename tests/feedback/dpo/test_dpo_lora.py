"""DPO of a LoRA adapter: one base in memory, and a reference that is equal to the bit."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from llm_gym.feedback.dpo import progress
from llm_gym.feedback.dpo.dpo import train_dpo
from llm_gym.feedback.dpo.preference_pairs import encode_preferences, reference_log_probs
from llm_gym.feedback.dpo.reference import reference_of
from llm_gym.language_models import load_causal_lm, load_tokenizer
from llm_gym.language_models.adapters import adapter_of, add_adapter, load_adapter, lora_config
from llm_gym.language_models.architecture import decoder_of
from tests.feedback.dpo.test_dpo import TEMPLATE, config, rows
from tests.supervised.test_lora import digests

BOTH = pytest.mark.parametrize("architecture", ["gpt2", "llama"])


def log_probs(model, directory):
    encoded = encode_preferences(load_tokenizer(directory), rows(12), TEMPLATE, None)
    return reference_log_probs(model, encoded, 4)


@pytest.fixture
def started(tiny_dir, tmp_path):
    """Makes an adapter directory to start from, one that does something."""

    def make(architecture):
        model = load_causal_lm(tiny_dir(architecture))
        add_adapter(model, lora_config({"r": 2}, model), seed=0)
        for parameter in model.parameters():
            if parameter.requires_grad:
                torch.nn.init.normal_(parameter, std=0.2, generator=torch.manual_seed(5))
        adapter_of(model).save(tmp_path / "start")
        return str(tmp_path / "start")

    return make


@BOTH
def test_it_learns_and_the_base_stays(architecture, tiny_dir, tmp_path):
    base = tiny_dir(architecture)
    before = digests(base)
    settings = config(base, epochs=3, lora_rank=4, learning_rate=3e-2)
    metrics = train_dpo(
        rows(120), tmp_path / "out", settings, held_out=rows(40, seed=1), quiet=True
    )
    assert metrics["held_out"]["accuracy"] > 0.8
    assert metrics["held_out_before"]["margin"] == 0  # the reference, to the bit
    assert digests(base) == before
    assert all("lora_" in name for name in load_file(tmp_path / "out/adapter_model.safetensors"))
    named = json.loads((tmp_path / "out/adapter_config.json").read_text())
    assert named["base_model_name_or_path"] == str(Path(base).resolve())


@BOTH
def test_the_reference_of_a_new_adapter_is_the_base(architecture, tiny_dir):
    base = tiny_dir(architecture)
    model = load_causal_lm(base)
    add_adapter(model, lora_config({"r": 4}, model), seed=0)
    assert reference_of(model, base, "") is model
    assert torch.equal(log_probs(model, base), log_probs(load_causal_lm(base), base))


@BOTH
def test_references_of_the_same_base_share_it(architecture, tiny_dir, started):
    base, start = tiny_dir(architecture), started(architecture)
    model = load_adapter(start)
    frozen = {p.data_ptr() for p in model.parameters() if not p.requires_grad}
    itself = log_probs(load_adapter(start), base)

    plain = reference_of(model, start, base)
    assert {p.data_ptr() for p in plain.parameters()} == frozen
    assert torch.equal(log_probs(plain, base), log_probs(load_causal_lm(base), base))
    assert not torch.equal(log_probs(plain, base), itself)
    assert adapter_of(model) is not None  # the twin lost its adapter, not the model

    fresh = load_causal_lm(base)
    add_adapter(fresh, lora_config({"r": 4}, fresh), seed=0)
    other = reference_of(fresh, base, start)
    own = {p.data_ptr() for p in decoder_of(fresh).parameters() if not p.requires_grad}
    assert own <= {p.data_ptr() for p in other.parameters()}
    assert torch.equal(log_probs(other, base), itself)


def test_a_stopped_run_of_an_adapter_goes_on_bit_for_bit(tiny_dir, tmp_path, monkeypatch):
    settings = config(tiny_dir(), epochs=2, checkpoint_every=3, lora_rank=2)
    train_dpo(rows(60), tmp_path / "whole", settings, quiet=True)

    class Killed(Exception):
        pass

    note = progress.Progress.note

    def killed(self, **values):
        note(self, **values)
        if self.step == 5:
            raise Killed

    monkeypatch.setattr(progress.Progress, "note", killed)
    with pytest.raises(Killed):
        train_dpo(rows(60), tmp_path / "parts", settings, quiet=True)
    monkeypatch.undo()
    kept = load_file(tmp_path / "parts-unfinished" / progress.TENSORS)
    assert all("lora_" in name for name in kept if name.startswith("model."))
    with pytest.raises(ValueError, match="lora_rank"):
        train_dpo(
            rows(60), tmp_path / "parts", config(tiny_dir(), epochs=2, lora_rank=3), quiet=True
        )
    train_dpo(rows(60), tmp_path / "parts", settings, quiet=True)
    assert not (tmp_path / "parts-unfinished").exists()
    name = "adapter_model.safetensors"
    assert (tmp_path / "parts" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()
