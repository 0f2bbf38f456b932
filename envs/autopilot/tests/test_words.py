"""The cockpit in words: lines, answers, the world of turns, and those who fly by it."""

from __future__ import annotations

import gymnasium as gym
import llm_gym_autopilot  # noqa: F401 -- registers
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env
from llm_gym_autopilot import words
from llm_gym_autopilot.evaluation import evaluate_pilot
from llm_gym_autopilot.pilots import SpokenPilot, Translated, load_pilot
from llm_gym_autopilot.pilots.protocol import Sight, observation_of, see
from llm_gym_autopilot.rendering import CockpitFrame
from llm_gym_autopilot.rendering.transcript import legible

import llm_gym
from llm_gym.testing.tiny import save_tiny_model
from llm_gym.text.tasks import make_text_vector_env

SIGHT = Sight(
    *np.array(
        [
            [23.04, -1500.0, 0.0],
            [1.21, -0.04, 0.06],
            [2.1, -12.4, 0.0],
            [54.4, 53.6, 60.0],
            [0.042, -0.01, 0.2],
            [0.054, -0.054, 0.0],
            [0.0105, -0.2, 0.0],
            [0.54, 1.0, 0.0],
            [-0.021, 0.17, 0.0],
            [0.55, 0.0, 1.0],
            [56.5, 41.2, 60.0],
        ]
    )[[0, 1, 2, 3, 4, 6, 5, 7, 8, 9, 10]]
)


def test_lines_are_as_documented():
    assert words.lines_of(observation_of(SIGHT)) == [
        "low 230 climb 12 slow 21 speed 54 attack 24 up 31 raising 6 power 54 back 12 throttle 55",
        "high 1500 climb 0 fast 120 speed 54 counter 6 down 31 lowering 110 power 100 forward 97 "
        "throttle 0",
        "low 0 climb 1 slow 0 speed 60 attack 110 up 0 raising 0 power 0 back 0 throttle 100",
    ]
    assert max(len(line) for line in words.lines_of(observation_of(SIGHT))) <= len(
        words.LONGEST_LINE
    )


def test_a_line_tells_the_observation_to_two_digits():
    told = see(words.read_lines(words.lines_of(observation_of(SIGHT))))
    for name in Sight._fields:
        tolerance = {"airspeed": 0.6, "target_airspeed": 1.2, "altitude_error": 5.0}.get(name, 0.06)
        found, expected = getattr(told, name), getattr(see(observation_of(SIGHT)), name)
        np.testing.assert_allclose(found, expected, atol=tolerance, rtol=0.05, err_msg=name)


@pytest.mark.parametrize(
    "line", ["", "hold", "high 1", words.LONGEST_LINE + " low 1", "slow 1 " * 10, "low x " * 10]
)
def test_other_lines_are_refused(line):
    with pytest.raises(ValueError, match="is no line of instruments"):
        words.read_lines([line])


def test_every_move_is_understood_as_it_is_said():
    moves = [words.Move(back, up) for back in range(-9, 10) for up in range(-9, 10)]
    assert [words.understand(str(move)) for move in moves] == moves
    assert len({str(move) for move in moves}) == len(moves)
    assert str(words.Move(-1, 9)) == "stick forward 1 throttle up 9"


@pytest.mark.parametrize(
    "answer",
    [
        "", " ", "Hold", "hold ", "stick back", "stick back 0", "stick back 10", "stick up 1",
        "throttle back 1", "stick back 1 ", " throttle up 1", "stick back 1throttle up 1",
        "stick back 1, throttle up 1", "throttle up 1 stick back 1", "stick back \u0661", "hold\n",
    ],
)  # fmt: skip
def test_nothing_else_is_understood(answer):
    assert words.understand(answer) is None


def test_moves_come_nearest_to_what_is_wanted_and_move_the_controls_so():
    observation = observation_of(SIGHT)[:1]
    seen = see(observation)
    [move] = words.move_to(observation, words.action_of(observation, [words.Move(3, -2)]))
    assert move == (3, -2)
    wanted = np.array([[1.0, -1.0]])
    assert words.move_to(observation, wanted) == [(9, -9)]
    moved = words.action_of(observation, [words.Move(2, 1)])[0]
    clicks = 2 * words.STICK_CLICK / 0.17
    assert moved[0] == pytest.approx(-seen.elevator[0] / 0.17 + clicks, abs=1e-5)
    assert moved[1] == pytest.approx(2 * (seen.throttle[0] + 0.04) - 1, abs=1e-5)


# ---------------------------------------------------------------------- the world


