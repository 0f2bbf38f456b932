"""Worlds that do not do what they should: one clear error, or an end with its reason."""

from __future__ import annotations

import copy
import pickle
import re
import threading

import gymnasium as gym
import numpy as np
import pytest

import llm_gym
from llm_gym import TurnEnv, TurnVectorEnv, WorldError
from llm_gym.turns.worlds import Worlds, world_maker
from tests.text.helpers import EOS, word
from tests.turns.worlds import Scripted, arguments, hanging, raising

FINE = ("w2", 1.0, False, False, {})


def ended_turn(**overrides):
    env = TurnEnv(**arguments(**overrides))
    env.reset(seed=0)
    return env.step(EOS)


@pytest.mark.parametrize("limit", [None, 60.0])
@pytest.mark.parametrize(
    ("answer", "error", "match"),
    [
        ((None, 0.0, False, False, {}), TypeError, "returned None for its text"),
        (("w1", "1", False, False, {}), TypeError, "the reward '1'"),
        (("w1", True, False, False, {}), TypeError, "the reward True"),
        (("w1", float("nan"), False, False, {}), ValueError, "the reward nan"),
        (("w1", -1e39, False, False, {}), ValueError, r"the reward -1e\+39, .* of float32"),
        (("w1", 10**400, False, False, {}), ValueError, "the reward 1000.* of float32"),
        (("w1 \ud800", 0.0, False, False, {}), ValueError, "lone surrogate at character 3"),
        (("w1", 0.0, 1, False, {}), TypeError, "terminated=1"),
        (("w1", 0.0, False, None, {}), TypeError, "truncated=None"),
        (("w1", 0.0, False, False, None), TypeError, "the info None"),
        (("w1", 0.0, True, {}), TypeError, r"not \(text, reward, terminated"),
        ("w1", TypeError, r"not \(text, reward, terminated"),
    ],
)
def test_an_answer_of_another_kind_is_refused(answer, error, match, limit):
    with pytest.raises(error, match=match):
        ended_turn(world=Scripted(answers=[answer]), world_time_limit=limit)


@pytest.mark.parametrize("kind", [bool, np.bool_])
def test_flags_may_be_of_numpy(kind):
    def ended(terminated, truncated):
        answer = ("w1", 0.0, kind(terminated), kind(truncated), {})
        return ended_turn(world=Scripted(answers=[answer]))[2:4]

    assert [ended(*ends) for ends in ((True, False), (False, True))] == [
        (True, False),
        (False, True),
    ]


@pytest.mark.parametrize(
    ("first", "error", "match"),
    [
        (3, TypeError, r"reset\(\) returned 3 for its text"),
        ("", ValueError, "is empty"),
        (" ".join(["w1"] * 40), ValueError, "has 40 tokens, which leave no room"),
        (("w1", 3), TypeError, "the info 3"),
        (("w1", {}, {}), TypeError, r"reset\(\) returned \('w1', \{\}, \{\}\) for its text"),
        (("w1",), TypeError, r"reset\(\) returned \('w1',\) for its text"),
        ("w1 \udfff", ValueError, r"the world's reset\(\) has a lone surrogate"),
    ],
)
def test_a_start_of_another_kind_is_refused(first, error, match):
    with pytest.raises(error, match=match):
        TurnEnv(**arguments(world=Scripted(first))).reset(seed=0)


@pytest.mark.parametrize(
    ("overrides", "error", "match"),
    [
        ({"world": 3}, TypeError, "world=3 must have"),
        ({"world": dict}, TypeError, "which has no reset"),
        ({"world": Scripted(), "world_kwargs": {"first": "w1"}}, ValueError, "world_kwargs="),
        ({"max_turn_tokens": 0}, ValueError, "max_turn_tokens=0"),
        ({"max_turns": 0}, ValueError, "max_turns=0"),
        ({"context_length": 4}, ValueError, "context_length=4 has no room"),
        ({"world_time_limit": 0}, ValueError, "world_time_limit=0"),
        ({"world_time_limit": 1e12}, ValueError, "at most 1000000"),
        ({"on_max_length": "penalise"}, ValueError, "on_max_length='penalise'"),
        ({"on_world_error": "ignore"}, ValueError, "on_world_error='ignore'"),
        ({"max_turn": 3}, TypeError, "did you mean 'max_turns'"),
        ({"num_envs": 3}, TypeError, "make_vec"),
    ],
)
def test_arguments_that_do_not_fit_are_refused(overrides, error, match):
    with pytest.raises(error, match=match):
        TurnEnv(**arguments(**overrides))


