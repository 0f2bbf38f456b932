"""Stable-Baselines3's usual first lines, on every id: by name, many, loaded, evaluated."""

from __future__ import annotations

import gymnasium as gym
import numpy as np
import pytest
import stable_baselines3
from stable_baselines3.common.callbacks import EvalCallback
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.evaluation import evaluate_policy
from stable_baselines3.common.vec_env import (
    DummyVecEnv,
    SubprocVecEnv,
    VecFrameStack,
    VecMonitor,
    VecNormalize,
    VecVideoRecorder,
)

import llm_gym
from llm_gym.policy import MaskableTransformerPolicy, TransformerActorCriticPolicy
from llm_gym.testing.tiny import tiny_model
from tests.products import covering, sampled
from tests.text.helpers import arguments

TEXT = "llm_gym/TextGeneration-v0"
IDS = [
    TEXT,
    "llm_gym/PoliteEmail-v0",
    "llm_gym/AreYouSure-v0",
    "llm_gym/KnownOptimum-v0",
    "llm_gym/ReasoningSpellBackward-v0",
    "llm_gym/Autopilot-v0",
    "llm_gym/AutopilotDiscrete-v0",
]
TEXT_IDS = [name for name in IDS if "Autopilot" not in name]
SMALL = {"n_steps": 4, "batch_size": 8, "n_epochs": 1}
PLUGINS = {
    "AreYouSure": "llm_gym_sycophancy",
    "KnownOptimum": "llm_gym_known_optimum",
    "Reasoning": "llm_gym_reasoning",
    "Autopilot": "llm_gym_autopilot",
}


def kwargs_of(name: str) -> dict:
    for word, module in PLUGINS.items():
        if word in name:
            pytest.importorskip(module)
    if name == TEXT:
        return arguments()
    return {"size": 8, "test_size": 8} if "Reasoning" in name else {}


@pytest.fixture(scope="module")
def policy_of(tmp_path_factory):
    """Policy and its arguments for an id: a tiny transformer, or perceptrons for the autopilot."""
    from transformers import GPT2Config, GPT2LMHeadModel

    def get(name: str, **kwargs) -> tuple:
        env = gym.make(name, **kwargs)
        if name not in TEXT_IDS:
            return "MlpPolicy", {}
        length = env.observation_space["input_ids"].shape[0]
        config = GPT2Config(
            vocab_size=int(env.action_space.n), n_positions=length, n_embd=16, n_layer=1, n_head=2
        )
        directory = tmp_path_factory.mktemp("model")
        GPT2LMHeadModel(config).save_pretrained(directory)
        return TransformerActorCriticPolicy, {"model": str(directory)}

    return get


@pytest.fixture(scope="module")
def emails(policy_of):
    return policy_of("llm_gym/PoliteEmail-v0")[1]


def same_step(name: str, num_envs: int = 2, **kwargs):
    return gym.make_vec(
        name, num_envs=num_envs, autoreset_mode="SameStep", **{**kwargs_of(name), **kwargs}
    )


BY_NAME = [name for name in IDS if name != TEXT]


@pytest.mark.parametrize("name", sampled(BY_NAME, IDS[1], IDS[2], IDS[5]))
def test_ppo_by_id(name, policy_of):
    """`PPO(policy, id)`: the first line of every tutorial."""
    kwargs_of(name)  # skips where the plug-in is not installed
    policy, policy_kwargs = policy_of(name)
    agent = stable_baselines3.PPO(policy, name, policy_kwargs=policy_kwargs, **SMALL)
    agent.learn(8)
    assert agent.num_timesteps == 8


@pytest.mark.parametrize("name", sampled(IDS, TEXT, IDS[3], IDS[4], IDS[6]))
def test_make_vec_env_by_id(name, policy_of):
    policy, policy_kwargs = policy_of(name, **kwargs_of(name))
    env = make_vec_env(name, n_envs=4, env_kwargs=kwargs_of(name), seed=0)
    assert isinstance(env, DummyVecEnv)
    agent = stable_baselines3.PPO(policy, env, policy_kwargs=policy_kwargs, **SMALL).learn(16)
    assert agent.num_timesteps == 16


@pytest.mark.slow
def test_make_vec_env_in_processes():
    env = make_vec_env("llm_gym/PoliteEmail-v0", n_envs=2, vec_env_cls=SubprocVecEnv)
    try:
        assert env.reset()["input_ids"].shape[0] == 2
        assert env.get_attr("render_mode") == ["rgb_array"] * 2
    finally:
        env.close()


