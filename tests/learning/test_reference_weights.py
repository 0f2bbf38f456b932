"""Where the reference's weights are: in memory, there as bfloat16, or on the disk."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch

import llm_gym
from llm_gym.language_models.loading import load_causal_lm
from llm_gym.learning.kl import ReferenceModel
from llm_gym.runs.checkpoint import load_checkpoint, save_checkpoint
from tests.learning.online_worlds import MODEL, make, rollouts, small_env

WITH_REFERENCE = {
    "PPO": {"kl_coef": 0.1},
    "GRPO": {"kl_coef": 0.1, "kl_in": "loss", "kl_estimator": "k3"},
    "RLOO": {"kl_coef": 0.1, "kl_in": "loss", "kl_estimator": "exact"},
    "ExpertIteration": {"kl_coef": 0.1},
    "DPO": {},
}


@pytest.fixture
def model(tiny_dir):
    return tiny_dir("gpt2", **MODEL)


def learnt(name, model, **settings):
    algorithm = getattr(llm_gym, name)(
        "TransformerPolicy", small_env(model, group_size=4), learning_rate=1e-2, seed=0,
        device="cpu", policy_kwargs={"model": model}, **WITH_REFERENCE[name], **settings,
    )  # fmt: skip
    return rollouts(algorithm, 2)


@pytest.mark.parametrize("name", WITH_REFERENCE)
def test_from_the_disk_everything_is_as_from_memory(name, model):
    """Bit for bit, after two updates; and between passes the weights are where they belong."""
    in_memory = learnt(name, model)
    on_disk = learnt(name, model, reference_weights="disk")
    expected = in_memory.policy.state_dict()
    assert all(torch.equal(v, expected[key]) for key, v in on_disk.policy.state_dict().items())
    mapped = on_disk.reference._mapped
    assert mapped.nbytes == sum(p.nbytes for p in on_disk.reference.model.parameters())


@pytest.mark.parametrize("name", WITH_REFERENCE)
def test_in_bfloat16_the_policy_stays_what_it_is(name, model):
    algorithm = learnt(name, model, reference_weights="bfloat16")
    assert {p.dtype for p in algorithm.reference.model.parameters()} == {torch.bfloat16}
    assert algorithm.policy.dtype == torch.float32


def test_a_reference_in_bfloat16_is_near_the_one_it_stands_for(model):
    algorithm = make("PPO", model, kl_coef=0.1)
    rollouts(algorithm)
    segments = list(algorithm.episodes.segments())
    batch = algorithm.episodes.episode_batch(segments)
    exact = algorithm.reference.log_probs(batch)
    half = ReferenceModel.of(algorithm.policy, model, "bfloat16").log_probs(batch)
    assert half.dtype == torch.float32
    torch.testing.assert_close(half, exact, atol=0.05, rtol=0)
    assert not torch.equal(half, exact)


@pytest.mark.parametrize("weights", ["disk", "bfloat16"])
def test_what_is_frozen_in_the_policy_stays_the_policys(weights, model):
    policy = make("PPO", model).policy
    frozen = policy.model.get_input_embeddings().weight.requires_grad_(False)
    before, place = frozen.detach().clone(), frozen.data_ptr()
    reference = ReferenceModel.of(policy, weights=weights)
    assert frozen.dtype == torch.float32
    assert frozen.data_ptr() == place
    assert torch.equal(frozen, before)
    shared = {p.data_ptr() for p in reference.model.parameters()}
    assert (frozen.data_ptr() in shared) == (weights == "disk")


def test_a_run_goes_on_with_its_reference_elsewhere(model, tmp_path):
    """Where weights lie is no part of what they are."""
    first = learnt("PPO", model, reference_weights="disk")
    saved = save_checkpoint(first, tmp_path)
    rollouts(first)
    second = make("PPO", model, small_env(model, group_size=4), kl_coef=0.1)
    load_checkpoint(second, saved)
    rollouts(second)
    expected = first.policy.state_dict()
    assert all(torch.equal(v, expected[key]) for key, v in second.policy.state_dict().items())


def test_what_saves_nothing_or_is_nothing_is_refused(model):
    lora = {"model": model, "lora": {"r": 2}}
    with pytest.raises(ValueError, match="reference_weights='disk' saves nothing beside an"):
        make("PPO", model, kl_coef=0.1, reference_weights="disk", policy_kwargs=lora)
    for name in ("PPO", "GRPO", "DPO", "ExpertIteration"):
        with pytest.raises(ValueError, match="reference_weights='tape' must be one of 'memory'"):
            make(name, model, small_env(model, group_size=4), reference_weights="tape")


@pytest.mark.parametrize("weights", ["memory", "disk", "bfloat16"])
def test_where_weights_are_may_have_been_read_from_a_file(weights, model):
    """A text that was read is not the same object as one that stands in the code."""
    read = "".join(list(weights))
    reference = ReferenceModel.of(make("PPO", model).policy, weights=read)
    assert (reference._mapped is not None) == (weights == "disk")
    dtypes = {p.dtype for p in reference.model.parameters()}
    assert dtypes == {torch.bfloat16 if weights == "bfloat16" else torch.float32}
    if weights == "memory":
        lora = make("PPO", model, policy_kwargs={"model": model, "lora": {"r": 2}}).policy
        assert ReferenceModel.of(lora, weights=read)._mapped is None


@pytest.mark.parametrize("size", [8, 16, 300])
def test_a_reference_has_the_policys_vocabulary_or_is_refused(size, model, tiny_dir):
    other = tiny_dir("gpt2", **(MODEL | {"vocab_size": size}))
    policy = SimpleNamespace(
        model=load_causal_lm(model), dtype=torch.float32, device=torch.device("cpu"),
        temperature=1.0, mixed_precision="no", shared_prompts="auto",
    )  # fmt: skip
    with pytest.raises(ValueError, match=f"has {size} tokens but the policy's model has 12"):
        ReferenceModel.of(policy, other)
    policy.model = load_causal_lm(other)
    assert ReferenceModel.of(policy, other).model.config.vocab_size == size


def test_settings_of_a_reference_are_given_by_name(model):
    with pytest.raises(TypeError, match="positional argument"):
        ReferenceModel(load_causal_lm(model), 0.5)
