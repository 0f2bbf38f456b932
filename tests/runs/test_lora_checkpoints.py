"""Checkpoints of a LoRA policy: small, exact, and only for the adapter and base they are of."""

from __future__ import annotations

import json

import pytest
import torch
from safetensors.torch import load_file

import llm_gym
from llm_gym.language_models import load_causal_lm
from llm_gym.language_models.adapters import adapter_of
from llm_gym.runs.checkpoint import load_checkpoint, read_metadata, save_checkpoint, save_model
from tests.runs.test_checkpoint import N, assert_same
from tests.tiny_runs import ROLLOUT, tiny_env, tiny_ppo

LORA = {"r": 2, "lora_alpha": 4}


def ppo(model, lora=LORA, **kwargs):
    policy_kwargs = {"model": model, **kwargs} | ({"lora": lora} if lora else {})
    return tiny_ppo(model, policy_kwargs=policy_kwargs, verbose=0)


def nlpo(model):
    return llm_gym.NLPO(
        "TransformerPolicy", tiny_env(model, group_size=2), n_steps=10, kl_coef=0.1,
        mask_interval=2, learning_rate=1e-3, batch_size=40, seed=3, device="cpu",
        policy_kwargs={"model": model, "lora": LORA},
    )  # fmt: skip


@pytest.fixture(scope="module")
def saved(tiny_dir, tmp_path_factory):
    """A checkpoint of a run with an adapter, which no test changes, and its model."""
    algorithm = ppo(tiny_dir("llama"))
    algorithm.learn(2 * ROLLOUT)
    return save_checkpoint(algorithm, tmp_path_factory.mktemp("lora") / "saved")


@pytest.mark.parametrize(
    ("make", "architecture"),
    [
        pytest.param(ppo, "gpt2", marks=pytest.mark.rest),
        pytest.param(ppo, "llama", marks=pytest.mark.rest),
        (lambda model: ppo(model, separate_critic=True), "llama"),
        (nlpo, "gpt2"),
    ],
    ids=["ppo-gpt2", "ppo-llama", "separate critic", "nlpo"],
)
def test_training_on_from_a_checkpoint_is_training_on_bit_for_bit(
    make, architecture, tiny_dir, tmp_path
):
    model = tiny_dir(architecture)
    straight = make(model)
    straight.learn(N)
    straight.learn(N, reset_num_timesteps=False)

    first = make(model)
    first.learn(N)
    directory = save_checkpoint(first, tmp_path / "half")
    second = make(model)
    assert any(
        not torch.equal(value, first.policy.state_dict()[name])
        for name, value in second.policy.state_dict().items()
    )
    load_checkpoint(second, directory)
    second.learn(N, reset_num_timesteps=False)
    assert_same(straight, second)


def test_of_the_base_only_a_fingerprint_is_stored(saved, tiny_dir):
    stored = {n for n in load_file(saved / "training.safetensors") if n.startswith("policy.")}
    policy = ppo(tiny_dir("llama")).policy
    learnt = {f"policy.{name}" for name, p in policy.named_parameters() if p.requires_grad}
    assert stored == learnt
    state = read_metadata(saved)["adapter"]
    assert state["settings"]["lora_alpha"] == 4
    assert len(state["base_sha256"]) == 64


def test_what_others_than_the_adapter_need_is_stored(tiny_dir, tmp_path):
    """NLPO's mask is an earlier adapter, and a critic has one of its own."""
    save_checkpoint(nlpo(tiny_dir()), tmp_path / "nlpo")
    stored = load_file(tmp_path / "nlpo" / "training.safetensors")
    masks = [name for name in stored if name.startswith("policy.mask_model")]
    assert masks
    assert all("lora_" in name for name in masks)


