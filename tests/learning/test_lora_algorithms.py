"""Every algorithm trains a LoRA adapter: the base stays, exists once, and is the reference."""

from __future__ import annotations

import copy
from types import SimpleNamespace

import numpy as np
import pytest
import stable_baselines3
import torch
from transformers import AutoModel

import llm_gym
from llm_gym.feedback.reward_model.pooled import PooledRewardModel
from llm_gym.language_models import load_causal_lm
from llm_gym.language_models.adapters import adapter_of
from llm_gym.learning.buffer import MaskableEpisodeBuffer
from llm_gym.learning.kl import ReferenceModel
from llm_gym.policy import MaskableTransformerPolicy, TwiceDifferentiablePolicy
from llm_gym.stages.train import share_base
from tests.learning.online_worlds import MODEL, make, rollouts, small_env

LLAMA = {
    "vocab_size": 12, "hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2,
    "num_key_value_heads": 1, "intermediate_size": 32, "max_position_embeddings": 16,
}  # fmt: skip
SIZES = {"gpt2": MODEL, "llama": LLAMA}
LORA = {"r": 2, "lora_alpha": 4}


def of_llm_gym(name, **settings):
    def build(model, **policy_kwargs):
        kwargs = {"lora": LORA, **settings.get("policy_kwargs", {}), **policy_kwargs}
        env = small_env(model, group_size=4)
        return make(name, model, env, **{**settings, "policy_kwargs": kwargs})

    return build


def of_others(library, name, policy, buffer=llm_gym.EpisodeBuffer, **settings):
    def build(model, **policy_kwargs):
        module = stable_baselines3 if library == "sb3" else pytest.importorskip("sb3_contrib")
        masked = {"forbidden_token_ids": [5]} if policy is MaskableTransformerPolicy else {}
        return getattr(module, name)(
            policy, llm_gym.GymVecEnv(small_env(model, **masked)), n_steps=5, learning_rate=1e-2,
            seed=0, device="cpu", rollout_buffer_class=buffer,
            policy_kwargs={"model": model, "lora": LORA, **policy_kwargs}, **settings,
        )  # fmt: skip

    return build


PLAIN = llm_gym.TransformerActorCriticPolicy
ALGORITHMS = {
    "PPO": of_llm_gym("PPO", kl_coef=0.1),
    "A2C": of_llm_gym("A2C", kl_coef=0.1),
    "GRPO": of_llm_gym("GRPO", kl_coef=0.1),
    "RLOO": of_llm_gym("RLOO", kl_coef=0.1),
    "ReMax": of_llm_gym("ReMax", kl_coef=0.1),
    "NLPO": of_llm_gym("NLPO", kl_coef=0.1, mask_interval=2),
    "exact KL": of_llm_gym("GRPO", kl_coef=0.1, kl_in="loss", kl_estimator="exact"),
    "ExpertIteration": of_llm_gym("ExpertIteration", kl_coef=0.1),
    "separate critic": of_llm_gym("PPO", kl_coef=0.1, policy_kwargs={"separate_critic": True}),
    "top-k": of_llm_gym("PPO", kl_coef=0.1, policy_kwargs={"top_k": 5}),
    "bf16": of_llm_gym("PPO", kl_coef=0.1, policy_kwargs={"dtype": "bfloat16"}),
    "stock PPO": of_others("sb3", "PPO", PLAIN, batch_size=40),
    "stock A2C": of_others("sb3", "A2C", PLAIN, use_rms_prop=False),
    "MaskablePPO": of_others(
        "contrib", "MaskablePPO", MaskableTransformerPolicy, MaskableEpisodeBuffer, batch_size=40
    ),
    "TRPO": of_others("contrib", "TRPO", TwiceDifferentiablePolicy, batch_size=80),
}
CASES = [
    pytest.param(name, architecture, id=f"{name}-{architecture}")
    for name in ALGORITHMS
    for architecture in (SIZES if name in ("PPO", "NLPO", "separate critic") else ["gpt2"])
]


@pytest.fixture
def directory(tiny_dir):
    return lambda architecture: tiny_dir(architecture, **SIZES[architecture])


def frozen_places(model):
    return {p.data_ptr() for p in model.parameters() if not p.requires_grad}


