"""What all pilots have in common: the signature of Stable-Baselines3, batches, memory, loading."""

import gymnasium as gym
import numpy as np
import pytest
from llm_gym_autopilot import task
from llm_gym_autopilot.pilots import (
    PILOTS,
    LQRPilot,
    PIDPilot,
    RandomPilot,
    RulePilot,
    TunedRulePilot,
    load_pilot,
)
from llm_gym_autopilot.pilots.protocol import see, to_action
from llm_gym_autopilot.single import AutopilotEnv
from llm_gym_autopilot.vector import AutopilotVectorEnv

NUMPY_PILOTS = [name for name in PILOTS if name != "ppo"]


@pytest.fixture(scope="module")
def observations():
    """Fifty random moments of flight, `(50, 11)`."""
    space = gym.spaces.Box(-1.0, 1.0, (50, 11), np.float32, seed=3)
    return space.sample()


def test_an_observation_is_read_back_in_si_units():
    env = AutopilotEnv(turbulence="moderate")
    observation, _ = env.reset(seed=4)
    for _ in range(5):
        observation, *_ = env.step([0.2, 0.3])
    seen = see(observation[None])
    shown = env.telemetry()
    expected = {
        "altitude_error": shown.altitude_error_m,
        "climb": shown.climb_mps,
        "airspeed_error": shown.airspeed_error_mps,
        "airspeed": shown.airspeed_mps,
        "alpha": np.radians(shown.alpha_deg),
        "pitch_rate": np.radians(shown.pitch_rate_dps),
        "pitch": np.radians(shown.pitch_deg),
        "power": shown.power,
        "elevator": np.radians(shown.elevator_deg),
        "throttle": shown.throttle,
        "target_airspeed": shown.target_airspeed_mps,
    }
    assert set(expected) == set(seen._fields)
    for name, value in expected.items():
        np.testing.assert_allclose(getattr(seen, name)[0], value, rtol=1e-6, atol=1e-6)


def test_an_action_gives_the_commands_that_were_meant():
    elevator, throttle = np.array([0.05, -0.17, 0.0]), np.array([0.2, 1.0, 0.5])
    action = to_action(elevator, throttle)
    assert action.dtype == np.float32
    meant = task.commands(action, 0.17)
    np.testing.assert_allclose(meant[0], elevator, atol=1e-7)
    np.testing.assert_allclose(meant[1], throttle, atol=1e-7)
    beyond = to_action(np.array([-9.0, 9.0]), np.array([7.0, -7.0]))
    np.testing.assert_array_equal(beyond, [[1.0, 1.0], [-1.0, -1.0]])


@pytest.mark.parametrize("name", NUMPY_PILOTS)
def test_a_batch_flies_as_its_rows_do(name, observations):
    pilot = load_pilot(name)
    first, state = pilot.predict(observations[:25])
    second, _ = pilot.predict(observations[25:], state)
    assert first.shape == (25, 2)
    assert first.dtype == np.float32
    assert np.abs(first).max() <= 1.0
    rows = range(1) if name == "random" else range(25)  # its first row draws as a single one does
    for row in rows:
        alone, memory = pilot.predict(observations[row])
        assert alone.shape == (2,)
        np.testing.assert_array_equal(alone, first[row])
        alone, _ = pilot.predict(observations[25 + row], memory)
        np.testing.assert_array_equal(alone, second[row])


@pytest.mark.parametrize("name", NUMPY_PILOTS)
def test_episode_start_makes_a_row_forget_and_only_that_row(name, observations):
    pilot = load_pilot(name)
    observations = 0.1 * observations  # near level flight, where no control is at its stop
    _, state = pilot.predict(observations[:3])
    _, state = pilot.predict(observations[3:6], state)
    kept, _ = pilot.predict(observations[6:9], state)
    mixed, _ = pilot.predict(observations[6:9], state, np.array([False, True, False]))
    fresh, _ = pilot.predict(observations[6:9])
    np.testing.assert_array_equal(mixed[[0, 2]], kept[[0, 2]])
    if name in ("pid", "lqr"):
        np.testing.assert_array_equal(mixed[1], fresh[1])
        assert not np.array_equal(mixed[1], kept[1])
    else:  # nothing to forget; the random one goes on with its stream
        np.testing.assert_array_equal(mixed[1], kept[1])


@pytest.mark.parametrize("name", NUMPY_PILOTS)
def test_a_pilot_is_not_changed_by_flying(name, observations):
    pilot = load_pilot(name)
    before = pilot.predict(observations)[0]
    _, state = pilot.predict(observations)
    kept = [array.copy() for array in state]
    pilot.predict(observations[::-1], state)
    np.testing.assert_array_equal(pilot.predict(observations)[0], before)
    for array, copy in zip(state, kept, strict=True):
        np.testing.assert_array_equal(array, copy)
    with pytest.raises(AttributeError):
        pilot.anything = 1