@pytest.mark.parametrize("name", sampled(TEXT_IDS, TEXT, IDS[2]))
def test_an_agent_is_loaded_on_a_vector_environment(name, policy_of, tmp_path):
    """`load(path, env=make_vec(...))` and `set_env` take what the constructor takes."""
    _, policy_kwargs = policy_of(name, **kwargs_of(name))
    agent = llm_gym.PPO("TransformerPolicy", same_step(name), policy_kwargs=policy_kwargs)
    agent.save(tmp_path / "agent")
    loaded = llm_gym.PPO.load(tmp_path / "agent", env=same_step(name))
    loaded.set_env(same_step(name))
    loaded.learn(1)
    assert loaded.num_timesteps > 0


OURS = (
    "A2C", "DAPO", "DPO", "DrGRPO", "ExpertIteration", "GRPO", "NLPO", "PPO", "REINFORCE", "RLOO",
    "ReMax", "ReinforcePlusPlus", "SFTOnBest",
)  # fmt: skip


@pytest.mark.parametrize("algorithm", sampled(OURS, "DPO", "GRPO", "NLPO", "PPO", "SFTOnBest"))
def test_every_algorithm_is_loaded_on_a_vector_environment(algorithm, emails, tmp_path):
    def env():
        return same_step("llm_gym/PoliteEmail-v0", num_envs=4, group_size=2, max_new_tokens=4)

    algorithm = getattr(llm_gym, algorithm)
    algorithm("TransformerPolicy", env(), policy_kwargs=emails).save(tmp_path / "agent")
    loaded = algorithm.load(tmp_path / "agent", env=env())
    loaded.set_env(env())
    assert isinstance(loaded.get_env().unwrapped, llm_gym.GymVecEnv)
    assert loaded.learn(1).num_timesteps > 0


def test_set_env_takes_lengths_and_groups_from_the_new_environment(emails):
    def env(new, group_size, **kwargs):
        return same_step(
            "llm_gym/PoliteEmail-v0",
            num_envs=4,
            group_size=group_size,
            max_new_tokens=new,
            max_prompt_tokens=40 - new,
            too_long="truncate",
            **kwargs,
        )

    agent = llm_gym.RLOO("TransformerPolicy", env(4, 2), policy_kwargs=emails)
    agent.set_env(env(6, 4))
    assert (agent.n_steps, agent.group_size) == (6, 4)
    assert agent.learn(1).num_timesteps > 0
    with pytest.raises(ValueError, match="group_size=1"):
        agent.set_env(env(4, 1))
    with pytest.raises(ValueError, match="MaskablePPO"):
        agent.set_env(env(4, 2, min_new_tokens=2))


def test_an_agent_is_evaluated_and_watched(emails):
    env = same_step("llm_gym/PoliteEmail-v0", max_new_tokens=4)
    agent = llm_gym.PPO("TransformerPolicy", env, policy_kwargs=emails)
    mean, _ = evaluate_policy(agent, llm_gym.GymVecEnv(env), n_eval_episodes=2)
    assert np.isfinite(mean)
    callback = EvalCallback(llm_gym.GymVecEnv(env), eval_freq=4, n_eval_episodes=2, verbose=0)
    agent.learn(8, callback=callback)
    assert np.isfinite(callback.last_mean_reward)


@pytest.mark.parametrize("kind", ["object", "class"])
def test_a_model_in_place_of_its_name_is_refused_in_one_sentence(kind, recwarn):
    model = tiny_model("llama")
    model.generation_config.eos_token_id = [0, 2]  # heard of names and paths only
    env = same_step("llm_gym/PoliteEmail-v0")
    expected = {"object": (ValueError, "has no name"), "class": (TypeError, "name or path")}[kind]
    with pytest.raises(expected[0], match=expected[1]) as caught:
        llm_gym.PPO(
            "TransformerPolicy",
            env,
            policy_kwargs={"model": model if kind == "object" else type(model)},
        )
    assert len(str(caught.value)) < 400
    assert not [w for w in recwarn if len(str(w.message)) > 400]


def test_a_raw_vector_environment_is_told_what_to_do(emails):
    """Where Stable-Baselines3 alone decides, its error says GymVecEnv(env)."""
    env = same_step("llm_gym/PoliteEmail-v0", max_new_tokens=4)
    agent = llm_gym.PPO("TransformerPolicy", env, policy_kwargs=emails)
    says = pytest.raises(ValueError, match=r"llm_gym\.GymVecEnv\(env\)")
    with says:
        evaluate_policy(agent, env)
    with says:
        EvalCallback(env)
    with says:
        stable_baselines3.PPO(TransformerActorCriticPolicy, env, policy_kwargs=emails)
    with says:
        evaluate_policy(agent, gym.wrappers.vector.RecordEpisodeStatistics(env))
    with says:
        DummyVecEnv([lambda: gym.vector.SyncVectorEnv([lambda: gym.make("CartPole-v1")])])


