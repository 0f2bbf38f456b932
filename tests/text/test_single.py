from __future__ import annotations

import numpy as np
import pytest
from gymnasium.error import ResetNeeded

from llm_gym import TextGenerationEnv, TextGenerationVectorEnv
from tests.text.helpers import (
    EOS,
    PAD,
    Recorder,
    SpyTokenizer,
    arguments,
    byte_tokenizer,
    word,
    word_tokenizer,
)


def play(env: TextGenerationEnv, actions, **reset):
    """Resets, takes the actions and returns the last step."""
    env.reset(**reset)
    step = None
    for action in actions:
        step = env.step(action)
    return step


def test_observation_is_the_padded_prompt_and_then_the_actions():
    env = TextGenerationEnv(**arguments(max_new_tokens=3))
    observation, info = env.reset(options={"prompt": "w4 w5"})
    assert info == {"prompt": "w4 w5", "prompt_index": -1}
    assert observation["input_ids"].tolist() == [word(4), word(5), PAD, PAD, PAD, PAD, PAD]
    assert observation["attention_mask"].tolist() == [1, 1, 0, 0, 0, 0, 0]
    assert observation["completion_mask"].tolist() == [0, 0, 0, 0, 0, 0, 0]
    env.step(word(7))
    observation, reward, terminated, truncated, info = env.step(PAD)
    assert observation["input_ids"].tolist() == [word(4), word(5), word(7), PAD, PAD, PAD, PAD]
    assert observation["attention_mask"].tolist() == [1, 1, 1, 1, 0, 0, 0]
    assert observation["completion_mask"].tolist() == [0, 0, 1, 1, 0, 0, 0]
    assert (reward, terminated, truncated, info) == (0.0, False, False, {})


def test_eos_ends_the_episode_with_the_score():
    env = TextGenerationEnv(**arguments())
    *_, reward, terminated, truncated, info = play(env, [word(7), word(8), EOS])
    assert (reward, terminated, truncated) == (2.5, True, False)
    assert info == {
        "prompt": info["prompt"],
        "completion": "w7 w8",
        "stop_reason": "eos",
        "score": 2.5,
        "score_parts": {"words": 2.0, "letters": 5.0},
    }


@pytest.mark.parametrize("ids", [9, [9, 11], (11,), np.int64(9)])
def test_custom_eos_ids_replace_that_of_the_tokenizer(ids):
    last = 11 if ids == (11,) else 9
    env = TextGenerationEnv(**arguments(eos_token_id=ids))
    *_, terminated, _, info = play(env, [EOS, word(0), last])
    assert terminated
    assert (info["completion"], info["stop_reason"]) == ("w0", "eos")


def test_without_eos_ids_only_the_length_ends_an_episode():
    env = TextGenerationEnv(**arguments(eos_token_id=(), max_new_tokens=2))
    *_, terminated, _, info = play(env, [EOS, EOS])
    assert terminated
    assert info["stop_reason"] == "length"


@pytest.mark.parametrize(
    ("mode", "reward", "terminated", "truncated", "scored"),
    [
        ("terminate", 2.5, True, False, True),
        ("truncate", 0.0, False, True, False),
        ("penalise", -3.0, True, False, False),
    ],
)
def test_length_budget(mode, reward, terminated, truncated, scored):
    """An episode is never both scored and truncated; a penalty does not consult the scorer."""
    scorer = Recorder()
    env = TextGenerationEnv(
        **arguments(scorer=scorer, on_max_length=mode, missing_eos_penalty=-3.0, max_new_tokens=2)
    )
    step = play(env, [word(1), word(2)])
    assert step[1:4] == (reward, terminated, truncated)
    assert ("score" in step[4]) is scored
    assert len(scorer.batches) == scored
    assert (step[4]["completion"], step[4]["stop_reason"]) == ("w1 w2", "length")


@pytest.mark.parametrize("mode", ["terminate", "truncate", "penalise"])
def test_eos_on_the_last_token_of_the_budget_is_eos(mode):
    env = TextGenerationEnv(**arguments(on_max_length=mode, max_new_tokens=2))
    step = play(env, [word(1), EOS])
    assert step[1:4] == (1.5, True, False)
    assert step[4]["stop_reason"] == "eos"


def test_pad_may_equal_eos_and_eos_may_stand_in_the_prompt():
    """Masks, never ids, say what is padding and what has ended."""
    env = TextGenerationEnv(**arguments(prompts=["w1 <eos> w2"], pad_token_id=EOS))
    observation, _ = env.reset()
    assert observation["input_ids"][:4].tolist() == [word(1), EOS, word(2), EOS]
    assert observation["attention_mask"][:4].tolist() == [1, 1, 1, 0]
    *_, terminated, _, info = env.step(word(3))
    assert not terminated
    observation, _, terminated, _, info = env.step(EOS)
    assert terminated
    assert info["completion"] == "w3"
    assert observation["attention_mask"].sum() == 5


def test_environment_never_encodes_what_the_agent_wrote():
    """The state is exactly the prompt's ids and the actions, however they decode."""
    tokenizer = SpyTokenizer(byte_tokenizer())
    env = TextGenerationEnv(
        tokenizer, ["ab", "c"], Recorder(), max_new_tokens=8, render_mode="ansi"
    )
    rng = np.random.default_rng(0)
    for episode in range(4):
        observation, _ = env.reset(seed=episode)
        start = int(observation["attention_mask"].sum())
        actions = rng.integers(1, env.action_space.n, size=8)
        for action in actions:
            observation, *_ = env.step(action)
            env.render()
        assert observation["input_ids"][start : start + 8].tolist() == actions.tolist()
    assert sorted(tokenizer.encoded) == ["ab", "c"]


