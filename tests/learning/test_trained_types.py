"""Weights in float16 answer, and are not trained; of those in bfloat16 there is a warning."""

from __future__ import annotations

import warnings

import pytest
import sb3_contrib
import stable_baselines3
import torch

import llm_gym
from llm_gym.language_models import load_causal_lm
from llm_gym.language_models.trained_types import PrecisionWarning
from tests.learning.online_worlds import MODEL, make, small_env

OURS = ["PPO", "PolicyGradient", "RLOO", "GRPO", "DPO", "ExpertIteration"]
STOCK = [stable_baselines3.PPO, stable_baselines3.A2C, sb3_contrib.TRPO]
LORA = {"r": 2, "modules_to_save": ["mlp"], "target_modules": ["c_attn"]}


def make_any(algorithm, tokenizer, **policy_kwargs):
    algorithm = getattr(llm_gym, algorithm) if isinstance(algorithm, str) else algorithm
    env = llm_gym.GymVecEnv(small_env(tokenizer, group_size=4))
    return algorithm(llm_gym.TransformerActorCriticPolicy, env, policy_kwargs=policy_kwargs)


@pytest.mark.parametrize("lora", [None, LORA])
@pytest.mark.parametrize("algorithm", [*OURS, *STOCK])
def test_every_algorithm_refuses_them(algorithm, lora, tiny_dir, tmp_path, monkeypatch):
    model = tiny_dir("gpt2", **MODEL)
    load_causal_lm(model, dtype="float16").save_pretrained(tmp_path)
    monkeypatch.setattr("llm_gym.policy.transformer_policy.load_causal_lm", None)
    for name, dtype in ((model, "float16"), (str(tmp_path), "auto")):
        kwargs = {"model": name, "dtype": dtype, "lora": lora}
        with pytest.raises(ValueError, match=f"dtype='{dtype}'.*take bfloat16 or float32"):
            make_any(algorithm, model, **kwargs)


def test_a_policy_answers_in_it_and_takes_no_step(tiny_dir):
    """What an older release saved is opened, to answer."""
    model = tiny_dir("gpt2", **MODEL)
    algorithm = make("PPO", model, policy_kwargs={"lora": LORA})
    kwargs = {"model": model, "dtype": "float16", "lora": LORA}
    policy = algorithm.policy_class(
        algorithm.observation_space, algorithm.action_space, lambda _: 1e-2, **kwargs
    )
    observations = algorithm.env.reset()
    assert len(policy.predict(observations)[0]) == 16
    before = {name: tensor.clone() for name, tensor in policy.state_dict().items()}
    tensors = {name: torch.from_numpy(rows) for name, rows in observations.items()}
    actions = torch.zeros(16, dtype=torch.int64)
    policy.evaluate_actions(tensors, actions)[1].sum().backward()
    with pytest.raises(ValueError, match="float16 cannot be trained, nor an adapter on them"):
        policy.optimizer.step()
    assert all(torch.equal(before[name], now) for name, now in policy.state_dict().items())


def test_an_algorithm_that_was_saved_with_them_is_opened(tiny_dir, tmp_path):
    """Older releases trained an adapter on them."""
    model = tiny_dir("gpt2", **MODEL)
    algorithm = make("PPO", model, policy_kwargs={"lora": LORA})
    algorithm.num_timesteps = 1
    algorithm.policy_kwargs["dtype"] = "float16"
    algorithm.save(tmp_path / "old")
    opened = llm_gym.PPO.load(tmp_path / "old", device="cpu")
    assert opened.policy.dtype == torch.float16


@pytest.mark.filterwarnings("ignore:rollout_buffer_class", "ignore:A2C's use_rms_prop")
@pytest.mark.parametrize("algorithm", [llm_gym.PPO, llm_gym.RLOO, stable_baselines3.A2C])
def test_of_steps_that_bfloat16_rounds_away_there_is_a_warning(algorithm, tiny_dir, tmp_path):
    model = tiny_dir("gpt2", **MODEL)
    load_causal_lm(model, dtype="bfloat16").save_pretrained(tmp_path)
    for name, dtype in ((model, "bfloat16"), (str(tmp_path), "auto")):
        with pytest.warns(PrecisionWarning, match=r"256th of a weight .*lora=dict"):
            make_any(algorithm, model, model=name, dtype=dtype)
    with warnings.catch_warnings():
        warnings.simplefilter("error", PrecisionWarning)
        make_any(algorithm, model, model=model, dtype="bfloat16", lora=LORA)
        make_any(algorithm, model, model=model, dtype="auto")
        make_any(algorithm, model, model=str(tmp_path))
