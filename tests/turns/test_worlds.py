"""Worlds that do not do what they should: one clear error, or an end with its reason."""

from __future__ import annotations

import threading

import numpy as np
import pytest

from llm_gym import TurnEnv, TurnVectorEnv, WorldError
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


@pytest.mark.parametrize(
    ("first", "error", "match"),
    [
        (3, TypeError, r"reset\(\) returned 3 for its text"),
        ("", ValueError, "is empty"),
        (" ".join(["w1"] * 40), ValueError, "has 40 tokens, which leave no room"),
        (("w1", 3), TypeError, "the info 3"),
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
        ({"on_max_length": "penalise"}, ValueError, "on_max_length='penalise'"),
        ({"on_world_error": "ignore"}, ValueError, "on_world_error='ignore'"),
        ({"max_turn": 3}, TypeError, "did you mean 'max_turns'"),
        ({"num_envs": 3}, TypeError, "make_vec"),
    ],
)
def test_arguments_that_do_not_fit_are_refused(overrides, error, match):
    with pytest.raises(error, match=match):
        TurnEnv(**arguments(**overrides))


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


def test_a_world_that_raises_at_reset_is_named():
    with pytest.raises(WorldError, match="no such card"):
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


def test_a_world_that_hangs_at_reset_is_an_error():
    env = TurnEnv(**arguments(world=lambda: Scripted(hanging), world_time_limit=0.2))
    with pytest.raises(WorldError, match="took longer"):
        env.reset(seed=0)


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