def test_the_world_flies_as_the_environment_of_numbers_does():
    talk, numbers = gym.make("llm_gym/TextCockpit-v0"), gym.make("llm_gym/Autopilot-v0")
    line, _ = talk.reset(seed=3)
    observation, _ = numbers.reset(seed=3)
    for answer in ("hold", "stick back 2", "throttle down 3", "stick forward 4 throttle up 1"):
        assert line == words.lines_of(observation)[0]
        action = words.action_of(observation[None], [words.understand(answer)])[0]
        line, reward, _, _, info = talk.step(answer)
        observation, expected, *_ = numbers.step(action)
        assert (reward, info["understood"]) == (expected, True)
    elevator = info["elevator_deg"]
    _, reward, _, _, info = talk.step("up!")
    assert (info["understood"], info["elevator_deg"]) == (False, elevator)
    assert reward == numbers.step(action)[1] - 1
    with pytest.raises(TypeError, match="must be a str"):
        talk.step(3)


def test_the_world_is_an_environment_of_gymnasium():
    check_env(gym.make("llm_gym/TextCockpit-v0").unwrapped, skip_render_check=True)
    env = gym.make("llm_gym/TextCockpit-v0", turbulence="none", render_mode="ansi")
    env.reset(seed=0, options={"trimmed": True})
    for step in range(300):
        line, _, terminated, truncated, _ = env.step("hold")
        assert env.observation_space.contains(line)
        assert (terminated, truncated) == (False, step == 299)
    assert env.render().startswith("t 60.0 s")


def test_language_models_learn_in_it(tmp_path):
    model = save_tiny_model(tmp_path / "model", "gpt2", 40, n_positions=200)
    env = make_text_vector_env(
        "llm_gym/Turns-v0",
        num_envs=2,
        autoreset_mode="SameStep",
        tokenizer=model,
        world="llm_gym/TextCockpit-v0",
        max_turns=300,
        turns_in_context=1,
        max_turn_tokens=2,
        context_length=100,
        world_time_limit=None,
    )
    options = {"n_steps": 16, "batch_size": 16, "turn_gamma": 0.98, "kl_coef": 0.0}
    ppo = llm_gym.PPO("TransformerPolicy", env, policy_kwargs={"model": model}, **options)
    ppo.learn(32)
    assert ppo.episodes.rewards.any()
    assert len(ppo.episodes.segments()) >= 16  # a decision each


# ---------------------------------------------------------------------- who flies by words


def test_the_tuned_pid_flies_as_well_by_words():
    pilot = SpokenPilot(Translated(load_pilot("pid")))
    found = evaluate_pilot(pilot, turbulence="light", episodes=30)
    by_numbers = evaluate_pilot("pid", turbulence="light", episodes=30)
    assert found.means["return"].mean > 0.97 * by_numbers.means["return"].mean
    assert pilot.understood[0] == pilot.understood[1] == 30 * 300
    with pytest.raises(ValueError, match="clicks"):
        Translated(type("Clicks", (), {"discrete": True})())


def test_what_is_not_understood_moves_nothing():
    class Mumbles:
        def answer(self, lines, state, episode_start):
            return ["er", "stick back 1"], state

    pilot = SpokenPilot(Mumbles())
    env = gym.make_vec("llm_gym/Autopilot-v0", num_envs=2)
    observation, _ = env.reset(seed=0)
    action, _ = pilot.predict(observation)
    assert words.move_to(observation, action) == [(0, 0), (1, 0)]
    assert pilot.understood.tolist() == [1, 2]


def test_a_language_model_flies_alone_as_in_company(tmp_path):
    pilot = load_pilot(save_tiny_model(tmp_path / "model", "gpt2", 40, n_positions=200))
    observation, _ = gym.make_vec("llm_gym/Autopilot-v0", num_envs=3).reset(seed=0)
    together, _ = pilot.predict(observation)
    said = list(pilot.said)
    for row in range(3):
        alone, _ = pilot.predict(observation[row])
        np.testing.assert_array_equal(alone, together[row])
        assert pilot.said == [said[row]]
    assert any(said)


def test_pictures_have_the_last_words_whatever_they_are():
    from llm_gym_autopilot.rendering.cockpit import Cockpit

    env = gym.make("llm_gym/Autopilot-v0", render_mode="rgb_array")
    env.reset(seed=0)
    frame, cockpit = CockpitFrame.of(env.unwrapped), Cockpit()
    silent = cockpit.draw(frame)
    spoken = cockpit.draw(frame._replace(words=[("low 1", "hold\0\x1b[2J" + 99 * "x")]))
    assert (silent != spoken).any(axis=(1, 2)).nonzero()[0].min() > 320  # below the instruments
    assert legible("hold\0\x1b[2J\u202e") == "hold??[2J?"
    assert len(legible(99 * "x")) == 40
