"""What is asked of an environment is asked of all its rows, however many there are."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from gymnasium import spaces

from llm_gym import GymVecEnv
from llm_gym.learning import vec_env as module
from llm_gym.learning.answers import GroupedAnswers
from llm_gym.learning.base import group_size_of
from llm_gym.learning.rounds import Rounds, _begins_again, _idle_token, check_contexts

# ------------------------------------------------------------------ attributes by row


class Rows:
    """Of a vector environment no more than what its rows say when they are asked."""

    def __init__(self, num_envs: int, **attributes: list[Any]) -> None:
        self.num_envs, self.attributes = num_envs, attributes
        self.action_space = spaces.Discrete(3)

    def has_attr(self, name):
        return name in self.attributes

    def get_attr(self, name, indices=None):
        if name not in self.attributes:
            raise AttributeError(name)
        return self.attributes[name]


def rows(num_envs: int, **attributes: Any) -> Any:
    return Rows(num_envs, **{name: [value] * num_envs for name, value in attributes.items()})


def rounds_on(env: Any, **kwargs: Any) -> Rounds:
    return Rounds(env, 4, 4, group_size=1, learner="RLOO", **kwargs)


@pytest.mark.parametrize("critic", [False, True])
def test_conversations_side_by_side_must_be_able_to_wait(critic):
    for number in (1, 2, 3):
        rounds_on(rows(number), critic=critic)
        rounds_on(rows(number, max_turn_tokens=5, wait=None), critic=critic)
    rounds_on(rows(1, max_turn_tokens=5), critic=critic)
    for number in (2, 3):
        with pytest.raises(ValueError, match="native vector form alone") as raised:
            rounds_on(rows(number, max_turn_tokens=5), critic=critic)
        assert str(raised.value).endswith(", or pass n_steps") == critic


@pytest.mark.parametrize(("known", "limit"), [([2], 2), ([3, 4], 3), ([None, 5], 5)])
def test_a_context_that_begins_anew_in_any_row_is_refused(known, limit):
    for fine in ([None], [None, None]):
        check_contexts(Rows(len(fine), turns_in_context=fine), "RLOO", "use PPO")
    check_contexts(Rows(1), "RLOO", "use PPO")
    env: Any = Rows(len(known), turns_in_context=known)
    with pytest.raises(ValueError, match=f"^turns_in_context={limit} begins"):
        check_contexts(env, "RLOO", "use PPO")


def test_episodes_are_begun_again_where_all_rows_have_numbered_prompts():
    for numbers, again in (([5], True), ([5, 3], True), ([None], False), ([5, None], False)):
        assert _begins_again(Rows(len(numbers), num_prompts=numbers)) is again
    assert _begins_again(rows(1, starts_by_seed=None))


@pytest.mark.parametrize(
    ("ends", "token"),
    [([()], 0), ([(0,)], 1), ([(0,), (1,)], 2), ([(1,), ()], 0), ([(0, 1, 2)], 0)],
)
def test_an_idle_token_ends_no_row(ends, token):
    assert _idle_token(Rows(len(ends), eos_token_ids=ends)) == token
    assert _idle_token(Rows(len(ends))) == 0


def test_one_row_says_how_large_its_group_is():
    assert group_size_of(rows(1, group_size=1)) == 1
    assert group_size_of(rows(4, group_size=2)) == 2
    assert group_size_of(rows(4)) == 1


@pytest.mark.parametrize("index", [None, -1, 0, 2])
def test_prompts_without_a_number_are_not_begun_again(index):
    """Rows that were asked a text of somebody's own have none, though other prompts do."""
    info = {} if index is None else {"prompt_index": index}
    told: list[Any] = []
    env: Any = rows(2, num_prompts=5)
    env.reset_infos, env.unwrapped = [info] * 2, env
    env.set_options, env.reset = told.append, lambda: {"fresh": True}
    last = {"completion_mask": np.ones((2, 4))}
    rounds = rounds_on(env)
    assert rounds._fresh_episodes(SimpleNamespace(_last_obs=last), env) == {"fresh": True}
    assert told == ([[{"prompt_index": index}] * 2] if index in (0, 2) else [])


# ------------------------------------------------------------------ groups


def grouped(num_envs: int, group_size: int) -> GroupedAnswers:
    env = rows(num_envs, group_size=group_size, render_mode=None)
    env.observation_space, env.unwrapped = spaces.Discrete(2), env
    return GroupedAnswers(env)


def ended(*tokens: int) -> dict[str, Any]:
    """The info of an answer of one token behind a prompt of some tokens."""
    mask = [False] * (len(tokens) - 1) + [True]
    observation = {"input_ids": np.array(tokens), "completion_mask": np.array(mask)}
    return {"terminal_observation": observation}


@pytest.mark.parametrize("size", [1, 2, 300])
def test_a_group_is_finished_with_its_last_member(size):
    keeper = grouped(2 * size, size)
    for row in range(size):
        assert keeper.finished == []
        keeper._keep(row, ended(1, 2))
    assert [len(group) for group in keeper.finished] == [size]
    assert keeper._pending == {}


@pytest.mark.parametrize("prompts", [(1, 2), (2, 1)])
def test_other_prompts_are_seen_in_whatever_order_they_come(prompts):
    keeper = grouped(2, 2)
    keeper._keep(0, ended(prompts[0], 0))
    with pytest.raises(ValueError, match="rows of a group got different prompts"):
        keeper._keep(1, ended(prompts[1], 0))


def state_of(keeper: GroupedAnswers, group: int, answer: list[Any]) -> dict[str, Any]:
    member = [0, *answer]
    return {
        "env": None,
        "finished": [],
        "pending": [[group, 0, [member]]],
        "ordinals": [0] * keeper.num_envs,
        "returns": [0.0] * keeper.num_envs,
        "first_ordinal": [0] * (keeper.num_envs // keeper.group_size),
    }


def test_a_state_is_of_the_groups_there_are():
    keeper = grouped(8, 2)
    for group in range(4):
        keeper.check_state("it", state_of(keeper, group, [[1], [2], 0.5]))
    with pytest.raises(ValueError, match="whole number from 0 to 3, got 4"):
        keeper.check_state("it", state_of(keeper, 4, [[1], [2], 0.5]))


@pytest.mark.parametrize(
    ("answer", "number"), [([], 1), ([[1], [2]], 3), ([[1], [2], 0.5, [], 1], 6)]
)
def test_answers_that_are_too_short_or_too_long_are_told_their_length(answer, number):
    keeper = grouped(2, 2)
    with pytest.raises(ValueError, match=f"must be a list of 5, got a list of {number}$"):
        keeper.check_state("it", state_of(keeper, 0, answer))


# ------------------------------------------------------------------ GymVecEnv


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
