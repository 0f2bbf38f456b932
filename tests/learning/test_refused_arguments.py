"""Arguments of algorithms and policies that nobody can mean: refused by name, when they are given.

What a schedule says is held against its range at every update, as nobody can know it before.
"""

from __future__ import annotations

import math

import gymnasium as gym
import numpy as np
import pytest
import torch

import llm_gym
from llm_gym.files.ranges import RANGES
from llm_gym.policy.sampling import truncated_support
from llm_gym.testing.tiny import tiny_tokenizer


def make_env(num_envs: int = 2) -> gym.vector.VectorEnv:
    return gym.make_vec(
        "llm_gym/TextGeneration-v0",
        num_envs=num_envs,
        autoreset_mode="SameStep",
        tokenizer=tiny_tokenizer(),
        prompts=["w1"],
        scorer=lambda prompts, completions, **_: [1.0] * len(completions),
        max_new_tokens=2,
        vocab_size=32,
    )


@pytest.fixture
def make(tiny_dir):
    def of(algorithm: type = llm_gym.PPO, *, policy_kwargs: object = None, **kwargs: object):
        own = {"model": tiny_dir("llama")}
        given = own | policy_kwargs if isinstance(policy_kwargs, dict) else policy_kwargs or own
        settings = {"batch_size": 8, "n_epochs": 1, "kl_coef": 0.0} | kwargs
        return algorithm("TransformerPolicy", make_env(), policy_kwargs=given, **settings)

    return of


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("reward_scaling", "no"),
        ("reward_scaling", None),
        ("reward_scaling", 1),
        ("recompute_log_probs", "x"),
        ("recompute_log_probs", 1),
        ("normalize_advantage", "x"),
        ("normalize_advantage", None),
        ("batch_size", 1),
        ("verbose", "x"),
        ("verbose", 3),
        ("stats_window_size", 0),
        ("stats_window_size", "x"),
        ("tensorboard_log", 5),
        ("rollout_buffer_class", 5),
        ("rollout_buffer_kwargs", [1]),
        ("policy_kwargs", ["model"]),
        ("policy_kwargs", "model"),
        ("learning_rate", lambda: 1.0),
        ("ent_coef", lambda one, two: 1.0),
    ],
)
def test_an_argument_that_is_none_is_named(make, name, value):
    with pytest.raises((ValueError, TypeError), match=f"^{name}="):
        make(**{name: value})


def test_a_switch_is_no_text_in_any_algorithm(make):
    with pytest.raises(ValueError, match=r"^reward_scaling='no' must be one of True, False, None"):
        make(llm_gym.RLOO, reward_scaling="no")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("separate_critic", "yes"),
        ("separate_critic", 1),
        ("detach_value", None),
        ("value_scale", 1e300),
        ("optimizer_class", "Adam"),
        ("optimizer_class", dict),
        ("optimizer_class", None),
        ("optimizer_class", torch.optim.LBFGS),
        ("optimizer_kwargs", ["lr"]),
        ("optimizer_kwargs", {"no_such": 1}),
        ("optimizer_kwargs", {"lr": 1.0}),
        ("optimizer_kwargs", {"weight_decay": math.nan}),
        ("optimizer_kwargs", {"eps": "x"}),
    ],
)
def test_an_argument_of_the_policy_that_is_none_is_named(make, name, value):
    with pytest.raises((ValueError, TypeError), match=f"^{name}="):
        make(policy_kwargs={name: value})


def test_minibatches_of_one_token_are_fine_where_nothing_is_whitened(make):
    assert make(batch_size=1, normalize_advantage=False).batch_size == 1


def test_numbers_of_numpy_are_numbers(make):
    ppo = make(learning_rate=np.float32(0.5), seed=np.int64(3), gamma=np.float64(1.0))
    assert type(ppo.seed) is int
    assert ppo.lr_schedule(1.0) == 0.5


def later(value: object):
    """A schedule that is sound at both ends, where it is asked when it is given."""
    return lambda remains: 0.1 if remains in (1.0, 0.0) else value


