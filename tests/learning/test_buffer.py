from __future__ import annotations

from itertools import pairwise

import gymnasium as gym
import numpy as np
import pytest
import stable_baselines3 as sb3
import torch
from stable_baselines3.common.buffers import DictRolloutBuffer
from stable_baselines3.common.callbacks import BaseCallback

import llm_gym
from llm_gym import EpisodeBuffer, GymVecEnv, TransformerActorCriticPolicy
from llm_gym.testing.tiny import tiny_tokenizer

PROMPTS = ["w1", "w5 w6 w7", "w9 w9"]


def count_w3(prompts, completions, **_):
    return [0.1 + completion.split().count("w3") for completion in completions]


def make_env(n_envs: int = 4, **kwargs) -> GymVecEnv:
    settings = {
        "tokenizer": tiny_tokenizer(),
        "prompts": PROMPTS,
        "scorer": count_w3,
        "max_new_tokens": 6,
        "eos_token_id": (1, 4, 5, 6, 7),  # several, so that episodes end at different times
        "autoreset_mode": "SameStep",
    }
    return GymVecEnv(
        gym.make_vec("llm_gym/TextGeneration-v0", num_envs=n_envs, **(settings | kwargs))
    )


def make_ppo(
    tiny_dir, algorithm=sb3.PPO, env=None, policy_kwargs=None, architecture="llama", **kwargs
):
    defaults = {"n_steps": 16, "seed": 3, "gamma": 1.0, "gae_lambda": 0.9}
    if algorithm is sb3.PPO:
        defaults |= {"batch_size": 16, "n_epochs": 1}
    return algorithm(
        TransformerActorCriticPolicy,
        env or make_env(),
        policy_kwargs={"model": tiny_dir(architecture), "seed": 1} | (policy_kwargs or {}),
        **(defaults | {"rollout_buffer_class": EpisodeBuffer} | kwargs),
    )


def one_update(algorithm) -> dict[str, torch.Tensor]:
    algorithm.policy.double()
    algorithm.learn(algorithm.n_steps * algorithm.n_envs)
    return {name: p.detach().clone() for name, p in algorithm.policy.named_parameters()}


@pytest.mark.parametrize("on_max_length", ["terminate", "truncate"])
@pytest.mark.parametrize("algorithm", [sb3.PPO, sb3.A2C])
@pytest.mark.parametrize(("architecture", "tolerance"), [("gpt2", 1e-8), ("llama", 1e-5)])
def test_update_equals_that_on_the_per_transition_buffer(
    tiny_dir, algorithm, on_max_length, architecture, tolerance
):
    """Stable-Baselines3's own train(), one SGD step in float64: same weights.

    To 1e-8 for GPT-2; LLaMA's normalisation rounds to float32 inside, whatever the weights are.
    """
    updated = []
    for buffer_class in (EpisodeBuffer, DictRolloutBuffer):
        settings = {
            "architecture": architecture,
            "env": make_env(on_max_length=on_max_length),
            "rollout_buffer_class": buffer_class,
            "learning_rate": 1.0,
            "max_grad_norm": 1e9,
            "ent_coef": 0.01,
            "policy_kwargs": {"optimizer_class": torch.optim.SGD, "optimizer_kwargs": {}},
        }
        if algorithm is sb3.PPO:
            # Normalising sums float32 advantages, so its rounding depends on their order.
            settings |= {"batch_size": 64, "normalize_advantage": False}
        else:
            settings["use_rms_prop"] = False
        model = make_ppo(tiny_dir, algorithm, **settings)
        start = {n: p.detach().double().clone() for n, p in model.policy.named_parameters()}
        updated.append(one_update(model))
    moved = max((updated[0][name] - start[name]).abs().max() for name in start)
    assert moved > 1e-4
    for name, parameter in updated[0].items():
        torch.testing.assert_close(parameter, updated[1][name], atol=tolerance, rtol=0, msg=name)


def filled(tiny_dir, **kwargs):
    model = make_ppo(tiny_dir, **kwargs)
    model.learn(model.n_steps * model.n_envs)
    return model


def test_episodes_are_prompt_plus_actions(tiny_dir):
    """Every row is a prompt of the list followed by the sampled actions, none of them forced."""
    model = filled(tiny_dir)
    buffer = model.rollout_buffer
    tokenizer = tiny_tokenizer()
    prompts = [tokenizer.encode(p) for p in PROMPTS]
    assert sum(s.stop - s.start for s in buffer.segments()) == buffer.actions.size
    for segment in buffer.segments():
        batch = buffer.episode_batch([segment])
        played = buffer.actions[segment.start : segment.stop, segment.env].tolist()
        assert batch.actions.tolist() == played
        assert batch.input_ids[0].tolist() == segment.prefix.tolist() + played
        assert segment.prefix.tolist() in prompts  # the first rollout starts no episode midway


