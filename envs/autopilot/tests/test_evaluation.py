"""Evaluations: each episode once, the same in both simulators, honest about what is missing."""

import json
import math

import gymnasium as gym
import numpy as np
import pytest
from llm_gym_autopilot.evaluation import evaluate_pilot, flight_table, main
from llm_gym_autopilot.pilots import PIDPilot, TrimPilot, load_pilot
from llm_gym_autopilot.single import AutopilotEnv


def fly_alone(pilot, seed, turbulence, name="Autopilot"):
    """Return, steps and final info of one episode of the single environment."""
    env = gym.make(f"llm_gym/{name}-v0", turbulence=turbulence)
    observation, _ = env.reset(seed=seed)
    total, steps, state, done = 0.0, 0, None, False
    start = np.ones(1, bool)
    while not done:
        action, state = pilot.predict(observation, state, start, deterministic=True)
        start = np.zeros(1, bool)
        observation, reward, terminated, truncated, info = env.step(action)
        total, steps, done = total + reward, steps + 1, terminated or truncated
    return total, steps, info


class Diver(TrimPilot):
    """Trims, but pushes the stick from the 20th step on in every second aeroplane."""

    def predict(self, observation, state=None, episode_start=None, deterministic=True):
        action, _ = super().predict(observation)
        count = np.zeros(len(observation), int) if state is None else state[0]
        count = np.where(episode_start, 0, count) + 1
        push = (count > 20) & (np.arange(len(observation)) % 2 == 1)
        action[push, 0] = -1.0
        return action, (count,)


class Clicker:
    """Never clicks."""

    discrete = True

    def predict(self, observation, state=None, episode_start=None, deterministic=True):
        return np.full(np.shape(observation)[:-1], 4), None


def test_every_episode_is_the_single_environments():
    evaluation = evaluate_pilot("pid", turbulence="mixed", episodes=5, seed=70)
    for row in range(5):
        total, steps, info = fly_alone(PIDPilot(), 70 + row, "mixed")
        assert evaluation.measures["return"][row] == pytest.approx(total, abs=1e-3)
        assert evaluation.measures["steps"][row] == steps
        assert evaluation.measures["success"][row] == info["is_success"]
        assert evaluation.causes[row] == info["cause"]


@pytest.mark.parametrize("name", ["tuned-rule", "trim", "rule", "random"])
def test_success_and_causes_are_those_of_the_environment(name):
    evaluation = evaluate_pilot(name, turbulence="moderate", episodes=40, seed=0)
    assert evaluation.episodes == 40
    if name == "random":
        return  # draws by row; the others do not
    for row in range(0, 40, 5):
        total, _, info = fly_alone(load_pilot(name), row, "moderate")
        assert evaluation.measures["success"][row] == info["is_success"]
        assert evaluation.causes[row] == info["cause"]
        assert evaluation.measures["return"][row] == pytest.approx(total, abs=1e-2)


def test_flights_behind_an_early_end_do_not_count():
    evaluation = evaluate_pilot(Diver(), turbulence="none", episodes=6, seed=3)
    assert [cause is None for cause in evaluation.causes] == [True, False] * 3
    early = np.array([False, True] * 3)
    assert (evaluation.measures["steps"][early] < 60).all()
    assert (evaluation.measures["steps"][~early] == 300).all()
    assert (evaluation.measures["return"][early] <= evaluation.measures["steps"][early]).all()
    assert np.isnan(evaluation.measures["altitude_rms_m"][early]).all()
    assert evaluation.means["altitude_rms_m"].episodes == 3
    assert not evaluation.measures["success"][early].any()


def test_measures_are_those_of_the_instruments():
    evaluation = evaluate_pilot(PIDPilot(), turbulence="light", episodes=1, seed=8, name="mine")
    env = AutopilotEnv(turbulence="light")
    observation, info = env.reset(seed=8)
    pilot, state = PIDPilot(), None
    elevator, altitude = [info["elevator_deg"]], []
    for _ in range(300):
        action, state = pilot.predict(observation, state)
        observation, *_, info = env.step(action)
        elevator.append(info["elevator_deg"])
        altitude.append(info["altitude_error_m"])
    moved = np.mean(np.abs(np.diff(elevator)))
    assert evaluation.pilot == "mine"
    assert evaluation.measures["elevator_deg_per_step"][0] == pytest.approx(moved, rel=1e-3)
    rms = math.sqrt(np.mean(np.square(altitude[-150:])))
    assert evaluation.measures["altitude_rms_m"][0] == pytest.approx(rms, rel=1e-3)