def as_saved(policy):
    """The base's tensors of a policy's model by the names that they have without an adapter."""
    return {
        name.replace(".base_layer", ""): tensor
        for name, tensor in policy.model.state_dict().items()
        if "lora_" not in name
    }


def check_ratio(policy):
    """What is said of an action when it is chosen is what is said of it in an update."""
    ids = torch.tensor([[3, 4, 5, 0, 0, 0], [6, 7, 0, 0, 0, 0]])
    mask = torch.tensor([[1, 1, 1, 0, 0, 0], [1, 1, 0, 0, 0, 0]], dtype=torch.int8)
    obs = {"input_ids": ids, "attention_mask": mask, "completion_mask": torch.zeros_like(mask)}
    with torch.no_grad():
        actions, values, log_prob = policy(obs)
    if policy.truncates:
        return
    again, evaluated, _ = policy.evaluate_actions(obs, actions)
    tolerance = 1e-5 if policy.dtype == torch.float32 else 0.1
    torch.testing.assert_close(evaluated, log_prob, atol=tolerance, rtol=0)
    torch.testing.assert_close(again, values, atol=10 * tolerance, rtol=0)


@pytest.mark.parametrize(("name", "architecture"), CASES)
def test_only_adapter_and_value_head_learn(name, architecture, directory):
    model = directory(architecture)
    algorithm = ALGORITHMS[name](model)
    policy = algorithm.policy
    before = {key: value.clone() for key, value in policy.state_dict().items()}
    check_ratio(policy)
    rollouts(algorithm, 2)
    check_ratio(policy)

    after = policy.state_dict()
    changed = {key for key in after if not torch.equal(after[key], before[key])}
    assert all("lora_" in key or key.startswith("value_head.") for key in changed)
    assert any("lora_B" in key for key in changed)
    dtype = policy.dtype
    alone = load_causal_lm(model, dtype=dtype, attn_implementation=policy.attn_implementation)
    base = as_saved(policy)
    for key, value in alone.state_dict().items():
        assert torch.equal(base[key], value), key
    held = [p for group in policy.optimizer.param_groups for p in group["params"]]
    assert all(p.requires_grad for p in held)
    assert {p.dtype for p in held} == {torch.float32}
    logged = algorithm.logger.name_to_value
    if dtype == torch.float32 and "train/first_ratio_deviation" in logged:
        assert logged["train/first_ratio_deviation"] < 1e-4

    ours = getattr(algorithm, "reference", None) or ReferenceModel.of(policy)
    assert {p.data_ptr() for p in ours.model.parameters()} == frozen_places(policy.model)
    if algorithm.rollout_buffer is not None and hasattr(algorithm.rollout_buffer, "segments"):
        segments = list(algorithm.rollout_buffer.segments())
        batch = algorithm.rollout_buffer.episode_batch(segments)
        if policy.truncates:
            return  # compared where nothing is cut
        theirs = ReferenceModel(alone, temperature=policy.temperature)
        assert torch.equal(ours.log_probs(batch), theirs.log_probs(batch))
        assert not torch.allclose(
            ours.log_probs(batch), policy.evaluate_actions(batch, batch.actions)[1]
        )


@pytest.mark.parametrize("architecture", SIZES)
def test_dpo_online_trains_the_adapter_alone(architecture, directory):
    model = directory(architecture)
    algorithm = llm_gym.DPO(
        "TransformerPolicy", small_env(model, group_size=4), learning_rate=1e-2, seed=0,
        device="cpu", policy_kwargs={"model": model, "lora": LORA},
    )  # fmt: skip
    algorithm.learn(200)
    learnt = adapter_of(algorithm.policy.model)
    assert any(bool(p.any()) for name, p in learnt.state_dict().items() if "lora_B" in name)
    base = as_saved(algorithm.policy)
    for key, value in load_causal_lm(model).state_dict().items():
        assert torch.equal(base[key], value), key
    reference = algorithm.reference.model
    assert adapter_of(reference) is None
    assert {p.data_ptr() for p in reference.parameters()} == frozen_places(algorithm.policy.model)