def test_what_ends_with_a_name_is_a_place_and_anything_else_an_id(tmp_path):
    file = tmp_path / "mine.py"
    file.write_text("class Mine:\n    reset = step = None\n")
    assert type(world_maker(f"{file}:Mine", 1, {})()).__name__ == "Mine"
    # Gymnasium's way to import a module first: an id ends with a version, which is no name.
    assert world_maker("llm_gym:llm_gym/TextGeneration-v0", 1, {}).func is gym.make
    assert world_maker("llm_gym/TextGeneration-v0", 1, {}).func is gym.make


def test_one_world_cannot_serve_several_rows():
    with pytest.raises(ValueError, match="is one world, but num_envs=2"):
        TurnVectorEnv(**arguments(world=Scripted()), num_envs=2)
    world = Scripted()
    with pytest.raises(ValueError, match="the same world for several rows"):
        TurnVectorEnv(**arguments(world=lambda: world), num_envs=2)


@pytest.mark.parametrize("limit", [None, 60.0])
def test_a_world_that_raises_is_named_or_ends_the_conversation(limit):
    world = Scripted(answers=[raising])
    with pytest.raises(WorldError, match="row 0 raised KeyError: 'no such card'") as caught:
        ended_turn(world=world, world_time_limit=limit)
    assert isinstance(caught.value.__cause__, KeyError)
    options = {"on_world_error": "truncate", "world_time_limit": limit}
    _, reward, terminated, truncated, info = ended_turn(world=world, **options)
    assert (reward, terminated, truncated, info["end_reason"]) == (0.0, False, True, "error")
    assert "no such card" in info["world_error"]


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (ValueError("\x1b[31mone\x1b[0m\x07\ntwo"), r"ValueError: one\x07; mend it"),
        (ValueError("x" * 5000), f"ValueError: {'x' * 188}; mend it"),
        (AssertionError(), "AssertionError; mend it"),
        (ValueError("\n  \n---\n  two words \nmore"), "ValueError: two words; mend it"),
    ],
)
def test_what_a_world_raises_is_one_short_line(error, said):
    def failing(_):
        raise error

    with pytest.raises(WorldError, match=re.escape(said)):
        ended_turn(world=Scripted(answers=[failing]))


def test_infos_of_worlds_are_kept_whole_whatever_is_in_them():
    told = [{"a": 1, "_a": 2}, {"a": 0.5}, {"a": "x"}, {"a": None}, {"a": {"b": [1]}}, {3: told_of}]
    rows = iter([*told, *told])

    def make():
        info = next(rows)
        return Scripted(("w1", info), answers=[("w2", 0.0, False, False, info)])

    env = TurnVectorEnv(**arguments(world=make), num_envs=6, autoreset_mode="SameStep")
    _, infos = env.reset(seed=0)
    assert infos["world_info"].tolist() == told
    infos = env.step(np.full(6, EOS))[4]
    assert infos["world_info"].tolist() == told
    assert copy.deepcopy(infos["world_info"][4]) == pickle.loads(pickle.dumps(told[4]))
    learner = llm_gym.GymVecEnv(env)
    learner.reset()
    assert [info["world_info"] for info in learner.step(np.full(6, EOS))[3]] == told


def told_of():
    """Any object."""


def test_a_world_that_raises_at_reset_is_named():
    with pytest.raises(WorldError, match=r"KeyError: 'no such card'; mend it$"):
        TurnEnv(**arguments(world=Scripted(raising), on_world_error="truncate")).reset(seed=0)


def test_a_world_that_hangs_is_cut_off_and_made_anew():
    """The other rows lose nothing, and the row goes on with a new world."""
    made = []

    def make():
        made.append(Scripted(answers=[hanging if len(made) == 1 else FINE]))
        return made[-1]

    env = TurnVectorEnv(
        **arguments(world=make, world_time_limit=0.3), num_envs=3, autoreset_mode="SameStep"
    )
    env.reset(seed=0)
    _, rewards, terminated, truncated, infos = env.step(np.full(3, EOS))
    assert rewards.tolist() == [1.0, 0.0, 1.0]
    assert truncated.tolist() == [False, True, False]
    assert not terminated.any()
    assert infos["final_info"]["end_reason"][1] == "timeout"
    assert "took longer than world_time_limit=0.3 s" in infos["final_info"]["world_error"][1]
    assert len(made) == 4
    _, rewards, _, truncated, _ = env.step(np.full(3, EOS))
    assert rewards.tolist() == [1.0] * 3
    assert not truncated.any()


