"""An update in micro-batches against the same update at once: gradients, figures, what is held."""

from __future__ import annotations

import gymnasium as gym
import numpy as np
import pytest
import stable_baselines3
import torch
from stable_baselines3.common.callbacks import BaseCallback

import llm_gym
from llm_gym.language_models.packing import micro_batches
from llm_gym.learning.buffer import MaskableEpisodeBuffer
from llm_gym.policy import MaskableTransformerPolicy, TransformerActorCriticPolicy
from llm_gym.policy.trunk import Trunk
from tests.learning.online_worlds import MODEL, small_env
from tests.products import sampled

EOS_IDS = (1, 7, 8)
SGD = {"optimizer_class": torch.optim.SGD, "optimizer_kwargs": {}, "dtype": "float64"}
ALONE = SGD | {"shared_prompts": False}  # so that a pass has as many rows as episodes

OURS = {
    "REINFORCE": ("REINFORCE", {"ent_coef": 0.1}),
    "A2C": ("A2C", {"ent_coef": 0.1, "kl_coef": 0.2, "kl_in": "loss", "kl_estimator": "k3"}),
    "REINFORCE++": ("ReinforcePlusPlus", {"normalize_advantage": True}),
    "ReMax": ("ReMax", {}),
    "RLOO": ("RLOO", {"kl_coef": 0.3}),
    "GRPO": ("GRPO", {"kl_coef": 0.3, "ent_coef": 0.1}),
    "exact": ("GRPO", {"kl_coef": 0.3, "kl_estimator": "exact", "aggregation": "token_mean"}),
    "Dr. GRPO": ("DrGRPO", {"n_epochs": 2, "batch_size": 20}),
    "DAPO": ("DAPO", {"ent_coef": 0.1}),
    "answers": ("RLOO", {"loss": "clipped", "ratio": "answer", "aggregation": "token_mean"}),
    "NLPO": ("NLPO", {"n_epochs": 1, "ent_coef": 0.1}),
    "separate critic": ("A2C", {"critic": "separate"}),
    "RAFT": ("ExpertIteration", {"top_share": 0.6}),
    "DPO": ("DPO", {"online": True}),
}


@pytest.fixture
def model(tiny_dir):
    return tiny_dir("gpt2", **MODEL)


class Move(BaseCallback):
    """Moves the weights between a rollout and its update, so that no ratio is 1."""

    def _on_step(self) -> bool:
        return True

    @torch.no_grad()
    def _on_rollout_end(self) -> None:
        noise = torch.manual_seed(0)
        for parameter in self.model.policy.model.parameters():
            parameter.add_(0.3 * torch.randn(parameter.shape, generator=noise))


def updated(make, monkeypatch, **policy_kwargs):
    """Every step's gradient, the figures, and the sizes of passes that recorded gradients."""
    algorithm = make(policy_kwargs)
    steps, passes = [], []
    full, packed = Trunk.full, Trunk.packed

    def noted(trunk, input_ids, *layout, **asked):
        if torch.is_grad_enabled():
            passes.append(len(input_ids) if not layout else input_ids.numel())
        return full(trunk, input_ids, *layout, **asked)

    def noted_packed(trunk, rows):
        if torch.is_grad_enabled():
            passes.append(int(rows.lengths.sum()))
        return packed(trunk, rows)

    def keep(optimizer, *_):
        grads = [p.grad for group in optimizer.param_groups for p in group["params"]]
        steps.append(torch.cat([g.flatten().double() for g in grads if g is not None]))

    algorithm.policy.optimizer.register_step_post_hook(keep)
    with monkeypatch.context() as patch:
        patch.setattr(Trunk, "full", noted)
        patch.setattr(Trunk, "packed", noted_packed)
        algorithm.learn(1, callback=Move())
    names = ("train/", "rollout/")
    figures = {
        name: value
        for name, value in algorithm.logger.name_to_value.items()
        if name.startswith(names) and isinstance(value, (int, float))
    }
    return torch.stack(steps), figures, passes