@pytest.mark.parametrize("architecture", SIZES)
def test_four_roles_are_on_one_set_of_base_weights(architecture, directory):
    """NLPO's mask, a critic and a reference: of no base weight there is a second copy."""
    algorithm = of_llm_gym("NLPO", kl_coef=0.1, critic="separate")(directory(architecture))
    policy = rollouts(algorithm, 3).policy
    base = frozen_places(policy.model)
    own = [p for n, p in policy.critic.named_parameters() if p.requires_grad]
    assert own
    assert all("lora_" in n for n, p in policy.critic.named_parameters() if p.requires_grad)
    assert any(p.data_ptr() not in base for p in own)
    everything = {}
    for module in (policy, algorithm.reference.model):
        everything |= {p.data_ptr(): p for p in module.parameters()}
    copies = [p for place, p in everything.items() if place not in base]
    trained = sum(p.numel() for n, p in policy.model.named_parameters() if "lora_" in n)
    of_critic = sum(p.numel() for p in own)
    assert sum(p.numel() for p in copies) == 2 * trained + of_critic + MODEL["n_embd"] + 1


def test_a_policy_that_starts_from_an_adapter_has_that_for_its_reference(directory, tmp_path):
    first = rollouts(ALGORITHMS["PPO"](directory("llama")), 2)
    first.policy.save_pretrained(tmp_path / "first")
    second = make("PPO", str(tmp_path / "first"), small_env(directory("llama")), kl_coef=0.1)
    torch.testing.assert_close(second.policy.value_head.weight, first.policy.value_head.weight)
    started = load_causal_lm(tmp_path / "first")
    rollouts(second, 2)
    assert second.rollout_statistics["kl_per_sequence"] != 0
    segments = list(second.rollout_buffer.segments())
    batch = second.rollout_buffer.episode_batch(segments)
    theirs = ReferenceModel(started)
    assert torch.equal(second.reference.log_probs(batch), theirs.log_probs(batch))
    assert frozen_places(second.policy.model) < frozen_places(second.reference.model)
    with pytest.raises(ValueError, match=r"is a LoRA adapter, .* leave lora out, or merge"):
        make("PPO", str(tmp_path / "first"), policy_kwargs={"lora": LORA})


def test_another_reference_on_the_same_base_shares_it(directory, tmp_path):
    first = rollouts(ALGORITHMS["PPO"](directory("llama")), 1)
    first.policy.save_pretrained(tmp_path / "first")
    algorithm = of_llm_gym("PPO", kl_coef=0.1, reference=str(tmp_path / "first"))(
        directory("llama")
    )
    reference = algorithm.reference.model
    apart = {
        n
        for n, p in reference.named_parameters()
        if p.data_ptr() not in frozen_places(algorithm.policy.model)
    }
    assert apart == {n for n, _ in reference.named_parameters() if "lora_" in n}


@pytest.mark.parametrize("architecture", SIZES)
def test_a_reward_model_reads_the_policys_tensors(architecture, directory):
    """Frozen, with a head on its hidden states; `train` shares what a scorer by name loads."""
    policy = ALGORITHMS["PPO"](directory(architecture)).policy
    trunk = AutoModel.from_pretrained(directory(architecture))
    rewards = PooledRewardModel(trunk.requires_grad_(False), [1], "mean")
    ids = torch.tensor([[3, 4, 5]])
    with torch.no_grad():
        expected = rewards(ids, torch.ones_like(ids)).logits
        share_base(SimpleNamespace(model=rewards), SimpleNamespace(policy=policy))
        assert torch.equal(rewards(ids, torch.ones_like(ids)).logits, expected)
    assert {p.data_ptr() for p in trunk.parameters()} <= frozen_places(policy.model)
    assert {n for n, p in rewards.named_parameters() if p.requires_grad} == {
        "score.weight",
        "score.bias",
    }


@pytest.mark.parametrize("architecture", SIZES)
def test_parts_of_a_minibatch_give_the_whole_ones_gradients(architecture, directory):
    """With layers recomputed, whose inputs come from an embedding that does not learn."""
    states = []
    for options in ({}, {"micro_batch_size": 3, "gradient_checkpointing": True}):
        build = of_llm_gym(
            "PPO", kl_coef=0.1, n_epochs=1, policy_kwargs={"optimizer_class": torch.optim.SGD}
        )
        states.append(rollouts(build(directory(architecture), **options)).policy.state_dict())
    start = ALGORITHMS["PPO"](directory(architecture)).policy.state_dict()
    for name, value in states[0].items():
        torch.testing.assert_close(states[1][name], value, atol=1e-6, rtol=1e-5)
    assert any("lora_B" in n and not torch.equal(states[0][n], start[n]) for n in start)