@pytest.mark.parametrize("algorithm", [stable_baselines3.PPO, stable_baselines3.A2C])
def test_the_stock_algorithms_know_the_policy_by_name(algorithm, emails):
    agent = algorithm(
        "TransformerPolicy",
        "llm_gym/PoliteEmail-v0",
        n_steps=4,
        policy_kwargs={**emails, "optimizer_class": torch_adamw()},
    )
    assert type(agent.policy) is TransformerActorCriticPolicy
    with pytest.raises(ValueError, match="Policy NoPolicy unknown"):
        algorithm("NoPolicy", "CartPole-v1")
    assert algorithm("MlpPolicy", "CartPole-v1").policy is not None


def torch_adamw():
    import torch

    return torch.optim.AdamW


def test_a_buffer_by_its_name(emails):
    """As YAML files can say it."""
    make = lambda buffer, algorithm=stable_baselines3.PPO: algorithm(  # noqa: E731
        "TransformerPolicy",
        "llm_gym/PoliteEmail-v0",
        rollout_buffer_class=buffer,
        policy_kwargs=emails,
        **SMALL,
    )
    agent = make("llm_gym.EpisodeBuffer")
    assert type(agent.rollout_buffer) is llm_gym.EpisodeBuffer
    agent.learn(8)
    assert type(make("llm_gym.EpisodeBuffer", llm_gym.PPO).episodes) is llm_gym.EpisodeBuffer
    for name in ("EpisodeBuffer", "llm_gym.NoBuffer", "no_such_package.Buffer", ""):
        with pytest.raises(ValueError, match="rollout_buffer_class="):
            make(name)


@pytest.mark.parametrize("algorithm", [stable_baselines3.PPO, stable_baselines3.A2C])
def test_the_slow_buffer_is_said(algorithm, emails, recwarn):
    from stable_baselines3.common.buffers import DictRolloutBuffer

    class Own(llm_gym.EpisodeBuffer):
        pass

    def said(buffer, policy="TransformerPolicy", kwargs=emails, env="llm_gym/PoliteEmail-v0"):
        recwarn.clear()
        algorithm(policy, env, rollout_buffer_class=buffer, policy_kwargs=dict(kwargs))
        messages = [str(warning.message) for warning in recwarn]
        return sum("rollout_buffer_class=llm_gym.EpisodeBuffer" in text for text in messages)

    assert [said(buffer) for buffer in (None, DictRolloutBuffer)] == [1, 1]
    assert [said(b) for b in (llm_gym.EpisodeBuffer, "llm_gym.EpisodeBuffer", Own)] == [0, 0, 0]
    assert said(None, "MlpPolicy", {}, "CartPole-v1") == 0


def test_the_slow_buffer_of_maskable_ppo_is_said(emails):
    contrib = pytest.importorskip("sb3_contrib")
    with pytest.warns(UserWarning, match=r"llm_gym\.learning\.buffer\.MaskableEpisodeBuffer"):
        contrib.MaskablePPO(MaskableTransformerPolicy, vec(), policy_kwargs=emails)


# ---------------------------------------------------------------------- what does not go together


def vec(**kwargs):
    return make_vec_env(
        "llm_gym/PoliteEmail-v0", n_envs=2, env_kwargs={"max_new_tokens": 4, **kwargs}
    )


WRAPPERS = [
    (VecNormalize, "token ids and masks cannot be normalised"),
    (lambda env: VecNormalize(env, norm_obs_keys=["attention_mask"]), "cannot be normalised"),
    (lambda env: VecFrameStack(env, 2), "VecFrameStack, which makes observations of shape"),
    (lambda env: VecMonitor(VecNormalize(env)), "VecNormalize"),
]


@pytest.mark.parametrize(
    ("algorithm", "wrapper"),
    covering([stable_baselines3.PPO, llm_gym.PPO, llm_gym.A2C], WRAPPERS),
)
def test_wrappers_that_change_observations_are_refused(algorithm, wrapper, emails):
    wrap, reason = wrapper
    with pytest.raises(ValueError, match=reason):
        algorithm(TransformerActorCriticPolicy, wrap(vec()), policy_kwargs=emails)


