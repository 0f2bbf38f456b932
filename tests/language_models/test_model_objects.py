"""Every door takes a model by name, by path or in memory, and says the same of what it cannot."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import stable_baselines3
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from transformers import AutoModel, AutoModelForCausalLM

import llm_gym
from llm_gym.feedback.dpo.dpo import DPOConfig
from llm_gym.feedback.reward_model import RewardModelConfig
from llm_gym.language_models import load_causal_lm
from llm_gym.language_models.model_objects import named
from llm_gym.learning.objective import KLPenalty
from llm_gym.stages.chat import Conversation
from llm_gym.stages.chat_settings import ChatConfig
from llm_gym.stages.compare import CompareConfig
from llm_gym.stages.merge import merge_adapter
from llm_gym.stages.rlhf import RLHFConfig
from llm_gym.stages.train import TrainConfig
from llm_gym.supervised.sft import SFTConfig, fine_tune
from tests.learning.online_worlds import MODEL, PROMPTS, count_w1, make, small_env

PAIRS = [{"prompt": f"w{n % 7}", "completion": "w3 w4"} for n in range(8)]


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HOME", str(tmp_path / "home"))


@pytest.fixture
def base(tiny_dir):
    return tiny_dir("gpt2", **MODEL)


def lora():
    return LoraConfig(r=2, target_modules=["c_attn"], task_type="CAUSAL_LM")


def drawn(model):
    """The model, its new adapter no longer doing nothing."""
    for name, parameter in model.named_parameters():
        if "lora_" in name:
            torch.nn.init.normal_(parameter, std=0.3, generator=torch.manual_seed(3))
    return model


def plain(base):
    return AutoModelForCausalLM.from_pretrained(base)


def pefts(base):
    return drawn(get_peft_model(plain(base), lora()))


def transformers_own(base):
    model = plain(base)
    model.add_adapter(lora(), "mine")
    return drawn(model)


def changed(base):
    model = plain(base)
    with torch.no_grad():
        model.transformer.h[0].mlp.c_fc.weight[0, 0] += 1
    return model


KINDS = {
    "text": str,
    "path": Path,
    "model": plain,
    "PeftModel": pefts,
    "adapter of transformers": transformers_own,
}


def arguments(base):
    return {"tokenizer": base, "prompts": PROMPTS, "scorer": count_w1, "max_new_tokens": 5}


def reference(model, base, _):
    algorithm = make("PPO", base, small_env(base), kl_coef=0.1, reference=model)
    return [p.detach().sum().item() for p in algorithm.reference.model.parameters()]


def tuned(model, base, output):
    config = SFTConfig(batch_size=8, held_out_share=0.3)
    return fine_tune(model, PAIRS, output, config, quiet=True)["held_out_answer_perplexity"]


DOORS = {
    "evaluate": lambda model, base, _: llm_gym.evaluate(model, arguments(base)).mean_score,
    "best_of_n": lambda model, base, _: (
        llm_gym.sample_best_of_n(model, arguments(base), 2).best.mean_score
    ),
    "policy": lambda model, base, _: make("PPO", model, small_env(base)).policy.model_name,
    "Stable-Baselines3": lambda model, base, _: stable_baselines3.PPO(
        llm_gym.TransformerActorCriticPolicy,
        llm_gym.GymVecEnv(small_env(base)),
        rollout_buffer_class=llm_gym.EpisodeBuffer,
        policy_kwargs={"model": model},
        device="cpu",
    ).policy_kwargs["model"],
    "reference": reference,
    "fine_tune": tuned,
    "DPOConfig": lambda model, *_: DPOConfig(model=model, reference=model).reference,
    "RewardModelConfig": lambda model, *_: RewardModelConfig(model=model).model,
    "TrainConfig": lambda model, *_: TrainConfig(model=model).model,
    "RLHFConfig": lambda model, *_: RLHFConfig(start_from=model).start_from,
    "CompareConfig": lambda model, *_: CompareConfig(model=model).model,
    "KLPenalty": lambda model, *_: KLPenalty(reference=model).reference,
    "chat": lambda model, *_: "".join(
        Conversation(model, ChatConfig(max_new_tokens=4)).answer("w1 w2")
    ),
}


@pytest.mark.parametrize("door", DOORS)
def test_a_door_takes_a_model_however_it_is_given(door, base, tmp_path):
    for kind, give in KINDS.items():
        found = [
            DOORS[door](model, base, tmp_path / f"{kind} {n}")
            for n, model in enumerate((give(base), named(give(base))))
        ]
        assert found[0] == found[1], kind


@pytest.mark.parametrize("door", DOORS)
def test_what_is_no_model_by_a_name_is_refused_at_every_door(door, base, tmp_path):
    for model, error, sentence in (
        (changed(base), ValueError, r"\('transformer.h.0.mlp.c_fc.weight' differs\); save it with"),
        (AutoModelForCausalLM.from_config(plain(base).config), ValueError, "has no name, by which"),
        (torch.nn.Linear(2, 2), TypeError, "must be the name or path of a model"),
    ):
        if error is ValueError and "no name" in sentence:
            model.config._name_or_path = model.name_or_path = ""
        with pytest.raises(error, match=sentence) as caught:
            DOORS[door](model, base, tmp_path / "output")
        assert "\n" not in str(caught.value)


def test_a_model_is_its_directory_wherever_the_process_is(base, tmp_path, monkeypatch):
    monkeypatch.chdir(Path(base).parent)
    model = AutoModelForCausalLM.from_pretrained(Path(base).name)
    assert named(model) == str(Path(base).resolve())
    for dtype in (torch.bfloat16, torch.float64):
        assert named(AutoModelForCausalLM.from_pretrained(base, dtype=dtype)) == named(model)
    assert named(AutoModel.from_pretrained(base)) == named(model)
    assert named(load_causal_lm(base)) == named(model)


def test_a_path_means_no_name_on_the_hub():
    with pytest.raises(FileNotFoundError, match="there is no directory"):
        load_causal_lm(named(Path("owner/model")))
    assert named("owner/model") == "owner/model"
    assert named(Path("llm_gym/email-sft")) == "llm_gym/email-sft"


def test_an_adapter_of_transformers_is_that_of_peft(base, tmp_path):
    assert named(transformers_own(base)) == named(pefts(base))
    pefts(base).save_pretrained(tmp_path / "adapter")
    opened = AutoModelForCausalLM.from_pretrained(tmp_path / "adapter")
    assert named(opened) == named(pefts(base)) == named(load_causal_lm(tmp_path / "adapter"))
    broken = transformers_own(base)
    with torch.no_grad():
        broken.transformer.wpe.weight[0] += 1
    with pytest.raises(ValueError, match=r"the base of the GPT2LMHeadModel is not what is in"):
        named(broken)


def test_an_adapter_in_memory_is_merged(base, tmp_path):
    shutil.copytree(base, tmp_path / "base")
    model = pefts(str(tmp_path / "base"))
    merge_adapter(model, tmp_path / "merged")
    ids = torch.arange(8)[None]
    with torch.no_grad():
        merged = load_causal_lm(tmp_path / "merged")(ids).logits
        assert torch.allclose(merged, model.eval()(input_ids=ids).logits, atol=1e-5)
    with pytest.raises(ValueError, match="is no adapter"):
        merge_adapter(plain(base), tmp_path / "nothing")


def test_what_is_measured_by_a_model_is_measured_by_pefts_object(base):
    from llm_gym.runs.evaluation import perplexity_under

    rows = llm_gym.evaluate(base, arguments(base)).rows
    model = pefts(base).eval()
    assert isinstance(model, PeftModel)
    assert perplexity_under(model, rows) == perplexity_under(load_causal_lm(named(model)), rows)
