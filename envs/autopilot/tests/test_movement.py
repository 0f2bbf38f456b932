from __future__ import annotations

import gymnasium as gym
import llm_gym_autopilot  # noqa: F401 -- registers the environments
import numpy as np
import pytest
from llm_gym_autopilot.movement import MovementActions, positions

ROWS = 3


def make(**options):
    arguments = {"num_envs": ROWS, "autoreset_mode": "SameStep", "turbulence": "light"}
    env = gym.make_vec("llm_gym/Autopilot-v0", **{**arguments, **options.pop("env", {})})
    return MovementActions(env, **options)


def commands(env):
    seen = env.unwrapped.telemetry()
    return np.stack([seen.elevator_deg, seen.throttle], axis=1)


def test_a_movement_adds_to_where_the_controls_are():
    env = make(largest=(0.5, 0.6))
    env.reset(seed=0)
    before = commands(env)
    env.step(np.tile([0.2, -0.1], (ROWS, 1)))
    moved = commands(env) - before
    # A stick of 1 is 0.17 rad nose up; a lever's way from -1 to 1 is all of the throttle.
    np.testing.assert_allclose(moved[:, 0], -np.degrees(0.17) * 0.5 * 0.2, atol=1e-5)
    np.testing.assert_allclose(moved[:, 1], -0.6 * 0.1 / 2, atol=1e-6)


def test_no_movement_leaves_the_controls_for_long():
    env = make()
    env.reset(seed=0)
    before = commands(env)
    for _ in range(50):
        env.step(np.zeros((ROWS, 2)))
    np.testing.assert_allclose(commands(env), before, atol=1e-4)


def test_controls_stop_at_their_stops():
    seen = np.zeros(11, dtype=np.float32)
    seen[9] = 0.9
    controls = positions(seen, np.array([3.0, 1.0]), (2.0, 0.6))
    assert controls.dtype == np.float32
    np.testing.assert_array_equal(controls, [1.0, 1.0])
    controls = positions(seen, np.array([3.0, -1.0]), (0.5, 0.6))
    np.testing.assert_allclose(controls, [0.5, 0.3], atol=1e-6)


def test_rows_start_from_their_own_controls_after_an_episode():
    env = make(env={"max_episode_steps": 3})
    env.reset(seed=0)
    for _ in range(3):
        *_, truncated, _ = env.step(np.full((ROWS, 2), 0.5))
    assert truncated.all()
    before = commands(env)
    env.step(np.zeros((ROWS, 2)))
    np.testing.assert_allclose(commands(env), before, atol=1e-5)


def test_rigging_shifts_what_is_seen_and_not_what_is_flown():
    plain, rigged = make(), make(rigging=(0.4, 0.3))
    seen, _ = plain.reset(seed=0)
    shown, _ = rigged.reset(seed=0)
    shift = shown - seen
    np.testing.assert_allclose(shift[:, 7], shift[:, 9], atol=1e-6)
    assert (np.abs(shift[:, 8]) <= 0.4).all()
    assert (np.abs(shift[:, 9]) <= 0.3).all()
    assert len(np.unique(shift[:, 8])) == len(np.unique(shift[:, 9])) == ROWS
    unshifted = [0, 1, 2, 3, 4, 5, 6, 10]
    np.testing.assert_array_equal(shown[:, unshifted], seen[:, unshifted])
    for _ in range(5):
        moves = np.full((ROWS, 2), 0.1)
        seen, *_ = plain.step(moves)
        shown, *_ = rigged.step(moves)
        np.testing.assert_allclose(shown - seen, shift, atol=1e-5)


def test_rigging_is_new_with_the_episode_and_old_in_its_last_observation():
    env = make(env={"max_episode_steps": 2}, rigging=(0.4, 0.3))
    plain = make(env={"max_episode_steps": 2})
    shift = env.reset(seed=0)[0] - plain.reset(seed=0)[0]
    zero = np.zeros((ROWS, 2))
    for _ in range(2):
        shown, *_, info = env.step(zero)
        seen, *_, plain_info = plain.step(zero)
    last = np.stack(info["final_obs"]) - np.stack(plain_info["final_obs"])
    np.testing.assert_allclose(last, shift, atol=1e-5)
    assert (np.abs((shown - seen)[:, 8] - shift[:, 8]) > 1e-3).all()


def test_rigging_repeats_with_the_seed():
    env, same, reseeded = make(rigging=(1, 1)), make(rigging=(1, 1)), make(rigging=(1, 1))
    first, second, third = env.reset(seed=5)[0], same.reset(seed=5)[0], reseeded.reset(seed=6)[0]
    np.testing.assert_array_equal(first, second)
    assert (first != third).any()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"largest": (0, 1)}, r"largest=\(0, 1\) must be two numbers, above 0 and at most 2"),
        ({"largest": (1,)}, "largest"),
        ({"rigging": (-1, 0)}, r"rigging=\(-1, 0\) must be two numbers from 0 to 2"),
        ({"env": {"autoreset_mode": "NextStep"}}, "autoreset_mode='SameStep'"),
    ],
)
def test_mistakes_are_named(arguments, message):
    with pytest.raises(ValueError, match=message):
        make(**arguments)


def test_clicks_are_no_movements():
    env = gym.make_vec("llm_gym/AutopilotDiscrete-v0", num_envs=2, autoreset_mode="SameStep")
    with pytest.raises(ValueError, match="its actions are Discrete"):
        MovementActions(env)
