from __future__ import annotations

import copy
import pickle
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from gymnasium import spaces
from gymnasium.vector import SyncVectorEnv
from gymnasium.wrappers import TimeLimit
from gymnasium.wrappers.vector import RecordEpisodeStatistics
from stable_baselines3 import PPO
from stable_baselines3.common.evaluation import evaluate_policy
from stable_baselines3.common.monitor import Monitor
from stable_baselines3.common.vec_env import DummyVecEnv, VecMonitor

from llm_gym import GymVecEnv, TextGenerationEnv, TextGenerationVectorEnv
from llm_gym.learning import vec_env as module
from llm_gym.testing.conformance import assert_same
from tests.text.helpers import EOS, arguments, word


def make(num_envs=3, **overrides) -> GymVecEnv:
    return GymVecEnv(
        TextGenerationVectorEnv(
            **arguments(**overrides), num_envs=num_envs, autoreset_mode="SameStep"
        )
    )


def dummy(num_envs=3, **overrides) -> DummyVecEnv:
    maker = lambda: Monitor(TextGenerationEnv(**arguments(**overrides)))  # noqa: E731
    return DummyVecEnv([maker] * num_envs)


def without_time(infos):
    """Infos without what cannot agree: seconds, and the flag DummyVecEnv sets at every step."""
    infos = copy.deepcopy(infos)
    for info in infos:
        if "episode" in info:
            assert info["episode"].pop("t") >= 0
        elif info.get("TimeLimit.truncated") is False:
            del info["TimeLimit.truncated"]
    return [dict(info) for info in infos]


def test_returns_have_six_digits_as_monitors_have():
    ours, theirs = (
        made(1, scorer=lambda prompts, _: [2 / 3] * len(prompts)) for made in (make, dummy)
    )
    for env in (ours, theirs):
        env.reset()
        _, _, dones, infos = env.step(np.array([EOS]))
        assert dones.all()
        assert infos[0]["episode"]["r"] == 0.666667


def test_rows_without_pictures_are_rows_all_the_same():
    assert make(3).get_images() == [None] * 3
    pictures = GymVecEnv(Pictured(3)).get_images()
    assert [picture.tolist() for picture in pictures] == [[[[0]]], [[[1]]], [[[2]]]]


class Pictured(gym.vector.VectorEnv):
    """Draws a picture of a row's number."""

    metadata = {"autoreset_mode": gym.vector.AutoresetMode.SAME_STEP}  # noqa: RUF012
    single_observation_space = gym.spaces.Box(0, 1, (1,))
    single_action_space = gym.spaces.Discrete(2)

    def __init__(self, num_envs):
        self.num_envs = num_envs

    def render(self):
        return np.arange(self.num_envs).reshape(-1, 1, 1, 1)


@pytest.mark.parametrize("on_max_length", ["terminate", "truncate"])
@pytest.mark.parametrize("min_new_tokens", [0, 1])
def test_same_as_dummy_vec_env_with_monitor(on_max_length, min_new_tokens):
    """Observations, rewards, dones and infos are those of SB3's own, with the same seeds."""
    options = {
        "on_max_length": on_max_length,
        "min_new_tokens": min_new_tokens,
        "max_new_tokens": 3,
        "allowed_token_ids": [EOS, *range(3, 9)] if min_new_tokens else None,
    }
    ours, theirs = make(**options), dummy(**options)
    ours.seed(9)
    theirs.seed(9)
    assert_same(ours.reset(), dict(theirs.reset()), "reset")
    assert_same(ours.reset_infos, theirs.reset_infos, "reset infos")
    rng = np.random.default_rng(0)
    for number in range(40):
        actions = rng.integers(3, 9, size=3)
        if number % 3:
            actions[rng.integers(3)] = EOS
        if min_new_tokens:
            actions = np.where(np.stack(ours.env_method("action_masks"))[:, EOS], actions, word(1))
        step, expected = ours.step(actions), theirs.step(actions)
        assert_same(dict(step[0]), dict(expected[0]), "observations")
        assert_same(step[1:3], expected[1:3], "rewards and dones")
        assert_same(without_time(step[3]), without_time(expected[3]), "infos")
        assert_same(ours.reset_infos, theirs.reset_infos, "reset infos")