def check_equal(found, expected, atol=1e-9):
    (gradients, figures, _), (all_gradients, all_figures, _) = found, expected
    assert all_gradients.norm() > 1e-3
    torch.testing.assert_close(gradients, all_gradients, atol=atol, rtol=1e-7)
    assert figures.keys() == all_figures.keys()
    for name, value in figures.items():
        assert value == pytest.approx(all_figures[name], rel=1e-5, abs=1e-6), name


KEPT = ("A2C", "RLOO", "exact", "Dr. GRPO", "answers", "NLPO", "RAFT", "DPO")


@pytest.mark.parametrize("case", sampled(OURS, *KEPT))
def test_our_algorithms_accumulate_the_gradient_of_the_whole(case, model, monkeypatch):
    name, options = OURS[case]

    def make(policy_kwargs):
        env = small_env(model, eos_token_id=EOS_IDS, group_size=4, num_envs=8)
        kwargs = {"learning_rate": 0.0, "seed": 0, "device": "cpu", "max_grad_norm": 1e9}
        kwargs |= {} if "kl_coef" in options or name == "DPO" else {"kl_coef": 0.0}
        kwargs |= {"policy_kwargs": {"model": model, **ALONE, **policy_kwargs}, **options}
        return getattr(llm_gym, name)("TransformerPolicy", env, **kwargs)

    expected = updated(make, monkeypatch)
    read = sum(expected[2])
    assert max(expected[2]) > 4
    for size in (1, 3, 1000):
        found = updated(make, monkeypatch, micro_batch_size=size)
        check_equal(found, expected)
        assert max(found[2]) <= max(size, 1)
        if not (name == "DPO" and size == 1):  # a pair is two sequences: each is checkpointed
            assert sum(found[2]) == read  # nothing is computed twice


@pytest.mark.parametrize("name", ["GRPO", "PPO"])
def test_prompts_that_a_micro_batch_shares_are_read_once(name, tiny_dir, monkeypatch):
    """Also when a part is computed again in the backward pass."""
    model = tiny_dir("llama")

    def make(policy_kwargs):
        env = small_env(
            model, eos_token_id=EOS_IDS, group_size=4, num_envs=8, prompts=["w1 " * 12]
        )  # fmt: skip
        return getattr(llm_gym, name)(
            "TransformerPolicy", env, learning_rate=0.0, seed=0, device="cpu", n_epochs=1,
            policy_kwargs={"model": model, **SGD, **policy_kwargs},
        )  # fmt: skip

    expected = updated(make, monkeypatch, shared_prompts=False)
    found = updated(make, monkeypatch, shared_prompts=True, micro_batch_size=3)
    check_equal(found, expected, atol=1e-7)  # rotary angles and the reference's values are float32
    longest = 3 * (12 + 5)
    assert min(found[2]) > 3  # tokens of packed rows, not numbers of rows
    assert max(found[2]) < longest


@pytest.mark.parametrize("library", [llm_gym, stable_baselines3], ids=lambda each: each.__name__)
@pytest.mark.parametrize("name", ["PPO", "A2C"])
def test_stock_updates_compute_each_part_twice(library, name, model, monkeypatch):
    if (library, name) == (llm_gym, "A2C"):
        pytest.skip("llm_gym's A2C is a preset, which accumulates")

    def make(policy_kwargs):
        env = llm_gym.GymVecEnv(small_env(model, eos_token_id=EOS_IDS, num_envs=8))
        kwargs = {"learning_rate": 0.0, "seed": 0, "device": "cpu", "ent_coef": 0.1, "n_steps": 5}
        kwargs |= {"n_epochs": 1, "batch_size": 40} if name == "PPO" else {}
        kwargs |= {"kl_coef": 0.1} if library is llm_gym else {}
        kwargs |= {"rollout_buffer_class": llm_gym.EpisodeBuffer}
        kwargs |= {"policy_kwargs": {"model": model, **ALONE, **policy_kwargs}}
        return getattr(library, name)(TransformerActorCriticPolicy, env, **kwargs)

    expected = updated(make, monkeypatch)
    found = updated(make, monkeypatch, micro_batch_size=2)
    check_equal(found, expected)
    assert max(found[2]) <= 2
    assert sum(found[2]) == 2 * sum(expected[2])