def test_stable_baselines3_evaluates_a_pilot_as_we_do():
    evaluation = pytest.importorskip("stable_baselines3.common.evaluation")
    from stable_baselines3.common.env_util import make_vec_env

    pilot = load_pilot("pid")
    envs = make_vec_env(
        "llm_gym/Autopilot-v0", n_envs=2, seed=5, env_kwargs={"turbulence": "light"}
    )
    returns, lengths = evaluation.evaluate_policy(
        pilot, envs, n_eval_episodes=4, return_episode_rewards=True
    )
    assert lengths == [300] * 4

    env = gym.make("llm_gym/Autopilot-v0", turbulence="light")
    expected = []
    for seed in (5, 6):
        observation, _ = env.reset(seed=seed)
        for episode in range(2):
            if episode:
                observation, _ = env.reset()
            total, done, state = 0.0, False, None
            while not done:
                action, state = pilot.predict(observation, state)
                observation, reward, terminated, truncated, _ = env.step(action)
                total, done = total + float(reward), terminated or truncated
            expected.append(total)
    assert sorted(returns) == pytest.approx(sorted(expected), abs=1e-3)


def test_random_pilots_repeat_themselves_by_seed_and_keep_going(observations):
    def flown(seed):
        pilot, state, actions = RandomPilot(seed=seed), None, []
        for start in (True, False, True):
            starts = np.full(4, start)
            action, state = pilot.predict(observations[:4], state, starts)
            actions.append(action)
        return np.stack(actions)

    np.testing.assert_array_equal(flown(1), flown(1))
    assert not np.array_equal(flown(1), flown(2))
    assert np.unique(flown(1)[:, :, 0]).size == 12  # no two rows, no two steps alike
    many = RandomPilot().predict(np.zeros((4000, 11), np.float32))[0]
    np.testing.assert_allclose(many.mean(axis=0), 0.0, atol=0.05)
    np.testing.assert_allclose(many.var(axis=0), 1 / 3, atol=0.03)


def test_a_pilots_numbers_may_differ_from_row_to_row():
    gains = np.array([0.2, 0.6])
    both = PIDPilot(altitude_p=gains)
    observation = np.zeros((2, 11), np.float32)
    observation[:, 0] = 0.1
    action, state = both.predict(observation)
    action, _ = both.predict(observation, state)
    for row, gain in enumerate(gains):
        alone = PIDPilot(altitude_p=gain)
        _, memory = alone.predict(observation[0])
        np.testing.assert_array_equal(alone.predict(observation[0], memory)[0], action[row])
    assert action[0, 0] != action[1, 0]


def test_load_pilot_makes_each_of_the_listed_and_takes_their_numbers():
    assert [type(load_pilot(name)).__name__.lower() for name in NUMPY_PILOTS] == [
        name.replace("-", "") + "pilot" for name in NUMPY_PILOTS
    ]
    kinds = {
        "rule": RulePilot,
        "tuned-rule": TunedRulePilot,
        "pid": PIDPilot,
        "lqr": LQRPilot,
        "random": RandomPilot,
    }
    for name, kind in kinds.items():
        assert isinstance(load_pilot(name), kind)
    assert load_pilot("pid", climb_limit=5.0).climb_limit == 5.0
    assert load_pilot("lqr", altitude=500.0).altitude == 500.0
    assert load_pilot("random", seed=7) == RandomPilot(7)


def test_load_pilot_refuses_what_it_cannot_or_must_not_load(tmp_path):
    with pytest.raises(ValueError, match=r"tuned-rule.*did you mean 'pid'"):
        load_pilot("pids")
    with pytest.raises(ValueError, match=r"pickled code.*save_network"):
        load_pilot(tmp_path / "model.zip")
    with pytest.raises(FileNotFoundError):
        load_pilot(tmp_path / "nothing.npz")
    with pytest.raises(TypeError, match="wing_span"):
        load_pilot("pid", wing_span=3.0)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: PIDPilot(altitude_p=np.nan), "altitude_p must be finite"),
        (lambda: PIDPilot(speed_filter=0.0), "speed_filter must be positive"),
        (lambda: TunedRulePilot(altitude_time=-1.0), "altitude_time must be positive"),
        (lambda: RulePilot(pitch=np.inf), "pitch must be finite"),
        (lambda: RandomPilot(seed=-1), "seed must not be negative"),
        (lambda: LQRPilot.design(pitch_cost=0.0), "pitch_cost=0.0 must be positive"),
        (lambda: LQRPilot.design(airspeed_band=-1.0), "airspeed_band must be positive"),
    ],
)
def test_numbers_that_cannot_be_flown_with_are_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_numbers_of_a_wrong_type_are_refused():
    with pytest.raises(TypeError, match="climb_p must be a number, got 'much'"):
        PIDPilot(climb_p="much")
    with pytest.raises(TypeError, match="seed must be an integer"):
        RandomPilot(seed=0.5)


def test_shapes_that_do_not_fit_are_refused(observations):
    pilot = load_pilot("pid")
    with pytest.raises(ValueError, match=r"observation must have shape .* got \(4,\)"):
        pilot.predict(np.zeros(4))
    with pytest.raises(ValueError, match=r"got \(1, 2, 11\)"):
        pilot.predict(np.zeros((1, 2, 11)))
    _, state = pilot.predict(observations[:3])
    with pytest.raises(ValueError, match="state is of 3 aeroplanes, observation of 5"):
        pilot.predict(observations[:5], state)
    with pytest.raises(ValueError, match=r"episode_start has shape \(2,\)"):
        pilot.predict(observations[:3], state, np.zeros(2, bool))


def test_the_vector_environment_takes_every_pilots_actions():
    env = AutopilotVectorEnv(3)
    observation, _ = env.reset(seed=0)
    for name in NUMPY_PILOTS:
        action, _ = load_pilot(name).predict(observation)
        assert env.action_space.contains(action), name
        env.step(action)