def test_the_model_inside_is_an_adapter(saved, tiny_dir):
    names = {file.name for file in (saved / "model").iterdir()}
    assert {"adapter_config.json", "adapter_model.safetensors", "tokenizer.json"} <= names
    assert {"value_head.safetensors", "generation_config.json"} <= names
    assert not {"config.json", "model.safetensors"} & names
    model = load_causal_lm(saved / "model")
    settings = json.loads((saved / "model" / "adapter_config.json").read_text())
    assert settings["base_model_name_or_path"] == tiny_dir("llama")
    resumed = ppo(tiny_dir("llama"))
    load_checkpoint(resumed, saved)
    for name, value in resumed.policy.model.state_dict().items():
        assert torch.equal(model.state_dict()[name], value), name
    again = ppo(str(saved / "model"), None).policy
    torch.testing.assert_close(again.value_head.weight, resumed.policy.value_head.weight)
    assert adapter_of(again.model).config.r == 2


def test_a_run_that_began_with_an_adapter_goes_on(saved, tmp_path):
    start = str(saved / "model")
    straight, first, second = (ppo(start, None) for _ in range(3))
    straight.learn(N)
    straight.learn(N, reset_num_timesteps=False)
    first.learn(N)
    load_checkpoint(second, save_checkpoint(first, tmp_path / "half"))
    second.learn(N, reset_num_timesteps=False)
    assert_same(straight, second)
    save_model(second, tmp_path / "model")
    settings = json.loads((tmp_path / "model" / "adapter_config.json").read_text())
    before = json.loads((saved / "model" / "adapter_config.json").read_text())
    assert settings == before


@pytest.mark.parametrize(
    ("lora", "match"),
    [
        (LORA | {"r": 4}, "has r=2, the policy's has 4; build the algorithm with the lora"),
        (LORA | {"lora_alpha": 8}, "has lora_alpha=4, the policy's has 8"),
        (LORA | {"use_rslora": True}, "has use_rslora=False, the policy's has True"),
        (LORA | {"target_modules": ["q_proj"]}, "has target_modules="),
        (None, r"is of a policy with a LoRA adapter \(r=2\), and this one has none"),
    ],
)
def test_another_adapter_is_refused_by_name(lora, match, saved, tiny_dir):
    algorithm = ppo(tiny_dir("llama"), lora)
    before = {name: value.clone() for name, value in algorithm.policy.state_dict().items()}
    with pytest.raises(ValueError, match=match):
        load_checkpoint(algorithm, saved)
    for name, value in algorithm.policy.state_dict().items():
        assert torch.equal(value, before[name])


def test_a_checkpoint_without_an_adapter_is_refused_by_a_policy_with_one(tiny_dir, tmp_path):
    plain = save_checkpoint(ppo(tiny_dir("llama"), None), tmp_path / "plain")
    with pytest.raises(ValueError, match="is of a policy without a LoRA adapter"):
        load_checkpoint(ppo(tiny_dir("llama")), plain)


def test_another_base_of_the_same_shape_is_refused(saved, tiny_dir):
    with pytest.raises(ValueError, match="the base below its LoRA adapter is not the policy's"):
        load_checkpoint(ppo(tiny_dir("llama", seed=5)), saved)


def test_checkpoints_from_before_there_were_adapters_are_read(tiny_dir, tmp_path):
    from llm_gym.files import owned

    algorithm = ppo(tiny_dir("llama"), None)
    algorithm.learn(ROLLOUT)
    directory = save_checkpoint(algorithm, tmp_path / "old")
    metadata = json.loads((directory / "checkpoint.json").read_text())
    assert metadata.pop("adapter") is None
    with owned.replace_directory(tmp_path / "older", "checkpoint") as temporary:
        for file in directory.iterdir():
            if file.is_dir():
                file.rename(temporary / file.name)
            elif file.name != owned.MARKER:
                (temporary / file.name).write_bytes(file.read_bytes())
        (temporary / "checkpoint.json").write_text(json.dumps(metadata))
    other = ppo(tiny_dir("llama"), None)
    load_checkpoint(other, tmp_path / "older")
    assert_same(algorithm, other)