LATE = r"the world of row {} took longer than world_time_limit=0\.2 s to {}: mend it, or raise"


def made_by(number, *, hangs):
    """What makes `number` rows' worlds, by the numbers of those that hang: how they do."""
    made = []

    def make():
        how = hangs.get(len(made))
        made.append(how)
        if how == "made":
            hanging()
        return Scripted(hanging if how == "begin" else "w1", answers=[FINE])

    shape = arguments(world=make, world_time_limit=0.2)
    if number == 1:
        return made, lambda: TurnEnv(**shape)
    return made, lambda: TurnVectorEnv(**shape, num_envs=number, autoreset_mode="SameStep")


@pytest.mark.parametrize(("number", "late"), [(1, 0), (3, 2)])
def test_a_world_that_hangs_while_it_is_made_is_an_error(number, late):
    _, make_env = made_by(number, hangs={late: "made"})
    with pytest.raises(WorldError, match=LATE.format(late, "be made")):
        make_env()


@pytest.mark.parametrize("number", [1, 3])
def test_a_world_that_hangs_at_its_beginning_is_made_anew(number):
    made, make_env = made_by(number, hangs={number - 1: "begin"})
    env = make_env()
    env.reset(seed=0)
    assert len(made) == number + 1
    rewards = env.step(EOS if number == 1 else np.full(number, EOS))[1]
    assert np.all(np.asarray(rewards) == 1.0)


@pytest.mark.parametrize("number", [1, 3])
@pytest.mark.parametrize("second", ["begin", "made"])
def test_two_worlds_that_hang_one_after_the_other_are_an_error(number, second):
    _, make_env = made_by(number, hangs={number - 1: "begin", number: second})
    env = make_env()
    with pytest.raises(WorldError, match=LATE.format(number - 1, "begin")):
        env.reset(seed=0)
    env.reset(seed=0)  # by the next one
    env.close()


@pytest.mark.parametrize(
    "hows", [["begin"], ["answer"], ["begin", "made"], ["answer", "begin", "made"]], ids=str
)
def test_a_world_that_was_given_up_is_closed_in_its_thread_and_not_called_again(hows):
    let_go, worlds, calls = threading.Event(), [], []

    class Late:
        def __init__(self):
            self.hangs_at = hows[len(worlds)] if len(worlds) < len(hows) else None
            worlds.append(self)
            self.thread = threading.current_thread()
            self.call("made")

        def call(self, what):
            if self.hangs_at == what:
                let_go.wait(timeout=30)
            calls.append((self, what, threading.current_thread()))

        def reset(self, *, seed):
            self.call("begin")
            return "w1"

        def step(self, text):
            self.call("answer")
            return FINE

        def close(self):
            self.call("close")

    env = TurnEnv(**arguments(world=Late, world_time_limit=0.2))
    while len(worlds) <= len(hows):
        try:
            env.reset(seed=0)
            env.step(EOS)
        except WorldError:
            pass
    *late, current = worlds
    let_go.set()
    for world in late:
        world.thread.join(timeout=30)
        assert not world.thread.is_alive()
    assert env._episodes.worlds._held[0].world is current
    for world in worlds:
        assert {thread for w, _, thread in calls if w is world} == {world.thread}
        done = [what for w, what, _ in calls if w is world]
        assert done.count("answer") == (world.hangs_at in ("answer", None))
        assert done.count("close") == (world in late) == (done[-1] == "close")
    env.close()


def test_worlds_are_closed_where_another_cannot_be_made():
    closed = []

    class Closed(Scripted):
        def close(self):
            closed.append(self)

    made = iter([Closed, Closed, lambda: raising()])
    with pytest.raises(WorldError, match="could not be made: KeyError: 'no such card'"):
        TurnVectorEnv(**arguments(world=lambda: next(made)()), num_envs=3)
    assert len(closed) == 2


@pytest.mark.parametrize("limit", [None, 60.0])
@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (KeyError("a"), WorldError),
        (OSError("a"), WorldError),
        (SystemExit("a"), WorldError),
        (ValueError("a"), ValueError),
        (TypeError("a"), TypeError),
        (ImportError("a"), ImportError),
    ],
)
def test_what_a_world_raises_while_it_is_made_is_one_sentence(error, kind, limit):
    def make():
        raise error

    with pytest.raises(kind, match="a") as caught:
        TurnEnv(**arguments(world=make, world_time_limit=limit))
    assert type(caught.value) is kind
    assert kind is ImportError or "the world could not be made" in str(caught.value)


