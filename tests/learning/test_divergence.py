"""Algorithms whose update leaves the numbers: they say so, and their weights stay numbers."""

from __future__ import annotations

import gymnasium as gym
import numpy as np
import pytest
import stable_baselines3
import torch

import llm_gym
from llm_gym.language_models.divergence import (
    DivergenceError,
    all_finite,
    check_figures,
    check_gradients,
    clip_gradients,
)
from llm_gym.learning.shaping import RunningMoments
from llm_gym.runs.divergence import DivergenceCallback
from tests.learning.online_worlds import MODEL, make, rollouts, small_env


@pytest.fixture
def model(tiny_dir):
    return tiny_dir("gpt2", **MODEL)


def learner(name, model, **settings):
    """An algorithm of llm_gym, or a stock one of Stable-Baselines3."""
    if name.startswith("stock"):
        kind = getattr(stable_baselines3, name.removeprefix("stock "))
        own = {"use_rms_prop": False} if kind is stable_baselines3.A2C else {"batch_size": 20}
        return kind(
            llm_gym.TransformerActorCriticPolicy, llm_gym.GymVecEnv(small_env(model)), n_steps=5,
            gamma=1.0, rollout_buffer_class=llm_gym.EpisodeBuffer, seed=0, device="cpu",
            policy_kwargs={"model": model}, **own, **settings,
        )  # fmt: skip
    env = small_env(model, **({} if name in ("PPO", "A2C") else {"group_size": 4}))
    if name == "DPO":
        policy = {"policy_kwargs": {"model": model}, "seed": 0, "device": "cpu"}
        return llm_gym.DPO("TransformerPolicy", env, online=True, **policy, **settings)
    return make(name, model, env, **settings)


def is_finite(algorithm):
    return all_finite([p.detach() for p in algorithm.policy.parameters()])


@pytest.mark.parametrize(
    "name", ["PPO", "A2C", "RLOO", "GRPO", "ExpertIteration", "DPO", "stock PPO", "stock A2C"]
)
def test_a_mad_step_size_ends_in_one_sentence_that_names_it(model, name):
    algorithm = learner(name, model, learning_rate=1e8)
    with pytest.raises(DivergenceError, match=r"^training diverged: .*(NaN|nan|inf)") as caught:
        rollouts(algorithm, 6)
    if not name.startswith("stock"):  # whose `learn` knows nothing of us; `run` says it for them
        assert "learning_rate (1e+08)" in str(caught.value)
        assert f"{algorithm.num_timesteps:,} tokens" in str(caught.value)
    assert is_finite(algorithm)


def test_no_step_is_taken_on_a_gradient_that_is_no_number(model):
    """Whoever takes it: the optimizer of the policy refuses."""
    policy = learner("PPO", model).policy
    before = [p.detach().clone() for p in policy.parameters()]
    for p in policy.parameters():
        p.grad = torch.ones_like(p)
    policy.value_head.bias.grad[0] = float("nan")
    with pytest.raises(DivergenceError, match="gradient is NaN or infinite"):
        policy.optimizer.step()
    for parameter, old in zip(policy.parameters(), before, strict=True):
        assert torch.equal(parameter, old)
    policy.value_head.bias.grad[0] = 1e30  # large, but a number: its square is none
    policy.optimizer.step()


def enormous(prompts, completions):
    return [1e37 * (len(text) + 1) for text in completions]


@pytest.mark.parametrize(
    ("name", "settings", "cause"),
    [
        ("RLOO", {"kl_coef": 1e30}, "kl_coef"),
        ("GRPO", {"kl_coef": 1e35, "learning_rate": 1e-3}, "kl_coef"),
        ("A2C", {"vf_coef": 1e30}, "vf_coef"),
        ("A2C", {"ent_coef": 1e38}, "ent_coef"),
    ],
)
def test_what_is_far_from_usual_is_what_to_lower(model, name, settings, cause):
    algorithm = learner(name, model, **settings)
    with pytest.raises(DivergenceError, match=f"lower .*{cause}"):
        rollouts(algorithm, 3)
    assert is_finite(algorithm)


@pytest.mark.parametrize(
    ("kl_coef", "what"),
    [(1e30, r"'train/value_loss' is inf"), (1e39, r"with the KL penalty, are beyond float32")],
)
def test_a_penalty_beyond_float32_is_said_where_it_shows(model, kl_coef, what):
    algorithm = learner("PPO", model, kl_coef=kl_coef)
    with pytest.raises(DivergenceError, match=f"{what}.*; lower kl_coef"):
        rollouts(algorithm, 3)


def test_an_infinite_loss_is_seen_where_clipping_makes_nothing_of_its_gradient(model):
    """Stock PPO would go on and learn nothing: infinity is clipped to a gradient of zero."""
    env = llm_gym.GymVecEnv(small_env(model, scorer=_large))
    algorithm = stable_baselines3.PPO(
        llm_gym.TransformerActorCriticPolicy, env, n_steps=5, batch_size=20, gamma=1.0,
        rollout_buffer_class=llm_gym.EpisodeBuffer, seed=0, device="cpu",
        policy_kwargs={"model": model},
    )  # fmt: skip
    with pytest.raises(DivergenceError, match=r"loss' is inf.*; lower scores \(\de\+30\)"):
        algorithm.learn(300, callback=DivergenceCallback())


def test_scores_too_large_for_sums_of_float32_are_what_to_lower(model):
    env = small_env(model, scorer=enormous, group_size=4)
    algorithm = make("RLOO", model, env)
    with pytest.raises(DivergenceError, match=r"lower scores \(\d"):
        rollouts(algorithm, 2)


