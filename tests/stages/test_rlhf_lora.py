"""`rlhf` with an adapter: fine-tuning begins it, reward model and PPO go on with it on one base."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from llm_gym.feedback.reward_model.comparisons import RewardModelConfig
from llm_gym.language_models import load_causal_lm, memory
from llm_gym.language_models.adapters import adapter_of
from llm_gym.stages.compare import CompareConfig
from llm_gym.stages.rlhf import RLHFConfig, rlhf
from llm_gym.stages.rlhf.directory import first_use
from llm_gym.stages.train import TrainConfig, build_algorithm, share_base
from llm_gym.supervised.sft import SFTConfig
from tests.supervised.test_lora import digests
from tests.tiny_rlhf import TINY


def test_every_stage_goes_on_with_the_adapter_on_one_base(tmp_path, monkeypatch):
    config = TINY.with_values(lora_rank=2, sft_learning_rate=1e-2, learning_rate=1e-3)
    run = rlhf(tmp_path / "run", config, quiet=True)
    assert run.summary is not None
    base = tmp_path / "run" / "base"
    assert (base / "config.json").exists()
    adapters = [tmp_path / "run" / name for name in ("sft", "reward-model", "model")]
    states = []
    for directory in adapters:
        settings = json.loads((directory / "adapter_config.json").read_text())
        assert settings["base_model_name_or_path"] == str(base.resolve())
        assert settings["r"] == 2
        assert not (directory / "config.json").exists()
        states.append(load_file(directory / "adapter_model.safetensors"))
    sft, reward, model = states
    assert sft.keys() == model.keys()
    assert reward.keys() - sft.keys() == {"base_model.model.score.weight"}
    for other in (reward, model):
        assert any(not torch.equal(sft[name], other[name]) for name in sft)
    before = digests(base)
    rlhf(tmp_path / "run", config, quiet=True)
    assert digests(base) == before

    scorers = []

    def sharing(scorer, algorithm):
        scorers.append(scorer)
        share_base(scorer, algorithm)

    monkeypatch.setattr("llm_gym.stages.train.share_base", sharing)
    algorithm = build_algorithm(
        TrainConfig(
            model=str(adapters[0]), scorer=f"reward:{adapters[1]}", num_envs=2, device="cpu",
            prompts=str(tmp_path / "run" / "prompts" / "train.jsonl"), max_new_tokens=4,
        )
    )  # fmt: skip
    policy = algorithm.policy.model
    assert adapter_of(policy).base_name == str(base.resolve())
    frozen = {p.data_ptr() for p in policy.parameters() if not p.requires_grad}
    shared = [p for p in scorers[0].model.parameters() if p.data_ptr() in frozen]
    assert sum(p.numel() for p in shared) > 0.9 * load_causal_lm(base).num_parameters()


def test_the_settings_are_those_of_fine_tuning():
    config = RLHFConfig(lora_rank=4, lora_alpha=8)
    assert config.config_of(SFTConfig).lora == {
        "r": 4, "lora_alpha": 8, "target_modules": "all-linear",
    }  # fmt: skip
    assert config.config_of(TrainConfig).lora is None
    assert first_use("lora_rank", config) == "sft"


@pytest.mark.slow
def test_in_bfloat16_the_base_is_in_memory_once_for_policy_and_reward_model(tmp_path, monkeypatch):
    config = TINY.with_values(lora_rank=2, dtype="bfloat16", learning_rate=1e-3)
    for stage in (SFTConfig, CompareConfig, RewardModelConfig, TrainConfig):
        assert config.config_of(stage).dtype == "bfloat16"
    shared = []

    def sharing(scorer, algorithm):
        share_base(scorer, algorithm)
        policy = algorithm.policy.model
        frozen = {p.data_ptr() for p in policy.parameters() if not p.requires_grad}
        shared.append(sum(p.nbytes for p in scorer.model.parameters() if p.data_ptr() in frozen))
        assert {p.dtype for p in policy.parameters() if not p.requires_grad} == {torch.bfloat16}

    monkeypatch.setattr("llm_gym.stages.train.share_base", sharing)
    monkeypatch.setattr("llm_gym.stages.rlhf.stages.share_base", sharing)
    assert rlhf(tmp_path / "run", config, quiet=True).summary is not None
    base = load_causal_lm(tmp_path / "run" / "base", dtype="bfloat16")
    assert len(shared) == 2
    assert min(shared) > 0.9 * sum(p.nbytes for p in base.parameters())


def test_a_model_to_start_from_must_fit_before_the_first_stage(tiny_dir, tmp_path, monkeypatch):
    numbers = load_causal_lm(tiny_dir()).num_parameters()
    config = TINY.with_values(start_from=tiny_dir(), dtype="bfloat16")
    for count in (2 * (1 + 1 + 2 + 1) * numbers - 1, 0):  # the reference is a copy
        monkeypatch.setattr(memory, "free_memory", lambda device="cpu", count=count: count)
        with pytest.raises(ValueError, match=r"training .* needs at least .*a frozen copy"):
            rlhf(tmp_path / "run", config, quiet=True)


def test_an_adapter_to_start_from_gets_no_second_one(tmp_path):
    Path(tmp_path / "adapter_config.json").write_text(json.dumps({"peft_type": "LORA"}))
    with pytest.raises(ValueError, match="lora_rank=4 asks for a new adapter, and start_from="):
        RLHFConfig(lora_rank=4, start_from=str(tmp_path))