def test_what_the_reference_shares_cannot_be_trained_behind_its_back(directory):
    algorithm = rollouts(ALGORITHMS["GRPO"](directory("gpt2")))
    algorithm.policy.model.get_output_embeddings().requires_grad_(True)
    with pytest.raises(ValueError, match="were unfrozen, and would take it along"):
        rollouts(algorithm)


class _LowerLayersFrozen(llm_gym.TransformerActorCriticPolicy):
    def _load(self, seed):
        model = super()._load(seed)
        model.transformer.h[0].requires_grad_(False)
        return model


def test_the_frozen_part_of_a_trunk_exists_once(tiny_dir):
    model = tiny_dir("gpt2", **MODEL | {"n_layer": 2})
    algorithm = llm_gym.PPO(
        _LowerLayersFrozen, small_env(model), kl_coef=0.1, seed=0, device="cpu",
        policy_kwargs={"model": model, "separate_critic": True},
    )  # fmt: skip
    policy, reference = rollouts(algorithm).policy, algorithm.reference.model
    for other in (reference.transformer, policy.critic):
        for key, parameter in policy.model.transformer.named_parameters():
            shared = other.get_parameter(key) is parameter
            assert shared == key.startswith("h.0."), key
    alone = load_causal_lm(model)
    for key, parameter in reference.named_parameters():
        assert torch.equal(parameter, alone.get_parameter(key))


def test_loading_goes_on_as_saved(directory, tmp_path):
    algorithm = rollouts(ALGORITHMS["PPO"](directory("llama")), 2)
    algorithm.save(tmp_path / "ppo.zip")
    loaded = llm_gym.PPO.load(tmp_path / "ppo.zip", env=small_env(directory("llama"), group_size=4))
    state = algorithm.policy.state_dict()
    for key, value in loaded.policy.state_dict().items():
        assert torch.equal(value, state[key]), key
    assert adapter_of(loaded.policy.model).config.lora_alpha == 4
    obs = algorithm.env.reset()
    expected, _ = algorithm.policy.predict(obs, deterministic=True)
    assert np.array_equal(loaded.policy.predict(obs, deterministic=True)[0], expected)
    rollouts(loaded)


def test_a_copy_of_a_policy_learns_by_itself(directory):
    algorithm = rollouts(ALGORITHMS["PPO"](directory("gpt2")))
    copied = copy.deepcopy(algorithm.policy)
    state = {key: value.clone() for key, value in copied.state_dict().items()}
    rollouts(algorithm)
    for key, value in copied.state_dict().items():
        assert torch.equal(value, state[key]), key
    check_ratio(copied)


@pytest.mark.parametrize(
    ("lora", "match"),
    [
        ({"target_modules": ["q_proj"]}, "match no layer of GPT2LMHeadModel, .*c_attn"),
        ({"lora_dropout": 0.1}, "lora_dropout=0.1 must be 0 in a policy"),
        ({"r": 0}, "r=0 must be"),
        ({"rank": 3}, "lora has no setting 'rank'"),
        ("all-linear", "lora must be a dict"),
    ],
)
def test_settings_that_do_not_fit_are_refused(lora, match, directory):
    with pytest.raises((ValueError, TypeError), match=match):
        make("PPO", directory("gpt2"), policy_kwargs={"lora": lora})


@pytest.mark.parametrize("architecture", SIZES)
def test_activation_checkpointing_gives_the_same_gradients(architecture, directory):
    gradients = []
    for checkpointed in (False, True):
        algorithm = rollouts(ALGORITHMS["PPO"](directory(architecture)))
        policy, buffer = algorithm.policy, algorithm.rollout_buffer
        if checkpointed:
            policy.model.gradient_checkpointing_enable()
        batch = buffer.episode_batch(list(buffer.segments()))
        policy.optimizer.zero_grad()
        policy.evaluate_actions(batch, batch.actions)[1].sum().backward()
        gradients.append({n: p.grad for n, p in policy.named_parameters() if "lora_" in n})
    for name, gradient in gradients[0].items():
        assert gradient.abs().max() > 0
        torch.testing.assert_close(gradients[1][name], gradient)