def test_a_critic_hears_large_scores_in_their_own_units(model):
    """Squares of 1e30 are beyond float32, their standard deviation is not."""
    moments = RunningMoments()
    moments.update(np.array([1e30, 3e30], dtype=np.float32))
    assert moments.mean == pytest.approx(2e30)
    assert moments.std == pytest.approx(1e30)
    algorithm = make("PPO", model, small_env(model, scorer=_large))
    rollouts(algorithm, 3)
    assert is_finite(algorithm)


def _large(prompts, completions):
    return [1e30 * completion.split().count("w1") for completion in completions]


class Payer(gym.Wrapper):
    def __init__(self, env, reward):
        super().__init__(env)
        self.reward = reward

    def step(self, action):
        observation, _, *rest = self.env.step(action)
        return observation, self.reward, *rest


@pytest.mark.parametrize("reward", [float("nan"), -float("inf"), 1e39])
def test_rewards_that_float32_cannot_hold_are_refused_with_their_row(reward):
    env = gym.vector.SyncVectorEnv(
        [lambda pay=pay: Payer(gym.make("CartPole-v1"), pay) for pay in (1.0, reward)],
        autoreset_mode=gym.vector.AutoresetMode.SAME_STEP,
    )
    vec_env = llm_gym.GymVecEnv(env)
    vec_env.reset()
    with pytest.raises(ValueError, match=r"reward (nan|-inf|1e\+39) in row 1.*finite float32"):
        vec_env.step(np.zeros(2, dtype=np.int64))


def test_figures_are_named_by_their_path():
    check_figures({"a": [1.0, {"b": 2}], "c": None, "d": "nan"}, "the metric")
    with pytest.raises(DivergenceError, match=r"the metric 'a\[1\]\.b' is nan"):
        check_figures({"a": [1.0, {"b": float("nan")}]}, "the metric")


# ------------------------------------------------------------------ one norm a step


def updated(name, model, monkeypatch, *, once, **settings):
    """Weights after two rollouts, and how many norms of gradients were computed a step."""
    algorithm = learner(name, model, max_grad_norm=0.05, learning_rate=1e-2, **settings)
    counts = {"norms": 0, "steps": 0}
    norm, step = torch._foreach_norm, algorithm.policy.optimizer.step

    def counted(*args, **kwargs):
        counts["norms"] += 1
        return norm(*args, **kwargs)

    def taken(*args, **kwargs):
        counts["steps"] += 1
        return step(*args, **kwargs)

    with monkeypatch.context() as patch:
        patch.setattr(torch, "_foreach_norm", counted)
        patch.setattr(algorithm.policy.optimizer, "step", taken)
        if not once:  # the plain way: the norm is taken to clip, and again to check
            for place in ("policy_gradient", "answer_algorithm", "critic_warmup", "ppo"):
                patch.setattr(f"llm_gym.learning.{place}.clip_gradients", clipped_and_forgotten)
        rollouts(algorithm, 2)
    assert counts["steps"] >= 2
    return list(algorithm.policy.parameters()), counts["norms"] / counts["steps"]


def clipped_and_forgotten(optimizer, parameters, max_norm):
    return float(torch.nn.utils.clip_grad_norm_(parameters, max_norm))


@pytest.mark.parametrize(
    ("name", "settings"),
    [
        ("PPO", {}),
        ("PPO", {"critic_warmup": 1}),
        ("PPO", {"micro_batch_size": 1}),
        ("RLOO", {}),
        ("DPO", {}),
    ],
)
def test_the_norm_is_computed_once_a_step_and_no_weight_changes(model, monkeypatch, name, settings):
    settings = dict(settings)
    if "micro_batch_size" in settings:  # whose backward pass asks for the policy's device
        micro = {"model": model, "micro_batch_size": settings.pop("micro_batch_size")}
        settings["policy_kwargs"] = micro
    once, norms = updated(name, model, monkeypatch, once=True, **settings)
    twice, more = updated(name, model, monkeypatch, once=False, **settings)
    assert (norms, more) == (1, 2)
    assert all(torch.equal(one, other) for one, other in zip(once, twice, strict=True))


def test_ppo_ends_at_the_weights_of_stable_baselines3s_own_update(model, monkeypatch):
    both = []
    for plain in (False, True):
        algorithm = learner("PPO", model, max_grad_norm=0.05, learning_rate=1e-2)
        if plain:
            monkeypatch.setattr(llm_gym.PPO, "train", stable_baselines3.PPO.train)
        both.append(list(rollouts(algorithm, 2).policy.parameters()))
        assert isinstance(algorithm.policy, llm_gym.TransformerActorCriticPolicy)
    assert all(torch.equal(one, other) for one, other in zip(*both, strict=True))


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_a_gradient_that_is_no_number_is_refused_although_it_was_clipped(bad):
    weight = torch.nn.Parameter(torch.ones(3))
    optimizer = torch.optim.AdamW([weight])
    optimizer.register_step_pre_hook(check_gradients)
    weight.grad = torch.ones(3)
    assert clip_gradients(optimizer, [weight], 0.5) == pytest.approx(3**0.5)
    optimizer.step()
    for clipped in (True, False):  # what was found of one step says nothing of the next
        weight.grad = torch.tensor([1.0, bad, 1.0])
        before = weight.detach().clone()
        if clipped:
            clip_gradients(optimizer, [weight], 0.5)
        with pytest.raises(DivergenceError, match="the gradient is NaN or infinite"):
            optimizer.step()
        assert torch.equal(weight, before)