def test_ids_beyond_the_tokenizer_are_actions_without_text():
    """A model's table may be larger than its tokenizer's vocabulary."""
    env = TextGenerationEnv(**arguments(vocab_size=40))
    assert env.action_space.n == 40
    *_, info = play(env, [39, word(1), EOS])
    assert info["completion"] == "w1"


def test_prompts_are_the_scorers_raw_prompts_with_their_columns():
    scorer = Recorder()
    rows = [{"prompt": "w1", "answer": "w5"}, {"prompt": "w2"}]
    env = TextGenerationEnv(
        **arguments(scorer=scorer, prompts=rows, prompt_template="w9 {prompt} w9")
    )
    observation, info = env.reset(options={"prompt_index": 0})
    assert info == {"prompt": "w1", "prompt_index": 0}
    assert observation["input_ids"][:3].tolist() == [word(9), word(1), word(9)]
    env.step(EOS)
    play(env, [EOS], options={"prompt_index": 1})
    play(env, [EOS], options={"prompt": {"prompt": "w3", "answer": 7}})
    assert [batch[0] for batch in scorer.batches] == [["w1"], ["w2"], ["w3"]]
    answers = [batch[2] for batch in scorer.batches]
    assert answers == [{"answer": ["w5"]}, {"answer": [None]}, {"answer": [7]}]


def test_prompts_given_at_reset_leave_the_walk_where_it_is():
    env = TextGenerationEnv(**arguments(prompt_order="sequential"))
    indices = [env.reset()[1]["prompt_index"]]
    env.reset(options={"prompt": "w1"})
    env.reset(options={"prompt_index": 4})
    indices += [env.reset()[1]["prompt_index"] for _ in range(5)]
    assert indices == [0, 1, 2, 3, 4, 0]


@pytest.mark.parametrize("action", [-1, 32, 10**6])
def test_action_outside_the_vocabulary_is_an_error(action):
    env = TextGenerationEnv(**arguments())
    env.reset()
    with pytest.raises(ValueError, match=rf"action {action}.*32 tokens.*vocab_size"):
        env.step(action)


@pytest.mark.parametrize("action", [1.0, "w1", [1, 2], True, None])
def test_action_that_is_no_integer_is_an_error(action):
    env = TextGenerationEnv(**arguments())
    env.reset()
    with pytest.raises(ValueError, match="not a token id"):
        env.step(action)


def test_refused_action_changes_nothing():
    env = TextGenerationEnv(**arguments())
    before, _ = env.reset()
    with pytest.raises(ValueError, match="outside"):
        env.step(99)
    after, *_ = env.step(word(1))
    assert after["attention_mask"].sum() == before["attention_mask"].sum() + 1


def test_step_needs_a_running_episode():
    env = TextGenerationEnv(**arguments())
    with pytest.raises(ResetNeeded, match="reset"):
        env.step(3)
    play(env, [EOS])
    with pytest.raises(ResetNeeded, match="reset"):
        env.step(3)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"promt": "w1"}, "unknown reset option 'promt'"),
        ({"prompt": "w1", "prompt_index": 1}, "not both"),
        ({"prompt": ""}, "empty"),
        ({"prompt": "w1 w1 w1 w1 w1"}, "5 tokens"),
        ({"prompt_index": 5}, "outside the list of 5"),
        ({"prompt_index": -1}, "outside the list of 5"),
        ({"reset_mask": np.ones(1, bool)}, "unknown reset option"),
    ],
)
def test_bad_reset_options(options, message):
    env = TextGenerationEnv(**arguments())
    with pytest.raises(ValueError, match=message):
        env.reset(options=options)


def test_prompt_option_must_be_text():
    env = TextGenerationEnv(**arguments())
    with pytest.raises(TypeError, match="must be a str, got list"):
        env.reset(options={"prompt": [3, 4]})


@pytest.mark.parametrize("form", [TextGenerationEnv, TextGenerationVectorEnv])
def test_environment_tells_its_limits(form):
    env = form(**arguments(eos_token_id=[1, 9]))
    assert (env.max_new_tokens, env.max_prompt_tokens, env.num_prompts) == (5, 4, 5)
    assert env.on_max_length == "terminate"
    penalising = form(**arguments(on_max_length="penalise"))
    assert penalising.on_max_length == "penalise"
    assert (env.pad_token_id, env.eos_token_ids, len(env.tokenizer)) == (PAD, (1, 9), 32)
    stream = form(**arguments(prompts=iter([]), max_prompt_tokens=7))
    assert (stream.max_prompt_tokens, stream.num_prompts) == (7, None)


def test_completion_keeps_its_spaces():
    """A decoder's "clean-up" would hide from the scorer what the agent wrote."""
    tokenizer = word_tokenizer(["a", "."], clean_up_tokenization_spaces=True)
    env = TextGenerationEnv(tokenizer, ["a"], Recorder(), max_new_tokens=9)
    *_, info = play(env, [1, 2, 0])
    assert tokenizer.decode([1, 2]) == "a."
    assert info["completion"] == "a ."