@pytest.mark.parametrize("name", ["learning_rate", "clip_range", "clip_range_vf", "ent_coef"])
@pytest.mark.parametrize("value", [math.nan, math.inf, -1.0, "x", None, True])
def test_a_schedule_that_turns_nonsense_is_named_before_its_update(make, name, value):
    ppo = make(critic_start=False, **{name: later(value)})
    before = [parameter.detach().clone() for parameter in ppo.policy.parameters()]
    with pytest.raises((ValueError, TypeError), match=rf"^{name}\(0\.[0-9]+\)="):
        ppo.learn(12)
    assert all(map(torch.equal, before, ppo.policy.parameters()))


def test_a_schedule_may_reach_the_end_of_its_range_on_the_way():
    RANGES["clip_range"].check_returned("clip_range", 0.5, 0.0)
    with pytest.raises(ValueError, match=r"^clip_range=0\.0 "):
        RANGES["clip_range"].check("clip_range", 0.0)


@pytest.mark.parametrize("top_p", [1e-300, 1e-45, 1e-6])
def test_the_least_nucleus_has_the_most_probable_token(top_p):
    logits = torch.tensor([[0.0, 2.0, 1.0], [3.0, 0.0, -torch.inf]])
    support = truncated_support(logits, 0, top_p)
    assert support is not None
    assert support.tolist() == [[False, True, False], [True, False, False]]


@pytest.mark.parametrize("policy", [None, 5, "MlpPolicy", dict, "TransformerPolicyy"])
def test_a_policy_is_one_of_ours(policy):
    with pytest.raises(ValueError, match=r"^policy=.* must be (a|'TransformerPolicy')"):
        llm_gym.PPO(policy, make_env(), policy_kwargs={"model": "no-such-model"})


def test_an_algorithm_has_an_environment(tiny_dir):
    with pytest.raises(ValueError, match=r"^env=None is no environment"):
        llm_gym.PPO("TransformerPolicy", None, policy_kwargs={"model": tiny_dir("llama")})


@pytest.mark.parametrize(
    ("algorithm", "name", "value"),
    [
        (llm_gym.RLOO, "objective", 5),
        (llm_gym.RLOO, "objective", {"advantage": "rloo"}),
        (llm_gym.RLOO, "penalty", {"kl_coef": 0.0}),
        (llm_gym.DPO, "online", "yes"),
        (llm_gym.DPO, "online", 1),
        (llm_gym.ExpertIteration, "sample_once", "no"),
        (llm_gym.ExpertIteration, "sample_once", 0),
    ],
)
def test_a_part_or_a_switch_of_an_algorithm_that_is_none_is_named(tiny_dir, algorithm, name, value):
    with pytest.raises((ValueError, TypeError), match=f"^{name}="):
        algorithm(
            "TransformerPolicy",
            make_env(),
            policy_kwargs={"model": tiny_dir("llama")},
            **{name: value},
        )


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *(("total_timesteps", value) for value in (1.5, "8", None, True, math.nan)),
        *(("log_interval", value) for value in (0, "x", True)),
        *(("callback", value) for value in (5, "x", [5], [None], [print])),
    ],
)
def test_what_learning_cannot_do_is_named(make, name, value):
    with pytest.raises((ValueError, TypeError), match=f"^{name}[= ]"):
        make().learn(**({"total_timesteps": 4} | {name: value}))


def test_learning_that_has_nothing_left_to_do_is_fine(make):
    ppo = make(seed=np.int64(1))
    assert ppo.learn(np.int64(0), callback=lambda *_: True, log_interval=None) is ppo


@pytest.mark.parametrize("total", [4, 4.0, np.int64(4), np.float64(4)])
def test_totals_and_talking_are_taken_as_stable_baselines3_takes_them(make, total):
    ppo = make(verbose=False).learn(total)
    assert (ppo.verbose, ppo._total_timesteps) == (0, 4)
    assert isinstance(ppo._total_timesteps, int)


@pytest.mark.parametrize("batch_size", [0, -1, 1.5, True, "4"])
def test_a_minibatch_has_tokens(make, batch_size):
    with pytest.raises((ValueError, TypeError), match=r"^batch_size="):
        make().learn(4).episodes.minibatches(batch_size)