def test_rewards_may_be_normalised(emails):
    env = VecNormalize(vec(), norm_obs=False)
    agent = stable_baselines3.PPO("TransformerPolicy", env, policy_kwargs=emails, **SMALL)
    assert agent.learn(8).num_timesteps == 8


MASKED = [
    {"min_new_tokens": 2},
    {"forbidden_token_ids": [5]},
    {"allowed_token_ids": [3, 4, 5]},
    {"allowed_token_ids": lambda prompt, completion: [3, 4]},
]


@pytest.mark.parametrize(
    ("algorithm", "option"),
    covering([stable_baselines3.PPO, llm_gym.PPO, llm_gym.RLOO], MASKED),
)
def test_masked_environments_are_refused_under_the_ordinary_policy(algorithm, option, emails):
    env = same_step("llm_gym/PoliteEmail-v0", num_envs=4, group_size=2, max_new_tokens=4, **option)
    with pytest.raises(ValueError, match="MaskablePPO"):
        algorithm("TransformerPolicy", llm_gym.GymVecEnv(env), policy_kwargs=emails)
    if algorithm is not llm_gym.RLOO:  # which needs groups first
        with pytest.raises(ValueError, match="MaskablePPO"):
            algorithm("TransformerPolicy", vec(**option), policy_kwargs=emails)


def test_maskable_ppo_takes_them(emails):
    contrib = pytest.importorskip("sb3_contrib")
    env = same_step("llm_gym/PoliteEmail-v0", max_new_tokens=4, min_new_tokens=2)
    agent = contrib.MaskablePPO(
        MaskableTransformerPolicy,
        llm_gym.GymVecEnv(env),
        rollout_buffer_class="llm_gym.learning.buffer.MaskableEpisodeBuffer",
        policy_kwargs=emails,
        **SMALL,
    )
    assert agent.learn(8).num_timesteps == 8


def test_evaluation_heeds_masks_or_says_that_it_cannot(emails):
    pytest.importorskip("sb3_contrib")
    task = {"max_new_tokens": 4, "allowed_token_ids": [7, 8], "prompt_order": "sequential"}
    found = llm_gym.evaluate(
        emails["model"], "llm_gym/PoliteEmail-v0", env_kwargs=task, max_prompts=3
    )
    assert {token for row in found.rows for token in row.completion_ids} <= {7, 8}
    agent = llm_gym.PPO("TransformerPolicy", vec(), policy_kwargs=emails)
    with pytest.raises(ValueError, match="MaskableTransformerPolicy"):
        llm_gym.evaluate(agent, "llm_gym/PoliteEmail-v0", env_kwargs=task, max_prompts=3)


def test_a2c_says_that_it_replaces_the_optimizer(emails, recwarn):
    def make(policy_kwargs=emails, **kwargs):
        recwarn.clear()
        agent = stable_baselines3.A2C(
            "TransformerPolicy", vec(), policy_kwargs=dict(policy_kwargs), **kwargs
        )
        said = [str(w.message) for w in recwarn if "use_rms_prop" in str(w.message)]
        return type(agent.policy.optimizer).__name__, len(said)

    import torch

    asked = {**emails, "optimizer_class": torch.optim.RMSprop}
    assert make() == ("RMSprop", 1)
    assert make(use_rms_prop=False) == ("AdamW", 0)
    assert make(asked) == ("RMSprop", 0)
    shared = dict(emails)  # A2C writes into the dict it is given: the next one says so, too
    stable_baselines3.A2C("TransformerPolicy", vec(), policy_kwargs=shared)
    with pytest.warns(UserWarning, match="use_rms_prop=False"):
        stable_baselines3.PPO("TransformerPolicy", vec(), policy_kwargs=shared)


def test_other_policies_and_environments_are_left_alone():
    env = VecNormalize(make_vec_env("CartPole-v1", n_envs=2))
    agent = stable_baselines3.PPO("MlpPolicy", env, n_steps=8, batch_size=8)
    assert agent.learn(16).num_timesteps == 16


def test_pictures_of_all_rows_become_one_film(emails, tmp_path):
    pytest.importorskip("PIL")
    frames = llm_gym.GymVecEnv(
        same_step("llm_gym/PoliteEmail-v0", num_envs=4, render_mode="rgb_array")
    )
    frames.reset()
    assert frames.render().shape == (1080, 1920, 3)
    pytest.importorskip("moviepy")
    film = VecVideoRecorder(frames, str(tmp_path), lambda step: step == 0, video_length=3)
    film.reset()
    for _ in range(4):
        film.step(np.full(4, 5))
    film.close()
    assert list(tmp_path.glob("*.mp4"))
