"""What a run keeps of a look: the flight as it is flown, with what the critic says of it."""

from __future__ import annotations

import math

import numpy as np
import pytest

sb3 = pytest.importorskip("stable_baselines3")
torch = pytest.importorskip("torch")
flights = pytest.importorskip("llm_gym.runs.flights")

import gymnasium as gym  # noqa: E402
from llm_gym_autopilot.checkpoints import pilots_of_run  # noqa: E402
from llm_gym_autopilot.pilots.network import network_of  # noqa: E402
from llm_gym_autopilot.tracing import critic_values, keep_look, trace_flight  # noqa: E402


def make(algorithm):
    discrete = "Discrete" if algorithm == "DQN" else ""
    few = {} if algorithm == "PPO" else {"buffer_size": 10}
    return getattr(sb3, algorithm)(
        "MlpPolicy",
        gym.make(f"llm_gym/Autopilot{discrete}-v0"),
        policy_kwargs={"net_arch": [8, 8]},
        seed=0,
        device="cpu",
        **few,
    )


@pytest.mark.parametrize("algorithm", ["PPO", "SAC", "DQN"])
def test_values_are_the_critics_own(algorithm):
    model = make(algorithm)
    seen = np.random.default_rng(0).normal(size=(3, 11)).astype(np.float32)
    values = critic_values(model, seen)
    with torch.no_grad():
        one = torch.as_tensor(seen[1:2])
        if algorithm == "PPO":
            wanted = model.policy.predict_values(one)[0, 0]
        elif algorithm == "SAC":
            action = torch.as_tensor(model.policy.predict(seen[1:2], deterministic=True)[0])
            first, second = model.critic(one, action)
            wanted = min(first[0, 0], second[0, 0])
        else:
            action = int(model.predict(seen[1], deterministic=True)[0])
            wanted = model.q_net(one)[0, action]
    assert values.shape == (3,)
    assert values[1] == pytest.approx(float(wanted), abs=1e-5)


def test_another_algorithm_is_refused():
    model = sb3.A2C("MlpPolicy", gym.make("llm_gym/Autopilot-v0"), device="cpu")
    with pytest.raises(TypeError, match="model must be PPO, SAC or DQN"):
        critic_values(model, np.zeros((1, 11), dtype=np.float32))


def test_a_flight_is_what_the_environment_told():
    model = make("PPO")
    flight = trace_flight(model, network_of(model), "moderate", 5)
    env = gym.make("llm_gym/Autopilot-v0", turbulence="moderate")
    observation, info = env.reset(seed=5)
    column, done, moment = flight.columns, False, 0
    while not done:
        action, _ = model.predict(observation, deterministic=True)
        assert column["altitude_m"][moment] == pytest.approx(info["altitude_m"], rel=1e-5)
        observation, reward, terminated, truncated, info = env.step(np.clip(action, -1, 1))
        assert column["reward"][moment] == pytest.approx(reward, abs=1e-4)
        assert column["elevator_deg"][moment] == pytest.approx(info["elevator_deg"], abs=1e-3)
        done, moment = terminated or truncated, moment + 1
    assert {len(values) for values in column.values()} == {moment + 1}
    assert math.isnan(column["reward"][-1])
    assert flight.cause == info["cause"]
    assert flight.target_altitude_m == pytest.approx(info["target_altitude_m"])


def test_a_look_is_a_pilot_and_the_same_flights_every_time(tmp_path):
    model = make("PPO")
    for step in (0, 64):
        model.num_timesteps = step
        keep_look(model, network_of(model), tmp_path, ("none", "moderate"))
    assert list(pilots_of_run(tmp_path, 6, print)) == ["after 0 steps", "after 64 steps"]
    first, second = map(flights.read_flights, flights.flight_files(tmp_path))
    assert (first.step, second.step, second.algorithm) == (0, 64, "PPO")
    assert [flight.name for flight in first.flights] == ["none", "moderate"]
    for one, other in zip(first.flights, second.flights, strict=True):
        np.testing.assert_array_equal(one.columns["altitude_m"], other.columns["altitude_m"])