def test_means_lie_in_their_intervals_and_repeat_themselves():
    evaluation, again = (evaluate_pilot("trim", episodes=30, seed=1) for _ in range(2))
    assert evaluation.means == again.means
    mean, low, high, episodes = evaluation.means["return"]
    assert low < mean < high
    assert mean == pytest.approx(evaluation.measures["return"].mean())
    assert mean == evaluation.mean_return
    # The bootstrap of a mean has nearly the width of the normal interval.
    width = 2 * 1.96 * evaluation.measures["return"].std() / math.sqrt(episodes)
    assert high - low == pytest.approx(width, rel=0.2)


def test_to_dict_is_json_and_has_nothing_that_is_not():
    evaluation = evaluate_pilot("random", turbulence="none", episodes=4, seed=2)
    told = json.loads(json.dumps(evaluation.to_dict(), allow_nan=False))
    assert told["pilot"] == "random"
    assert told["episodes"] == 4
    assert told["measures"]["return"] == evaluation.measures["return"].tolist()
    assert None in told["measures"]["settling_time_s"]
    assert sum(told["causes"].values()) == sum(cause is not None for cause in evaluation.causes)
    assert "measures" not in evaluation.to_dict(per_episode=False)


def test_a_table_has_a_line_an_evaluation_and_a_dash_for_what_is_missing():
    lines = flight_table(
        [
            evaluate_pilot("pid", turbulence="none", episodes=3, seed=0),
            evaluate_pilot(Diver(), turbulence="none", episodes=2, seed=0, name="a longer name"),
        ]
    ).splitlines()
    assert len(lines) == 3
    assert lines[0].split()[:3] == ["pilot", "flown", "in"]
    assert "toy navion" in lines[1]
    assert lines[1].index("toy") == lines[2].index("toy") == lines[0].index("flown")
    assert "100 [44, 100]" in lines[1]


def test_pilots_of_clicks_fly_the_discrete_environment():
    clicks = evaluate_pilot(Clicker(), turbulence="none", episodes=3, seed=0)
    assert (clicks.measures["elevator_deg_per_step"] == 0.0).all()
    assert (clicks.measures["throttle_per_step"] == 0.0).all()


@pytest.mark.parametrize("name", ["Autopilot", "AutopilotDiscrete"])
def test_models_of_stable_baselines3_fly_as_they_are(name):
    sb3 = pytest.importorskip("stable_baselines3")
    model = sb3.PPO("MlpPolicy", gym.make(f"llm_gym/{name}-v0"), device="cpu", seed=0)
    evaluation = evaluate_pilot(model, turbulence="none", episodes=2, seed=0)
    assert evaluation.pilot == "PPO"
    total, _, _ = fly_alone(model, 0, "none", name)
    assert evaluation.measures["return"][0] == pytest.approx(total, abs=0.1)


def test_jsbsim_flies_the_same_episodes_nearly_alike():
    pytest.importorskip("jsbsim")
    toy, real = (
        evaluate_pilot("pid", env=env, turbulence="light", episodes=2, seed=9)
        for env in ("toy", "jsbsim")
    )
    np.testing.assert_allclose(real.measures["return"], toy.measures["return"], rtol=0.005)
    np.testing.assert_allclose(
        real.measures["altitude_rms_m"], toy.measures["altitude_rms_m"], atol=0.3
    )
    assert real.causes == toy.causes


def test_the_cessna_flies_in_jsbsim_only():
    pytest.importorskip("jsbsim")
    evaluation = evaluate_pilot(
        "pid", env="jsbsim", aircraft="c172p", turbulence="none", episodes=1, seed=0
    )
    assert evaluation.success_rate == 1.0
    with pytest.raises(ValueError, match="aircraft='c172p'"):
        evaluate_pilot("pid", aircraft="c172p", episodes=1)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"pilot": "pid", "env": "xplane"}, "env='xplane' must be one of toy, jsbsim"),
        ({"pilot": "pid", "episodes": 0}, "episodes must be a positive integer, got 0"),
        ({"pilot": "pid", "seed": -1}, "seed must not be negative"),
        ({"pilot": "pid", "turbulence": "wild"}, "turbulence='wild'"),
        ({"pilot": "icarus"}, "'icarus' must be one of"),
    ],
)
def test_what_cannot_be_evaluated_is_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        evaluate_pilot(**arguments)


def test_the_command_prints_the_table(capsys):
    arguments = ["pid", "trim", "--turbulence", "none", "--episodes", "3", "--seed", "5"]
    assert main(arguments) == 0
    expected = flight_table(
        [evaluate_pilot(name, turbulence="none", episodes=3, seed=5) for name in ("pid", "trim")]
    )
    assert capsys.readouterr().out == expected + "\n"
    with pytest.raises(SystemExit):
        main(["icarus"])
    assert "'icarus' must be one of" in capsys.readouterr().err