def test_stock_ppo_trains_and_is_evaluated():
    env = make()
    model = PPO("MultiInputPolicy", env, n_steps=16, batch_size=16, n_epochs=1, seed=0)
    model.learn(96)
    assert len(model.ep_info_buffer) > 0
    mean, _ = evaluate_policy(model, env, n_eval_episodes=4, warn=True)
    assert np.isfinite(mean)


def test_seeded_training_is_repeatable():
    def train():
        model = PPO("MultiInputPolicy", make(), n_steps=8, batch_size=8, n_epochs=1, seed=4)
        model.learn(48)
        return [(episode["r"], episode["l"]) for episode in model.ep_info_buffer]

    assert train() == train()


def test_running_rows_share_infos_that_refuse_to_be_written():
    """A key added to a shared info would show up in every later step."""
    env = make()
    env.reset()
    *_, first = env.step(np.full(3, word(1)))
    *_, second = env.step(np.full(3, word(1)))
    assert first == second == [{}, {}, {}]
    assert first[0] is second[0]
    assert first is not second
    for write in (
        lambda: first[0].update(key=1),
        lambda: first[0].setdefault("key", 1),
        lambda: first[0].__setitem__("key", 1),
    ):
        with pytest.raises(TypeError, match="copy it"):
            write()
    assert pickle.loads(pickle.dumps(first)) == copy.deepcopy(first) == [{}, {}, {}]


def test_works_under_vec_monitor():
    with pytest.warns(UserWarning, match="already wrapped with a `Monitor`"):
        env = VecMonitor(make(1))
    env.reset()
    *_, infos = env.step(np.array([EOS]))
    assert infos[0]["episode"]["r"] == 0.5


def test_plain_gymnasium_environment():
    """Not only text: infos that an environment gives at every step arrive by row."""

    class Counter(gym.Wrapper):
        def step(self, action):
            *rest, info = super().step(action)
            return *rest, {**info, "half": {"reward": float(rest[1]) / 2}}

    vector = SyncVectorEnv(
        [lambda: Counter(gym.make("CartPole-v1"))] * 2, autoreset_mode="SameStep"
    )
    env = GymVecEnv(RecordEpisodeStatistics(vector))
    env.seed(0)
    env.reset()
    dones = np.zeros(2, dtype=bool)
    while not dones.any():
        _, rewards, dones, infos = env.step(np.zeros(2, dtype=int))
        assert [info["half"] for info in infos] == [{"reward": 0.5}] * 2
    ended = int(np.flatnonzero(dones)[0])
    assert infos[ended]["terminal_observation"].shape == (4,)
    assert infos[ended]["episode"]["r"] == infos[ended]["episode"]["l"]
    assert rewards.dtype == np.float32
    assert env.get_attr("render_mode") == [None, None]
    assert [len(state) for state in env.env_method("get_wrapper_attr", "state")] == [4, 4]
    env.set_attr("note", 3)
    env.set_attr("note", 4, indices=[1])
    assert env.get_attr("note") == [3, 4]
    env.close()


def test_seed_option_and_options_are_used_once():
    env = make()
    assert env.seed(5) == [5, 6, 7]
    env.set_options({"prompt": "w5"})
    env.reset()
    assert [info["prompt"] for info in env.reset_infos] == ["w5"] * 3
    env.seed(5)
    first = env.reset()
    assert all(info["prompt_index"] >= 0 for info in env.reset_infos)
    env.seed(5)
    assert_same(env.reset(), first, "the same seed")
    env.set_options({"prompt": ["w1", "w2", "w3"]})
    env.reset()
    assert [info["prompt"] for info in env.reset_infos] == ["w1", "w2", "w3"]
    env.set_options([{"prompt": "w1"}, {"prompt": "w2"}, {}])
    with pytest.raises(ValueError, match="one dict for all rows"):
        env.reset()


def test_attributes():
    env = make()
    assert env.get_attr("group_size") == [1, 1, 1]
    assert env.get_attr("tokenizer", indices=1) == [env.env.tokenizer]
    assert env.get_attr("action_space", indices=[0]) == [gym.spaces.Discrete(32)]
    assert not env.has_attr("nothing_of_the_kind")
    env.set_attr("note", "hello")
    assert env.get_attr("note", indices=[0, 2]) == ["hello", "hello"]
    with pytest.raises(ValueError, match=r"rows of .* share their attributes"):
        env.set_attr("note", "bye", indices=[1])