@pytest.mark.parametrize("buffer", [MaskableEpisodeBuffer, None], ids=["episodes", "transitions"])
def test_maskable_ppo_has_the_masks_of_each_part(buffer, model, monkeypatch):
    sb3_contrib = pytest.importorskip("sb3_contrib")

    def make(policy_kwargs):
        env = small_env(model, eos_token_id=EOS_IDS, num_envs=8, forbidden_token_ids=[5, 6])
        return sb3_contrib.MaskablePPO(
            MaskableTransformerPolicy, llm_gym.GymVecEnv(env), learning_rate=0.0, seed=0,
            device="cpu", n_steps=5, n_epochs=1, batch_size=40, rollout_buffer_class=buffer,
            policy_kwargs={"model": model, **ALONE, **policy_kwargs},
        )  # fmt: skip

    expected = updated(make, monkeypatch)
    found = updated(make, monkeypatch, micro_batch_size=3)
    check_equal(found, expected)
    assert max(found[2]) <= 3 < max(expected[2])


@pytest.mark.filterwarnings("ignore:.*rollout buffer")
def test_transitions_are_evaluated_a_few_at_a_time(model, monkeypatch):
    """Stable-Baselines3's own buffer: a sequence there is a row."""

    def make(policy_kwargs):
        env = llm_gym.GymVecEnv(small_env(model, num_envs=4))
        return stable_baselines3.PPO(
            TransformerActorCriticPolicy, env, learning_rate=0.0, seed=0, device="cpu", n_steps=5,
            n_epochs=1, batch_size=20, policy_kwargs={"model": model, **ALONE, **policy_kwargs},
        )  # fmt: skip

    expected = updated(make, monkeypatch)
    found = updated(make, monkeypatch, micro_batch_size=6)
    check_equal(found, expected)
    assert max(found[2]) == 6
    assert max(expected[2]) == 20


@pytest.mark.parametrize("name", ["GRPO", "DPO"])
def test_a_checkpoint_goes_on_with_other_micro_batches(name, model, tmp_path):
    """They are no part of what a run is."""
    from llm_gym.runs.checkpoint import load_checkpoint, save_checkpoint

    def make(**policy_kwargs):
        env = small_env(model, eos_token_id=EOS_IDS, group_size=4, num_envs=8)
        return getattr(llm_gym, name)(
            "TransformerPolicy", env, learning_rate=1e-2, seed=0, device="cpu",
            policy_kwargs={"model": model, **ALONE, **policy_kwargs},
            **({"online": True} if name == "DPO" else {}),
        )  # fmt: skip

    def go_on(algorithm):
        algorithm.learn(1, reset_num_timesteps=False)
        return [p.detach().clone() for p in algorithm.policy.parameters()]

    first = make(micro_batch_size=2, gradient_checkpointing=True)
    first.learn(1)
    save_checkpoint(first, tmp_path / "checkpoint")
    expected = go_on(first)
    other = make()
    load_checkpoint(other, tmp_path / "checkpoint")
    for found, parameter in zip(go_on(other), expected, strict=True):
        torch.testing.assert_close(found, parameter, atol=1e-9, rtol=1e-7)


def test_parts_of_a_minibatch_are_all_of_it_in_order():
    assert micro_batches([4, 2, 5], None) == [[4, 2, 5]]
    assert micro_batches([4, 2, 5], 2) == [[4, 2], [5]]
    parts = micro_batches(np.arange(5), 3)
    assert [part.tolist() for part in parts] == [[0, 1, 2], [3, 4]]


def test_groups_need_not_stay_together(model):
    """The environment's group is one of rows; a micro-batch may cut it."""
    env = small_env(model, group_size=4, num_envs=8)
    assert isinstance(env, gym.vector.VectorEnv)
    algorithm = llm_gym.RLOO(
        "TransformerPolicy", env, seed=0, device="cpu",
        policy_kwargs={"model": model, "micro_batch_size": 3},
    )  # fmt: skip
    algorithm.learn(1)
    assert np.isfinite(algorithm.logger.name_to_value["train/policy_loss"])