@pytest.mark.parametrize("limit", [None, 60.0])
def test_a_world_that_ends_the_program_does_not(limit):
    def leaving(_):
        raise SystemExit

    with pytest.raises(WorldError, match="row 0 raised SystemExit"):
        ended_turn(world=Scripted(answers=[leaving]), world_time_limit=limit)


def test_a_world_that_was_passed_as_it_is_cannot_be_made_anew():
    world = Scripted(answers=[hanging])
    env = TurnEnv(**arguments(world=world, world_time_limit=0.2))
    env.reset(seed=0)
    assert env.step(EOS)[4]["end_reason"] == "timeout"
    with pytest.raises(WorldError, match="cannot be made anew: as world=, pass its class"):
        env.reset(seed=0)


def test_worlds_that_hang_when_they_are_closed_hold_nobody_up():
    class Clinging(Scripted):
        close = hanging

    env = TurnVectorEnv(**arguments(world=Clinging, world_time_limit=0.2), num_envs=3)
    env.reset(seed=0)
    threads = [thread._thread for thread in env._episodes.worlds._threads]
    env.close()
    assert [thread.is_alive() for thread in threads] == [True] * 3
    assert env._episodes.worlds._threads == [None] * 3


def test_worlds_of_one_step_have_one_time_limit_together(monkeypatch):
    """By the second the first has taken all of it."""
    leave = threading.Event()
    slow = ("w3", 0.0, False, False, {})
    answers = iter([FINE, lambda text: (leave.wait(0.5) and slow) or slow])
    worlds = Worlds(lambda: Scripted("w1", [next(answers)]), 2, 60.0)
    worlds.reset({0: 0, 1: 0})
    times = iter([0.0, 0.0, 60.0])  # the beginning, and before each world is waited for
    monkeypatch.setattr("llm_gym.turns.worlds.monotonic", lambda: next(times))
    first, second = worlds.step({0: "a", 1: "b"}).values()
    assert first == FINE
    assert second.reason == "timeout"
    leave.set()


def test_worlds_of_one_step_are_at_work_together():
    """Each waits for all others: one after the other they would never meet."""
    meeting = threading.Barrier(4, timeout=30)

    def answer(_):
        meeting.wait()
        return FINE

    env = TurnVectorEnv(**arguments(world=lambda: Scripted(answers=[answer])), num_envs=4)
    env.reset(seed=0)
    assert env.step(np.full(4, EOS))[1].tolist() == [1.0] * 4


def test_a_world_lives_in_one_thread_which_ends_with_it():
    threads = set()

    class Placed(Scripted):
        def __init__(self):
            super().__init__()
            threads.add(threading.current_thread())

        def reset(self, *, seed):
            threads.add(threading.current_thread())
            return super().reset(seed=seed)

        def close(self):
            threads.add(threading.current_thread())

    env = TurnEnv(**arguments(world=Placed))
    env.reset(seed=0)
    env.step(word(1))
    env.close()
    (thread,) = threads
    assert thread is not threading.main_thread()
    thread.join(timeout=30)
    assert not thread.is_alive()


def test_threads_end_with_an_environment_that_nobody_closed():
    import gc

    env = TurnEnv(**arguments(world=Scripted))
    env.reset(seed=0)
    env.step(EOS)
    (thread,) = [t for t in threading.enumerate() if t is env._episodes.worlds._threads[0]._thread]
    del env
    gc.collect()
    thread.join(timeout=30)
    assert not thread.is_alive()


def test_no_time_limit_means_no_thread():
    threads = []

    def answer(_):
        threads.append(threading.current_thread())
        return FINE

    world = Scripted(answers=[answer])
    assert ended_turn(world=world, world_time_limit=None)[1] == 1.0
    assert threads == [threading.current_thread()]


def test_a_world_that_never_ends_is_held_by_the_budgets():
    env = TurnEnv(**arguments(world=Scripted()))
    env.reset(seed=0)
    for number in range(1000):
        *_, truncated, info = env.step(word(number % 20))
        if truncated:
            break
    assert info["end_reason"] == "context_length"
    assert number < 40
