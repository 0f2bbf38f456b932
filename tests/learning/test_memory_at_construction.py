"""What certainly does not fit into memory is refused when an algorithm is made, before it loads."""

from __future__ import annotations

import pytest
import sb3_contrib
import stable_baselines3
import torch

import llm_gym
from llm_gym.language_models import load_causal_lm, memory
from llm_gym.language_models.adapters import adapter_of, add_adapter, lora_config
from tests.learning.online_worlds import MODEL, small_env

POLICY = "llm_gym.policy.transformer_policy.load_causal_lm"


@pytest.fixture
def base(tiny_dir):
    return tiny_dir("gpt2", **MODEL)


@pytest.fixture
def free(monkeypatch):
    """Sets what the machine has."""

    def has(count):
        monkeypatch.setattr(memory, "free_memory", lambda device="cpu": count)

    return has


def make(algorithm, model, policy=llm_gym.TransformerActorCriticPolicy, **kwargs):
    policy_kwargs = {"model": model, **kwargs.pop("policy_kwargs", {})}
    env = llm_gym.GymVecEnv(small_env(str(kwargs.pop("tokenizer", model)), group_size=4))
    return algorithm(policy, env, policy_kwargs=policy_kwargs, device="cpu", **kwargs)


def numbers_of(model):
    return sum(parameter.numel() for parameter in load_causal_lm(model).parameters())


DISK = {"kl_coef": 0.1, "reference_weights": "disk"}
BFLOAT16 = {"kl_coef": 0.1, "reference_weights": "bfloat16"}
CASES = [
    (llm_gym.PPO, {"kl_coef": 0.0}, 4 * (1 + 1 + 2)),
    (llm_gym.PPO, {"kl_coef": 0.1}, 4 * (1 + 1 + 2 + 1)),
    (llm_gym.RLOO, DISK, 4 * (1 + 1 + 2)),
    (llm_gym.GRPO, BFLOAT16, 4 * (1 + 1 + 2) + 2),
    (llm_gym.DPO, {}, 4 * (1 + 1 + 2 + 1)),
    (llm_gym.ExpertIteration, {}, 4 * (1 + 1 + 2)),
    (llm_gym.RLOO, {"kl_coef": 0.0, "policy_kwargs": {"dtype": "bfloat16"}}, 2 * (1 + 1 + 2)),
    (llm_gym.PPO, {"kl_coef": 0.0, "policy_kwargs": {"separate_critic": True}}, 4 * 2 * 4),
    (
        llm_gym.RLOO,
        {"kl_coef": 0.0, "policy_kwargs": {"optimizer_class": torch.optim.SGD}},
        4 * (1 + 1),
    ),
    (stable_baselines3.PPO, {}, 4 * (1 + 1 + 2)),
    (stable_baselines3.A2C, {}, 4 * (1 + 1 + 1)),  # its own RMSprop
    (sb3_contrib.TRPO, {}, 4 * (1 + 1)),
]


@pytest.mark.filterwarnings("ignore:rollout_buffer_class", "ignore:A2C's use_rms_prop")
@pytest.mark.parametrize(("algorithm", "options", "each"), CASES)
def test_what_fits_to_the_byte_is_made_and_a_byte_less_is_refused(
    algorithm, options, each, base, free, monkeypatch
):
    needed = each * numbers_of(base)
    free(needed)
    make(algorithm, base, **options)
    monkeypatch.setattr(POLICY, None)  # nothing is loaded
    free(needed - 1)
    with pytest.raises(ValueError, match=r"training .* needs at least .*gradients.*lora=dict"):
        make(algorithm, base, **options)


@pytest.mark.parametrize(
    ("options", "copies"),
    [({}, 0.0), ({"kl_coef": 0.1}, 1.0), (BFLOAT16, 0.5), (DISK, 0.0)],
    ids=["none", "memory", "bfloat16", "disk"],
)
def test_a_reference_that_is_another_model_counts_nothing(options, copies, base):
    """Its files may be mapped, which takes no memory for sure."""
    assert make(llm_gym.PPO, base, **{"kl_coef": 0.0, **options}).reference_copies == copies
    if options:
        assert make(llm_gym.PPO, base, reference=base, **options).reference_copies == 0.0


