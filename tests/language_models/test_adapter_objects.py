"""A `PeftModel` in the place of a name: its adapter is started from, and is the reference."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import stable_baselines3
import torch
from peft import LoraConfig, PeftModel, PromptTuningConfig, get_peft_model
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification

import llm_gym
from llm_gym.feedback.dpo.dpo import DPOConfig, train_dpo
from llm_gym.feedback.preferences import Preference
from llm_gym.feedback.reward_model import RewardModelConfig, train_reward_model
from llm_gym.language_models import load_causal_lm
from llm_gym.language_models.adapters import adapter_of
from llm_gym.language_models.classifier_adapters import load_classifier
from llm_gym.language_models.model_objects import named
from llm_gym.stages.rlhf import RLHFConfig
from llm_gym.supervised.sft import SFTConfig, fine_tune
from tests.feedback.reward_model.worlds import preferences
from tests.learning.online_worlds import MODEL, make, rollouts, small_env

IDS = torch.arange(8)[None]


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HOME", str(tmp_path / "home"))
    return tmp_path / "home" / "llm_gym" / "adapters"


@pytest.fixture
def base(tiny_dir):
    return tiny_dir("gpt2", **MODEL)


def peft_model(base, *, dtype=torch.float32, name="default", kind=AutoModelForCausalLM, **settings):
    """An object of PEFT's whose adapter does something."""
    options = {"num_labels": 1} if kind is AutoModelForSequenceClassification else {}
    plain = kind.from_pretrained(base, dtype=dtype, **options)
    settings = {"target_modules": ["c_attn"], "r": 2, "task_type": "CAUSAL_LM"} | settings
    model = get_peft_model(plain, LoraConfig(**settings), adapter_name=name)
    for parameter_name, parameter in model.named_parameters():
        if "lora_" in parameter_name:
            torch.nn.init.normal_(parameter, std=0.3, generator=torch.manual_seed(3))
    return model.eval()


def logits(model):
    with torch.no_grad():
        return model(input_ids=IDS).logits


ALGORITHMS = {
    "PPO": {}, "A2C": {}, "RLOO": {"group_size": 4}, "GRPO": {"group_size": 4},
    "ReMax": {"group_size": 4}, "ExpertIteration": {"group_size": 4}, "NLPO": {},
}  # fmt: skip


@pytest.mark.parametrize("name", ALGORITHMS)
def test_every_algorithm_starts_from_its_adapter_which_is_the_reference(name, base):
    model = peft_model(base, lora_dropout=0.1)
    before = logits(model)
    options = {} if name == "NLPO" else {"kl_coef": 0.1}
    algorithm = make(name, model, small_env(base, **ALGORITHMS[name]), **options)
    assert torch.allclose(logits(algorithm.policy.model), before, atol=1e-5)
    if algorithm.reference is not None:
        assert torch.allclose(logits(algorithm.reference.model), before, atol=1e-5)
    rollouts(algorithm)
    assert not torch.allclose(logits(algorithm.policy.model), before, atol=1e-5)
    assert torch.equal(logits(model), before)  # the object is not trained
    learnt = {key for key, p in algorithm.policy.model.named_parameters() if p.requires_grad}
    assert learnt
    assert all("lora_" in key for key in learnt)
    assert adapter_of(algorithm.policy.model).base_name == str(Path(base).resolve())


def test_what_is_saved_names_the_adapter_and_opens_again(base, tmp_path):
    kwargs = {"model": peft_model(base)}
    for algorithm in (
        make("PPO", kwargs["model"], small_env(base)),
        stable_baselines3.PPO(
            llm_gym.TransformerActorCriticPolicy, llm_gym.GymVecEnv(small_env(base)), n_steps=5,
            batch_size=20, rollout_buffer_class=llm_gym.EpisodeBuffer, policy_kwargs=kwargs,
            device="cpu",
        ),
    ):  # fmt: skip
        assert isinstance(kwargs["model"], PeftModel)  # the caller's own
        assert algorithm.policy_kwargs["model"] == named(kwargs["model"])
        rollouts(algorithm)
        algorithm.save(tmp_path / "saved")
        loaded = type(algorithm).load(tmp_path / "saved", device="cpu")
        assert torch.equal(logits(loaded.policy.model), logits(algorithm.policy.model))
    algorithm.policy.save_pretrained(tmp_path / "adapter")
    opened = PeftModel.from_pretrained(
        AutoModelForCausalLM.from_pretrained(base), str(tmp_path / "adapter")
    )
    assert torch.allclose(logits(opened), logits(algorithm.policy.model), atol=1e-5)