def test_methods_are_answered_by_row():
    env = make(render_mode="ansi")
    env.set_options({"prompt": ["w1", "w2", "w3"]})
    env.reset()
    frames = env.env_method("render", indices=[2, 0])
    assert ["w3" in frames[0], "w1" in frames[1]] == [True, True]
    assert env.render_mode == "ansi"
    assert len(env.env_method("action_masks")) == 3
    with pytest.raises(AttributeError, match="nothing_of_the_kind"):
        env.env_method("nothing_of_the_kind")


def test_counts_as_monitored():
    assert make().env_is_wrapped(Monitor) == [True] * 3
    assert make().env_is_wrapped(gym.wrappers.TimeLimit, indices=[0]) == [False]


def test_state_includes_the_running_returns():
    env = make()
    env.seed(0)
    env.reset()
    env.step(np.array([word(1), EOS, word(1)]))
    state = env.get_state()
    expected = env.step(np.full(3, EOS))
    resumed = make()
    assert_same(resumed.set_state(state)["input_ids"].shape, (3, 9), "shape")
    again = resumed.step(np.full(3, EOS))
    assert_same(dict(again[0]), dict(expected[0]), "observations")
    assert [i["episode"]["l"] for i in again[3]] == [2, 1, 2]
    assert_same(without_time(again[3]), without_time(expected[3]), "infos")


@pytest.mark.parametrize("mode", ["NextStep", "Disabled"])
def test_other_autoreset_modes_are_refused(mode):
    env = TextGenerationVectorEnv(**arguments(), num_envs=2, autoreset_mode=mode)
    with pytest.raises(ValueError, match="make it with autoreset_mode='SameStep'"):
        GymVecEnv(env)


def test_single_environment_is_refused():
    with pytest.raises(TypeError, match=r"got TextGenerationEnv; make one with gymnasium.make_vec"):
        GymVecEnv(TextGenerationEnv(**arguments()))


@pytest.mark.parametrize("limit", [1, 2, 3])
@pytest.mark.parametrize("on_max_length", ["terminate", "truncate", "penalise"])
def test_an_end_at_the_limit_of_steps_is_an_end(limit, on_max_length):
    """Scored and cut off in one step, it has been paid: there is nothing to bootstrap."""
    options = {"max_new_tokens": 3, "on_max_length": on_max_length}
    ours = GymVecEnv(
        TextGenerationVectorEnv(
            **arguments(**options), num_envs=3, autoreset_mode="SameStep", max_episode_steps=limit
        )
    )
    limited = lambda: Monitor(TimeLimit(TextGenerationEnv(**arguments(**options)), limit))  # noqa: E731
    theirs = DummyVecEnv([limited] * 3)
    for env in (ours, theirs):
        env.seed(9)
        env.reset()
    rng, both = np.random.default_rng(0), 0
    for _ in range(30):
        actions = rng.choice([EOS, word(1), word(2)], size=3)
        step, expected = ours.step(actions), theirs.step(actions)
        assert_same(step[1:3], expected[1:3], "rewards and dones")
        assert_same(without_time(step[3]), without_time(expected[3]), "infos")
        scored = [info for info in step[3] if info.get("score") is not None]
        assert not any(info["TimeLimit.truncated"] for info in scored)
        both += sum(info["episode"]["l"] == limit for info in scored)
    assert both > 0


# ------------------------------------------------------------------ rows that are told what to say


class Own(gym.vector.VectorEnv):
    """Rows that are paid what they are told to be, and say what they are asked."""

    metadata = {"autoreset_mode": gym.vector.AutoresetMode.SAME_STEP}  # noqa: RUF012
    single_observation_space = spaces.Box(0, 1, (1,))
    single_action_space = spaces.Discrete(2)

    def __init__(self, num_envs: int) -> None:
        self.num_envs, self.pays = num_envs, np.zeros(num_envs)
        self.ends = np.zeros(num_envs, dtype=bool)
        self.infos: dict[str, Any] = {}

    def reset(self, *, seed=None, options=None):
        self.options = options
        return np.zeros((self.num_envs, 1)), {}

    def step(self, actions):
        observations = np.zeros((self.num_envs, 1))
        return observations, self.pays, self.ends, np.zeros(self.num_envs, dtype=bool), self.infos

    def of_length(self, kind, length):
        return kind(range(length))


class Kept(Own):
    """With an attribute of each row."""

    def __init__(self, num_envs: int) -> None:
        super().__init__(num_envs)
        self.notes = list(range(num_envs))

    def get_attr(self, name):
        return tuple(self.notes if name == "note" else [None] * self.num_envs)

    def set_attr(self, name, values):
        self.notes = list(values)