def test_what_is_counted_is_what_an_update_holds(base):
    algorithm = make(llm_gym.PPO, base, kl_coef=0.1)
    algorithm.learn(1)
    of_model = list(algorithm.policy.model.parameters())
    held = [tensor for p in of_model for tensor in (p, p.grad)]
    states = algorithm.policy.optimizer.state
    held += [tensor for p in of_model for tensor in states[p].values() if tensor.ndim]
    held += algorithm.reference.model.parameters()
    assert sum(tensor.nbytes for tensor in held) == 20 * numbers_of(base)


def test_of_an_adapter_its_own_numbers_count(base, free, tmp_path):
    lora = {"r": 2, "target_modules": ["c_attn"]}
    model = load_causal_lm(base)
    add_adapter(model, lora_config(lora, model), seed=0)
    own = sum(p.numel() for p in model.parameters() if p.requires_grad)
    adapter_of(model).save(tmp_path)
    free(16 * own)
    new = {"kl_coef": 0.1, "policy_kwargs": {"lora": lora}}
    with pytest.warns(memory.MemoryWarning, match="read from the disk again and again"):
        make(llm_gym.PPO, base, **new)  # the base itself is mapped
    free(16 * own - 1)
    with (
        pytest.warns(memory.MemoryWarning),
        pytest.raises(ValueError, match=r"r=2: an adapter .*moments.*lower r"),
    ):
        make(llm_gym.PPO, base, **new)
    free(20 * own - 1)  # the reference has a copy of one that was there before
    with pytest.raises(ValueError, match=r"training .*frozen copy.* lower rank"):
        make(llm_gym.PPO, tmp_path, tokenizer=base, kl_coef=0.1)


def test_modules_that_are_trained_whole_count_beside_an_adapter(base, free):
    model = load_causal_lm(base, dtype="bfloat16")
    lora = {"r": 2, "target_modules": ["c_attn"], "modules_to_save": ["wte"]}
    rank = 2 * (16 + 48)
    whole = model.get_input_embeddings().weight.numel()
    free(16 * (rank + whole))
    lora_config(lora, model, moments=2)
    free(16 * (rank + whole) - 1)
    with pytest.raises(ValueError, match=r"whole modules beside it .*leave out modules_to_save"):
        lora_config(lora, model, moments=2)
    lora_config(lora, model)
    norms = sum(p.numel() for name, p in model.named_parameters() if ".ln_" in name)
    lora["modules_to_save"] = ["_f", "_1", "_2"]  # the end of a word is enough for PEFT
    free(16 * (rank + norms))
    lora_config(lora, model, moments=2)
    free(16 * (rank + norms) - 1)
    with pytest.raises(ValueError, match="whole modules beside it"):
        lora_config(lora, model, moments=2)


class Halved(llm_gym.TransformerActorCriticPolicy):
    """Somebody's own, that trains the value head alone."""


class Mine(llm_gym.PPO):
    """Somebody's own algorithm."""


def test_what_may_train_less_and_what_is_read_from_a_file_is_not_refused(base, free, tmp_path):
    algorithm = make(llm_gym.PPO, base, kl_coef=0.1)
    algorithm.learn(1)
    algorithm.save(tmp_path / "saved")
    free(4 * numbers_of(base))
    make(llm_gym.PPO, base, policy=Halved)
    make(Mine, base)
    llm_gym.PPO.load(tmp_path / "saved", device="cpu")


def test_a_name_on_the_hub_is_counted_where_its_files_are_in_the_cache(base, tmp_path, monkeypatch):
    from pathlib import Path

    files = tmp_path / "models--somebody--model" / "snapshots" / "0"
    files.mkdir(parents=True)
    for name in ("config.json", "model.safetensors"):
        (files / name).symlink_to(Path(base) / name)
    (tmp_path / "models--somebody--model" / "refs").mkdir()
    (tmp_path / "models--somebody--model" / "refs" / "main").write_text("0")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    assert memory.stored_numbers("somebody/model") == {"F32": numbers_of(base)}
    assert memory.stored_numbers("somebody/other") == {}