def test_fine_tuning_dpo_and_reward_models_go_on_with_it(base, tmp_path):
    model = peft_model(base)
    pairs = [{"prompt": f"w{n % 7}", "completion": "w3 w4"} for n in range(20)]
    fine_tune(model, pairs, tmp_path / "sft", SFTConfig(learning_rate=1e-2), quiet=True)
    votes = [Preference(f"w{n % 9}", f"w1 w{n % 8}", "w8") for n in range(15)]
    config = DPOConfig(model=model, epochs=1, batch_size=4)
    metrics = train_dpo(votes, tmp_path / "dpo", config, quiet=True)
    assert metrics["held_out_before"]["margin"] == 0
    rows = preferences(20)
    reward = RewardModelConfig(model=model, head="finetune")
    train_reward_model(rows, tmp_path / "reward", reward, quiet=True)
    for output in ("sft", "dpo", "reward"):
        settings = json.loads((tmp_path / output / "adapter_config.json").read_text())
        assert settings["base_model_name_or_path"] == str(Path(base).resolve())
        assert (settings["r"], settings["target_modules"]) == (2, ["c_attn"])
    assert RLHFConfig(start_from=model).start_from == named(model)
    with pytest.raises(ValueError, match="lora_rank=4 asks for a new adapter"):
        fine_tune(model, pairs, tmp_path / "new", SFTConfig(lora_rank=4), quiet=True)


def test_a_classifier_of_pefts_is_a_reward_model_trained_further(base, tmp_path):
    kind = AutoModelForSequenceClassification
    model = peft_model(base, kind=kind, task_type="SEQ_CLS", modules_to_save=["score"])
    config = RewardModelConfig(model=model, head="finetune")
    train_reward_model(preferences(20), tmp_path / "reward", config, quiet=True)
    weights = load_file(tmp_path / "reward" / "adapter_model.safetensors")
    assert "base_model.model.score.weight" in weights
    with pytest.raises(ValueError, match="is an adapter of a classifier"):
        make("PPO", model, small_env(base))


def test_the_end_of_its_heads_name_is_enough_as_for_peft(base, tmp_path):
    kind = AutoModelForSequenceClassification
    model = peft_model(base, kind=kind, task_type="SEQ_CLS", modules_to_save=["score"])
    model.save_pretrained(tmp_path)
    path = tmp_path / "adapter_config.json"
    settings = json.loads(path.read_text()) | {"modules_to_save": ["core"]}
    path.write_text(json.dumps(settings))
    head = model.base_model.model.score.modules_to_save["default"].weight
    assert torch.equal(load_classifier(tmp_path).score.modules_to_save["default"].weight, head)


def test_the_same_adapter_is_kept_once_and_another_beside_it(base, home):
    first, same = named(peft_model(base)), named(peft_model(base, name="mine"))
    other = named(peft_model(base, lora_alpha=3))
    assert first == same != other
    assert {str(path) for path in home.iterdir()} == {first, other}
    names = {path.name for path in Path(first).iterdir()}
    assert {"adapter_config.json", "adapter_model.safetensors"} <= names
    for dtype in (torch.bfloat16, torch.float64):
        model = peft_model(base, dtype=dtype)
        opened = load_causal_lm(named(model), dtype=dtype)
        assert torch.equal(logits(opened), logits(model))
    assert named("somebody/model") == "somebody/model"


def refused(model, told):
    with pytest.raises(ValueError, match=told) as error:
        named(model)
    assert "\n" not in str(error.value)


def test_what_its_name_would_not_give_back_is_refused(base):
    merged = peft_model(base).merge_and_unload()
    refused(
        get_peft_model(merged, LoraConfig(r=2, target_modules=["c_attn"])),
        r"is not what is in '.*'.* \('transformer.h.0.attn.c_attn.weight' differs\); save the base",
    )
    resized = AutoModelForCausalLM.from_pretrained(base)
    resized.resize_token_embeddings(40)
    refused(get_peft_model(resized, LoraConfig(r=2, target_modules=["c_attn"])), "differs")
    nameless = AutoModelForCausalLM.from_config(AutoModelForCausalLM.from_pretrained(base).config)
    nameless.config._name_or_path = nameless.name_or_path = ""
    refused(get_peft_model(nameless, LoraConfig(r=2, target_modules=["c_attn"])), "without a name")


def test_an_object_that_computes_something_else_is_refused(base):
    plain = AutoModelForCausalLM.from_pretrained(base)
    tuned = get_peft_model(plain, PromptTuningConfig(num_virtual_tokens=2, task_type="CAUSAL_LM"))
    refused(tuned, "adapter of the kind PROMPT_TUNING, and only LoRA is supported")
    model = peft_model(base)
    model.merge_adapter()
    refused(model, r"merged into its base; call unmerge_adapter\(\)")
    model = peft_model(base)
    model.base_model.disable_adapter_layers()
    refused(model, "switched off")
    refused(peft_model(base, bias="all"), r"lora: bias='all' must be 'none'")
    assert named(AutoModelForCausalLM.from_pretrained(base)) == str(Path(base).resolve())


def test_a_home_that_cannot_be_written_is_said(base, tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setattr("huggingface_hub.constants.HF_HOME", str(tmp_path / "file"))
    with pytest.raises(OSError, match=r"cannot be kept in .*; set HF_HOME"):
        named(peft_model(base))
