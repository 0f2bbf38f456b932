"""`render_mode="rgb_array"`: a picture of a fixed size, whatever is in it."""

from __future__ import annotations

import sys

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.error import DependencyNotInstalled, ResetNeeded

from llm_gym import TextGenerationEnv, TextGenerationVectorEnv
from tests.text.helpers import EOS, Recorder, arguments, byte_tokenizer, word

SHAPE = (540, 960, 3)
MARK = (255, 214, 102)  # behind the newest token
BLUE = (47, 95, 208)  # the score and the bar


def count(picture, colour):
    return int((picture == np.array(colour, dtype=np.uint8)).all(-1).sum())


@pytest.fixture
def pillow():
    return pytest.importorskip("PIL")


def make(**overrides):
    return TextGenerationEnv(**arguments(render_mode="rgb_array", **overrides))


def test_every_frame_has_the_same_size_and_shows_what_is_new(pillow):
    env = make()
    env.reset(options={"prompt": "w1 w2"})
    pictures = [env.render()]
    for action in (word(7), word(8), EOS):
        env.step(action)
        pictures.append(env.render())
    assert {(picture.shape, picture.dtype) for picture in pictures} == {(SHAPE, np.dtype("uint8"))}
    assert [count(picture, MARK) > 0 for picture in pictures] == [False, True, True, True]
    bars = [count(picture[452:456], BLUE) for picture in pictures]
    assert bars == sorted(bars)  # the bar grows
    assert count(pictures[-1][460:], BLUE) > 0  # and at the end there is a score
    assert count(pictures[-2][460:], BLUE) == 0


def test_a_probability_is_shown_where_the_agent_said_one(pillow):
    first, second = make(), make()
    for env in (first, second):
        env.reset(seed=0)
    first.note_probability(0.25)
    for env in (first, second):
        env.step(word(3))
    assert not np.array_equal(first.render(), second.render())
    for env in (first, second):
        env.step(word(4))
    assert np.array_equal(first.render(), second.render())  # it was that of one token


def test_ansi_frames_say_the_probability_too():
    env = TextGenerationEnv(**arguments(render_mode="ansi"))
    env.reset(seed=0)
    env.note_probability(0.25)
    env.step(word(3))
    assert env.render().endswith("tokens    | 1 of 5, p = 0.25\n")


@pytest.mark.parametrize("value", [-0.1, 1.5, float("nan"), "often", [0.1, 0.2]])
def test_what_is_no_probability_is_refused(value):
    env = TextGenerationEnv(**arguments())
    env.reset(seed=0)
    with pytest.raises(ValueError, match="probability="):
        env.note_probability(value)


@pytest.mark.parametrize(
    "prompt",
    ["", "x" * 3000, "a b " * 900, "\n" * 60, "\x1b[2J\u202e日本語 😀 é \ud800", "tab\there\r\n"],
)
def test_any_text_fits(pillow, prompt):
    """Long, unbroken, empty, invisible and foreign texts give a picture of the same size."""
    tokenizer = byte_tokenizer()
    env = TextGenerationEnv(
        tokenizer,
        [prompt.encode("utf-8", "replace").decode() or "-"],
        Recorder(),
        max_new_tokens=600,
        render_mode="rgb_array",
    )
    env.reset()
    for token in tokenizer.encode(prompt.encode("utf-8", "replace").decode()[:590]):
        if env._episodes.running[0]:
            env.step(token)
    assert env.render().shape == SHAPE


def test_a_token_that_is_only_a_line_end_is_seen(pillow):
    tokenizer = byte_tokenizer()
    env = TextGenerationEnv(tokenizer, ["a"], Recorder(), max_new_tokens=9, render_mode="rgb_array")
    env.reset()
    env.step(tokenizer.encode("\n")[0])
    assert count(env.render(), MARK) > 0


def test_without_pillow_only_render_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "PIL", None)
    env = make()
    env.reset()
    with pytest.raises(DependencyNotInstalled, match=r"pip install 'llm-gym\[render\]'"):
        env.render()


def test_render_before_reset(pillow):
    with pytest.raises(ResetNeeded, match="reset"):
        make().render()


@pytest.mark.parametrize("mode", ["NextStep", "SameStep", "Disabled"])
def test_a_row_that_has_just_ended_shows_its_score(pillow, mode):
    env = TextGenerationVectorEnv(
        **arguments(), num_envs=2, render_mode="rgb_array", autoreset_mode=mode
    )
    env.reset(seed=0)
    env.step(np.array([word(5), EOS]))
    running, ended = env.render()
    assert running.shape == ended.shape == SHAPE
    assert count(running[460:], BLUE) == 0
    assert count(ended[460:], BLUE) > 0
    if mode == "SameStep":
        env.step(np.array([word(5), word(6)]))
        assert all(count(picture[460:], BLUE) == 0 for picture in env.render())


def test_record_video_films_an_episode(pillow, tmp_path):
    pytest.importorskip("moviepy")
    env = gym.make("llm_gym/TextGeneration-v0", render_mode="rgb_array", **arguments())
    env = gym.wrappers.RecordVideo(env, str(tmp_path), disable_logger=True)
    env.reset(seed=0)
    for action in (word(1), word(2), EOS):
        env.step(action)
    env.close()
    (film,) = tmp_path.glob("*.mp4")
    assert film.stat().st_size > 1000


def test_human_rendering_takes_the_pictures(pillow, monkeypatch):
    pytest.importorskip("pygame")
    monkeypatch.setenv("SDL_VIDEODRIVER", "dummy")
    env = gym.make("llm_gym/TextGeneration-v0", render_mode="rgb_array", **arguments())
    env = gym.wrappers.HumanRendering(env)
    env.reset(seed=0)
    env.step(word(1))
    assert env.screen_size == SHAPE[1::-1]
    env.close()


def test_frames_are_collected(pillow):
    env = gym.make("llm_gym/TextGeneration-v0", render_mode="rgb_array_list", **arguments())
    env.reset(seed=0)
    env.step(word(1))
    assert [frame.shape for frame in env.render()] == [SHAPE, SHAPE]
