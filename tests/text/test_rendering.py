from __future__ import annotations

import io

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.error import ResetNeeded

import llm_gym
from llm_gym import TextGenerationEnv, TextGenerationVectorEnv
from tests.text.helpers import EOS, Recorder, arguments, byte_tokenizer, word


def test_frames_of_an_episode():
    """The text so far, the newest token marked, and at the end the score and its parts."""
    env = TextGenerationEnv(**arguments(render_mode="ansi"))
    env.reset(options={"prompt": "w1 w2"})
    frames = [env.render()]
    for action in (word(7), word(8), EOS):
        env.step(action)
        frames.append(env.render())
    assert frames == [
        "prompt    | w1 w2\ncompletion| \ntokens    | 0 of 5\n",
        "prompt    | w1 w2\ncompletion| «w7»\ntokens    | 1 of 5\n",
        "prompt    | w1 w2\ncompletion| w7« w8»\ntokens    | 2 of 5\n",
        "prompt    | w1 w2\ncompletion| w7 w8« <eos>»\n"
        "end       | eos after 3 tokens, score 2.5 (words 2, letters 5)\n",
    ]


@pytest.mark.parametrize(
    ("options", "end"),
    [
        ({"on_max_length": "truncate"}, "truncated unscored, reward 0"),
        ({"on_max_length": "penalise"}, "terminated unscored, reward -1"),
    ],
)
def test_end_without_a_score(options, end):
    env = TextGenerationEnv(**arguments(render_mode="ansi", max_new_tokens=1, **options))
    env.reset()
    env.step(word(1))
    assert env.render().endswith(f"length after 1 tokens, {end}\n")


def test_end_with_a_scorer_error():
    env = TextGenerationEnv(
        **arguments(
            render_mode="ansi",
            scorer=lambda prompts, completions: [None],
            on_scorer_error="penalise",
        )
    )
    env.reset()
    env.step(EOS)
    assert "reward 0: scorer" in env.render()


def test_control_characters_are_escaped_and_lines_indented():
    """What a model writes cannot steer the reader's terminal."""
    tokenizer = byte_tokenizer()
    env = TextGenerationEnv(
        tokenizer, ["a\x1b[2J\u202eb\u2028\nc"], Recorder(), max_new_tokens=9, render_mode="ansi"
    )
    env.reset()
    for token in tokenizer.encode("\x07\n\té"):
        env.step(token)
    assert env.render() == (
        "prompt    | a\\x1b[2J\\u202eb\\u2028\n          | c\n"
        "completion| \\x07\n          | \\t«é»\n"
        "tokens    | 5 of 9\n"
    )


def test_human_mode_prints_every_step(capsys):
    env = TextGenerationEnv(**arguments(render_mode="human"))
    env.reset(options={"prompt": "w1"})
    env.step(word(2))
    assert env.render() is None
    printed = capsys.readouterr().out
    assert printed.count("prompt    | w1") == 2
    assert "completion| «w2»" in printed


def test_human_mode_does_not_fail_on_a_narrow_encoding(monkeypatch):
    written = io.BytesIO()
    monkeypatch.setattr("sys.stdout", io.TextIOWrapper(written, encoding="ascii"))
    env = TextGenerationEnv(**arguments(render_mode="human", prompts=["w1 é"]))
    env.reset()
    assert rb"w1 \xe9" in written.getvalue()


def test_render_without_a_mode_warns():
    env = TextGenerationEnv(**arguments())
    env.reset()
    with pytest.warns(UserWarning, match="render_mode='ansi'"):
        assert env.render() is None


def test_render_before_reset():
    env = TextGenerationEnv(**arguments(render_mode="ansi"))
    with pytest.raises(ResetNeeded, match="reset"):
        env.render()


def test_vector_gives_a_frame_a_row():
    env = gym.make_vec("llm_gym/TextGeneration-v0", 2, render_mode="ansi", **arguments())
    env.reset(options={"prompt": ["w1", "w2"]})
    env.step(np.array([word(5), EOS]))
    first, second = env.render()
    assert "«w5»" in first
    assert "eos after 1 tokens" in second


@pytest.mark.parametrize("mode", ["NextStep", "SameStep"])
def test_vector_human_mode_shows_scores(mode, capsys):
    env = TextGenerationVectorEnv(
        **arguments(), num_envs=2, render_mode="human", autoreset_mode=mode
    )
    env.reset(seed=0)
    env.step(np.array([word(5), EOS]))
    printed = capsys.readouterr().out
    assert printed.count("row 1\n") >= 2
    assert "score 0.5" in printed


def test_films_of_one_text_and_of_many_run_at_the_same_speed():
    kinds = llm_gym.TextGenerationEnv, llm_gym.TextGenerationVectorEnv, llm_gym.TurnVectorEnv
    assert {kind.metadata["render_fps"] for kind in kinds} == {10}