def test_an_episode_cut_by_the_rollout_goes_on_in_the_next(tiny_dir):
    """Its earlier tokens are context, its later ones actions; none is trained on twice."""
    model = make_ppo(tiny_dir, env=make_env(eos_token_id=()), n_steps=4, batch_size=16)
    model.learn(16)
    first = {s.env: s for s in model.rollout_buffer.segments()}
    actions = model.rollout_buffer.actions.copy()
    assert not any(model.rollout_buffer.complete(s) for s in first.values())
    model.learn(16, reset_num_timesteps=False)
    buffer = model.rollout_buffer
    continued = [s for s in buffer.segments() if s.start == 0]
    assert len(continued) == 4
    for segment in continued:
        assert not segment.is_start
        assert segment.stop == 2  # six tokens: four there, two here
        assert buffer.ends(segment)
        assert not buffer.complete(segment)  # its first four tokens are not here
        before = [*first[segment.env].prefix, *actions[:, segment.env]]
        assert segment.prefix.tolist() == before


@pytest.mark.parametrize("n_steps", [4, 6, 9, 13])
def test_complete_episodes_are_those_with_both_ends_in_the_rollout(tiny_dir, n_steps):
    """Episodes of six tokens, counted from the first step of the first rollout."""
    model = make_ppo(tiny_dir, env=make_env(eos_token_id=()), n_steps=n_steps, batch_size=16)
    for rollout in range(3):
        model.learn(4 * n_steps, reset_num_timesteps=rollout == 0)
        buffer = model.rollout_buffer
        begin, end = rollout * n_steps, (rollout + 1) * n_steps
        whole = [k for k in range(0, end, 6) if k >= begin and k + 6 <= end]
        found = [begin + s.start for s in buffer.segments() if s.env == 2 and buffer.complete(s)]
        assert found == whole


def test_first_ratio_is_one(tiny_dir):
    """Rollout and update agree before the first step: every ratio is 1."""
    model = filled(tiny_dir, learning_rate=0.0)
    for samples in model.rollout_buffer.get(16):
        values, log_prob, _ = model.policy.evaluate_actions(samples.observations, samples.actions)
        assert (log_prob - samples.old_log_prob).exp().sub(1).abs().max() < 1e-4
        assert (values.flatten() - samples.old_values).abs().max() < 1e-4


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float64])
@pytest.mark.parametrize("algorithm", [sb3.PPO, llm_gym.PPO])
def test_a_policy_cast_by_hand_fills_the_buffer(tiny_dir, algorithm, dtype):
    env = make_env(on_max_length="truncate")
    model = (
        make_ppo(tiny_dir, env=env, learning_rate=0.0)
        if algorithm is sb3.PPO
        else (
            algorithm(
                "TransformerPolicy",
                env,
                n_steps=16,
                batch_size=16,
                learning_rate=0.0,
                policy_kwargs={"model": tiny_dir("llama"), "seed": 1},
            )
        )
    )
    model.policy.to(dtype)
    torch.nn.init.constant_(model.policy.value_head.bias, 0.5)
    model.learn(model.n_steps * model.n_envs)
    buffer = model.rollout_buffer
    np.testing.assert_allclose(buffer.values, 0.5 * model.policy.value_scale, rtol=1e-2)
    assert np.isfinite(buffer.advantages).all()
    for samples in buffer.get(16):
        log_prob = model.policy.evaluate_actions(samples.observations, samples.actions)[1]
        assert (log_prob - samples.old_log_prob).abs().max() < 0.2


@pytest.mark.parametrize("batch_size", [1, 7, 16, 64, None])
def test_every_action_is_yielded_once_an_epoch(tiny_dir, batch_size):
    model = filled(tiny_dir)
    buffer = model.rollout_buffer
    samples = list(buffer.get(batch_size))
    yielded = torch.cat([s.old_log_prob for s in samples]).sort().values
    stored = torch.as_tensor(buffer.log_probs).flatten().sort().values
    assert torch.equal(yielded, stored)
    if batch_size in (16, 64):
        assert abs(len(samples) - 64 / batch_size) <= 1


def test_minibatch_order_is_the_seeds(tiny_dir):
    model = filled(tiny_dir)
    orders = []
    for seed in (0, 0, 1):
        model.rollout_buffer.rng = np.random.default_rng(seed)
        orders.append([s.old_log_prob.tolist() for s in model.rollout_buffer.get(16)])
    assert orders[0] == orders[1] != orders[2]


