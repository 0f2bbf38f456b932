"""A setting that was read from a file or a command line means what a literal does."""

from __future__ import annotations

import numpy as np
import pytest

from llm_gym import TextGenerationEnv, TextGenerationVectorEnv
from llm_gym.scorers import ScorerError
from tests.text.helpers import EOS, arguments, byte_tokenizer, word, word_tokenizer


def as_read(text: str) -> str:
    """An equal text that is no literal: Python has a second object of it."""
    return "".join([*text])


def fails_for_w1(prompts, completions):
    if any("w1" in completion for completion in completions):
        raise KeyError("w1")
    return [1.0] * len(prompts)


def told(**options):
    """All that four episodes say, the error that ends them included."""
    said = []
    try:
        env = TextGenerationEnv(**arguments(max_new_tokens=2) | options)
        for action in word(1), word(2), EOS, word(3):
            said.append(env.reset(seed=4 if not said else None)[1])
            for _ in range(2):
                said.append(env.step(action)[1:])
                if said[-1][1] or said[-1][2]:
                    break
        said.append(env.reset(options={"prompt": "w1 w2 w3 w4 w5"})[1])
    except (ValueError, TypeError, ScorerError) as error:
        said.append((type(error), str(error)))
    return said


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    ("name", "value", "other", "beside"),
    [
        ("prompt_order", "shuffled", "sequential", {}),
        ("too_long", "truncate", "error", {}),
        ("too_long", "drop", "error", {"prompts": ["w1 w2", "w3", "w4", "w5", "w6", "w7"]}),
        ("bad_rows", "skip", "error", {"prompts": [5, "", "w3", "w4", "w5", "w6", "w7"]}),
        ("on_max_length", "terminate", "truncate", {}),
        ("on_max_length", "truncate", "penalise", {}),
        ("on_scorer_error", "raise", "penalise", {"scorer": fails_for_w1}),
        ("scorer_scope", "token", "episode", {}),
    ],
)
def test_a_setting_is_what_it_says_whatever_it_was_read_from(name, value, other, beside):
    def of(setting):
        options = {**beside, name: setting}
        if name in ("too_long", "bad_rows") and "prompts" in beside:
            options |= {"prompts": iter(beside["prompts"]), "max_prompt_tokens": 1}
        return told(**options)

    assert of(as_read(value)) == of(value) != of(other)


@pytest.mark.parametrize("mode", ["human", as_read("human")])
def test_what_people_watch_is_shown_with_every_step(mode, capsys):
    for make, beside in (TextGenerationEnv, {}), (TextGenerationVectorEnv, {"num_envs": 2}):
        env = make(**arguments(render_mode=mode), **beside)
        env.reset(seed=0)
        assert capsys.readouterr().out
        env.step(np.full(beside.get("num_envs", 1), word(1)))
        assert "w1" in capsys.readouterr().out


@pytest.mark.parametrize("index", [True, 1.0, "1", None])
def test_the_number_of_a_prompt_is_a_whole_one(index):
    with pytest.raises(TypeError, match=r"prompt_index=.* must be a whole number"):
        TextGenerationEnv(**arguments()).reset(options={"prompt_index": index})


@pytest.mark.parametrize("action", [[], [1, 1], np.zeros((1, 2), int)])
def test_an_action_is_one_token(action):
    env = TextGenerationEnv(**arguments())
    env.reset(seed=0)
    with pytest.raises(ValueError, match="is not a token id"):
        env.step(np.array(action, dtype=int))


def test_seeds_and_other_settings_are_given_by_name():
    for env in (
        TextGenerationEnv(**arguments()),
        TextGenerationVectorEnv(**arguments(), num_envs=2),
    ):
        with pytest.raises(TypeError, match="positional"):
            env.reset(3)
    with pytest.raises(TypeError, match="positional"):
        env._mdp.vocabulary.decode([1], True)


@pytest.mark.parametrize("size", [3, 4])
def test_an_end_token_that_is_no_action_ends_nothing(size):
    tokenizer = word_tokenizer(["a", "b", "c", "d"])
    tokenizer.eos_token = "c"
    options = arguments(tokenizer=tokenizer, prompts=["a"], vocab_size=size)
    if size == 3:
        with pytest.raises(ValueError, match="no EOS token"):
            TextGenerationEnv(**options)
    else:
        assert TextGenerationEnv(**options).eos_token_ids == (3,)


def test_what_no_text_can_be_made_of_may_be_a_stop_string():
    tokenizer = byte_tokenizer()
    first, _ = tokenizer("é", add_special_tokens=False)["input_ids"]
    env = TextGenerationEnv(
        **arguments(tokenizer=tokenizer, prompts=["a"], stop_strings=["\N{REPLACEMENT CHARACTER}"])
    )
    env.reset(seed=0)
    assert env.step(first)[4]["stop_reason"] == "stop_string"
