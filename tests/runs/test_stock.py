"""Checkpoints of stock algorithms."""

from __future__ import annotations

import json

import gymnasium as gym
import numpy as np
import pytest
import stable_baselines3
import torch

from llm_gym import GymVecEnv
from llm_gym.runs import stock_state
from llm_gym.runs.checkpoint import read_metadata
from llm_gym.runs.stock import load_stock_checkpoint, save_stock_checkpoint

movement = pytest.importorskip(
    "llm_gym_autopilot.movement", reason="the plug-in envs/autopilot is not installed"
)


def make_env(num_envs=3, **options):
    env = gym.make_vec(
        "llm_gym/Autopilot-v0", num_envs=num_envs, autoreset_mode="SameStep", **options
    )
    return GymVecEnv(movement.MovementActions(env, rigging=(0.3, 0.3)))


def make(kind="SAC", num_envs=3, hidden=8, **settings):
    settings = {"learning_starts": 6, "buffer_size": 20} | settings if kind == "SAC" else settings
    return getattr(stable_baselines3, kind)(
        "MlpPolicy",
        make_env(num_envs, max_episode_steps=5),
        policy_kwargs={"net_arch": [hidden]},
        seed=0,
        device="cpu",
        **settings,
    )


def through_files(tree):
    arrays = {}
    text = json.dumps(stock_state.take_apart(tree, arrays))
    return stock_state.put_together(json.loads(text), arrays)


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """After the replay buffer has gone round, in the middle of episodes."""
    algorithm = make().learn(33, log_interval=None)
    return save_stock_checkpoint(algorithm, tmp_path_factory.mktemp("stock") / "step")


def test_trees_come_back_with_their_numbers_and_types():
    tree = {
        "words": {"a": 1.5, "": None},
        "counted": {0: {"exp": torch.ones(2)}, 7: {}},
        "seeds": np.array([2**64 - 1], np.uint64),
        "states": [2**127, np.bool_(True), "x"],
        "empty": {},
    }
    found = through_files(tree)
    assert found["words"] == tree["words"]
    assert found["counted"].keys() == {0, 7}
    assert found["counted"][0]["exp"].tolist() == [1, 1]
    assert (found["seeds"].dtype, found["seeds"].tolist()) == (np.uint64, [2**64 - 1])
    assert found["states"] == [2**127, True, "x"]
    assert found["empty"] == {}


def test_a_moved_environment_goes_on_through_the_ends_of_episodes():
    actions = np.random.default_rng(0).uniform(-1, 1, (20, 3, 2)).astype(np.float32)
    first, second = make_env(max_episode_steps=5), make_env(max_episode_steps=5)
    first.seed(1)
    first.reset()
    for action in actions[:7]:
        first.step(action)
    second.set_state(through_files(first.get_state()))
    for action in actions[7:]:
        (seen, paid, done, infos), (other, as_paid, as_done, as_infos) = (
            env.step(action) for env in (first, second)
        )
        assert seen.tolist() == other.tolist()
        assert paid.tolist() == as_paid.tolist()
        assert done.tolist() == as_done.tolist()
        for row in np.flatnonzero(done):
            ended, as_ended = infos[row], as_infos[row]
            assert (
                ended["terminal_observation"].tolist() == as_ended["terminal_observation"].tolist()
            )


def test_learning_on_from_a_full_replay_buffer_is_exact(saved, tmp_path):
    whole = make().learn(60, log_interval=None)
    other = make(learning_rate=3e-4)
    load_stock_checkpoint(other, saved)
    other.learn(60 - other.num_timesteps, log_interval=None, reset_num_timesteps=False)
    files = [save_stock_checkpoint(each, tmp_path / str(id(each))) for each in (whole, other)]
    weights = [(file / "training.safetensors").read_bytes() for file in files]
    assert weights[0] == weights[1]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"kind": "PPO"}, "it was saved by SAC, not PPO"),
        ({"hidden": 9}, "has another shape; was the run begun with other settings"),
        ({"buffer_size": 9}, "replay buffer's observations do not fit"),
        ({"num_envs": 2}, "replay buffer's observations do not fit"),
    ],
)
def test_a_checkpoint_of_other_settings_changes_nothing(settings, message, saved):
    algorithm = make(**settings)
    before = [p.clone() for p in algorithm.policy.parameters()]
    with pytest.raises(ValueError, match=message):
        load_stock_checkpoint(algorithm, saved)
    assert all(map(torch.equal, before, algorithm.policy.parameters()))


@pytest.mark.parametrize("moment", ["exp_avg", "exp_avg_sq"])
def test_moments_of_another_shape_are_refused(moment, saved):
    arrays = {}
    algorithm = make().learn(12, log_interval=None)
    state = stock_state.take_apart(stock_state.collect(algorithm), arrays)
    name = f"modules.critic.optimizer.state.1.{moment}"
    arrays[name] = arrays[name][:-1]
    problem = stock_state.misfit(algorithm, stock_state.put_together(state, arrays))
    assert problem is not None
    assert f"critic.optimizer 1 {moment} has another shape" in problem


def test_what_would_not_come_back_is_refused():
    noise = stable_baselines3.common.noise.NormalActionNoise(np.zeros(2), np.ones(2))
    with pytest.raises(ValueError, match="a run with action_noise and use_sde cannot be saved"):
        stock_state.check_can_be_saved(make(action_noise=noise, use_sde=True))
    env = stable_baselines3.common.vec_env.VecNormalize(make_env())
    with pytest.raises(ValueError, match="VecNormalize"):
        stock_state.check_can_be_saved(stable_baselines3.PPO("MlpPolicy", env, device="cpu"))


def test_readers_of_other_checkpoints_say_so(saved, tmp_path):
    with pytest.raises(ValueError, match="has format 'stock-1'"):
        read_metadata(saved)