@pytest.mark.parametrize(
    ("indices", "notes"),
    [
        (None, [9, 9, 9]),
        ([0, 1, 2], [9, 9, 9]),
        ([2, 0, 1, 1], [9, 9, 9]),
        (1, [0, 9, 2]),
        ([1, 1, 1], [0, 9, 2]),
        ([0, 0, 2, 2], [9, 1, 9]),
        ([-1], [0, 1, 9]),
        ([], [0, 1, 2]),
    ],
)
def test_an_attribute_is_set_in_the_rows_that_were_named(indices, notes):
    env = GymVecEnv(Kept(3))
    env.set_attr("note", 9, indices)
    assert env.get_attr("note") == notes
    shared = GymVecEnv(Own(3))
    if notes == [9, 9, 9]:
        shared.set_attr("note", 9, indices)
        assert shared.get_attr("note") == notes
    else:
        with pytest.raises(ValueError, match="share their attributes"):
            shared.set_attr("note", 9, indices)


def test_all_of_many_rows_are_all():
    env = GymVecEnv(Own(300))
    env.set_attr("note", 9, range(300))
    assert env.get_attr("note") == [9] * 300


@pytest.mark.parametrize("lacks", ["get_attr", "set_attr"])
def test_who_keeps_no_attributes_by_row_has_one_for_all(lacks):
    class Half(Own):
        pass

    has = "set_attr" if lacks == "get_attr" else "get_attr"
    setattr(Half, has, lambda self, *_: [7] * self.num_envs)
    unwrapped = Half(2)
    GymVecEnv(unwrapped).set_attr("note", 9)
    assert unwrapped.note == 9


@pytest.mark.parametrize("num_envs", [3, 300])
@pytest.mark.parametrize("kind", [tuple, np.array, list])
def test_a_result_is_by_row_if_it_has_as_many_entries(kind, num_envs):
    env = GymVecEnv(Own(num_envs))
    for length in (num_envs - 1, num_envs, num_envs + 1):
        found = env.env_method("of_length", kind, length, indices=[0, 2])
        if length == num_envs and kind is not list:
            assert found == [0, 2]
        else:
            assert [len(result) for result in found] == [length, length]


def test_options_are_one_dict_for_all_rows():
    env = GymVecEnv(Own(2))
    for options in ({"a": 1}, {}, [{}, {}]):
        env.set_options(options)
        env.reset()
        assert env.env.options == (options if options == {"a": 1} else None)
    for options in ([{}, {"a": 1}], [{"a": 1}, {}], [{"a": 1}, {"a": 2}], [{"a": 1}, {"a": 1}]):
        env.set_options(options)
        with pytest.raises(ValueError, match="one dict for all rows"):
            env.reset()


def test_the_largest_reward_is_one_and_the_first_beyond_is_named():
    env = GymVecEnv(Own(3))
    env.reset()
    largest = float(np.finfo(np.float32).max)
    env.env.pays = np.array([largest, -largest, 0.0])
    assert env.step(np.zeros(3))[1].tolist() == [largest, -largest, 0.0]
    for wrong in (np.inf, -np.inf, np.nan, 2 * largest):
        env.env.pays = np.array([largest, wrong, wrong])
        with pytest.raises(ValueError, match=r"in row 1, but rewards must be finite"):
            env.step(np.zeros(3))


@pytest.mark.filterwarnings("error")
def test_infos_of_rows_that_end_and_of_rows_that_go_on():
    env = GymVecEnv(Own(3))
    env.reset()
    env.env.ends = np.array([True, False, False])
    env.env.infos = {"note": np.array([1, 2, 3]), "_note": np.array([True, True, False])}
    infos = env.step(np.zeros(3))[3]
    assert infos[1:] == [{"note": 2}, {}]
    assert env.reset_infos[0] == {"note": 1}


def test_an_episode_ends_some_seconds_after_the_start(monkeypatch):
    now = iter([10.0, 35.5])
    monkeypatch.setattr(module.time, "time", lambda: next(now))
    env = GymVecEnv(Own(1))
    env.reset()
    env.env.ends, env.env.infos = np.array([True]), {"a": np.ones(1), "_a": np.array([True])}
    assert env.step(np.zeros(1))[3][0]["episode"]["t"] == 25.5