@pytest.mark.parametrize("options", [{"top_k": 4}, {"top_p": 0.7, "temperature": 0.8}])
def test_truncated_sampling_keeps_its_support_through_the_buffer(tiny_dir, options):
    """Ratio 1 under top-k and top-p with stock PPO, which knows of neither."""
    model = filled(tiny_dir, learning_rate=0.0, policy_kwargs=options)
    for samples in model.rollout_buffer.get(16):
        log_prob = model.policy.evaluate_actions(samples.observations, samples.actions)[1]
        assert log_prob.isfinite().all()
        assert (log_prob - samples.old_log_prob).abs().max() < 1e-4


def groups_of(members) -> list[tuple[int, tuple[int, ...]]]:
    return [(s.env // 4, tuple(s.prefix) if s.is_start else ()) for s in members]


@pytest.mark.parametrize("batch_size", [8, 24, None])
def test_answers_to_one_prompt_stay_together_where_that_is_asked(tiny_dir, batch_size):
    """Rows of a group at their own pace, some of their episodes cut by the rollout's end."""
    env = make_env(8, group_size=4)
    ppo = make_ppo(tiny_dir, env=env, rollout_buffer_kwargs={"group_size": 4}, n_steps=10)
    ppo.learn(2 * 8 * 10)
    buffer = ppo.rollout_buffer
    batches = buffer.minibatches(batch_size)
    everything = [segment for members in batches for segment in members]
    assert sorted(map(id, everything)) == sorted(map(id, buffer.segments()))
    found = [set(groups_of(members)) for members in batches]
    assert sum(map(len, found)) == len(set(groups_of(everything)))  # none is in two
    if batch_size == 8:
        assert len(batches) > 2
        buffer.group_size = 1
        parted = [set(groups_of(members)) for members in buffer.minibatches(batch_size)]
        assert sum(map(len, parted)) > len(set(groups_of(everything)))
    for members in batches:  # neighbours, so that parts of a minibatch keep them together as well
        kinds = groups_of(members)
        assert sum(a != b for a, b in pairwise(kinds)) == len(set(kinds)) - 1


def test_truncated_episodes_bootstrap_and_terminated_do_not(tiny_dir):
    """With a critic that says 2 everywhere: the last reward gains 2 or nothing."""
    last_rewards = {}
    for mode in ("truncate", "terminate"):
        model = make_ppo(
            tiny_dir, env=make_env(on_max_length=mode, eos_token_id=()), n_steps=6, batch_size=24
        )
        torch.nn.init.constant_(model.policy.value_head.bias, 2.0 / model.policy.value_scale)
        model.policy.optimizer = torch.optim.SGD(model.policy.parameters(), lr=0.0)
        model.learn(24)
        buffer = model.rollout_buffer
        last_rewards[mode] = buffer.rewards[-1]
        score = [
            0.1 + (buffer.actions[s.start : s.stop, s.env] == 6).sum() for s in buffer.segments()
        ]
        expected = 2.0 if mode == "truncate" else score
        np.testing.assert_allclose(buffer.rewards[-1], expected, atol=1e-6)
        advantage = buffer.rewards[-1] - 2.0  # delta of the last step, no value beyond it
        np.testing.assert_allclose(buffer.advantages[-1], advantage, atol=1e-5)


def test_wrong_spaces_are_refused():
    box, token = gym.spaces.Box(0, 1, (3,)), gym.spaces.Discrete(4)
    with pytest.raises(ValueError, match="Dict observations"):
        EpisodeBuffer(4, box, token)
    ids = gym.spaces.Dict(input_ids=gym.spaces.Box(0, 3, (3,), np.int64))
    with pytest.raises(ValueError, match="Discrete"):
        EpisodeBuffer(4, ids, box)


def test_unseeded_buffers_draw_orders_of_their_own():
    """From the global generator, which Stable-Baselines3 seeds: hardly two are alike."""
    space = make_env().observation_space
    np.random.seed(0)  # noqa: NPY002
    drawn = {
        EpisodeBuffer(2, space, gym.spaces.Discrete(4), "cpu").rng.bit_generator.state["state"][
            "state"
        ]
        for _ in range(100)
    }
    assert len(drawn) > 95


def test_a_buffer_is_full_with_its_last_step_and_not_before(tiny_dir):
    seen = []

    class Look(BaseCallback):
        def _on_step(self) -> bool:
            seen.append(self.model.rollout_buffer.full)
            return True

    model = make_ppo(tiny_dir)
    model.learn(model.n_steps * model.n_envs, callback=Look())
    assert seen == [False] * model.n_steps
    assert model.rollout_buffer.full
