from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llm_gym import TextGenerationEnv
from llm_gym.testing.tiny import tiny_tokenizer
from tests.text.helpers import (
    EOS,
    Recorder,
    SpyTokenizer,
    arguments,
    byte_tokenizer,
    word,
    word_tokenizer,
)

BYTES = byte_tokenizer()


def write(env, ids):
    """Takes the actions until the episode ends; returns how many, and the last info."""
    env.reset()
    for number, token in enumerate(ids, start=1):
        *_, terminated, _, info = env.step(token)
        if terminated:
            return number, info
    return None, {}


def byte_env(stop_strings, max_new_tokens=40, **overrides):
    return TextGenerationEnv(
        BYTES,
        ["x"],
        Recorder(),
        stop_strings=stop_strings,
        max_new_tokens=max_new_tokens,
        **overrides,
    )


def test_stop_string_may_span_tokens_and_is_not_part_of_the_completion():
    number, info = write(byte_env(["\nUser:"]), BYTES.encode("Hi there\nUser: no"))
    assert number == len("Hi there\nUser:")
    assert (info["completion"], info["stop_reason"]) == ("Hi there", "stop_string")
    assert info["score"] == 2.5


def test_stop_string_may_end_within_a_token():
    env = TextGenerationEnv(**arguments(stop_strings=["w1 w"]))
    number, info = write(env, [word(1), word(2), word(3)])
    assert (number, info["completion"]) == (2, "")


def test_stop_string_of_several_byte_characters():
    number, info = write(byte_env(["é€"]), BYTES.encode("a é€ b"))
    assert (number, info["completion"]) == (len("a é€".encode()), "a ")


def test_stop_string_in_the_prompt_does_not_count():
    env = TextGenerationEnv(**arguments(prompts=["w1 w2"], stop_strings=["w2 w3", "w1"]))
    number, _ = write(env, [word(3), word(4), word(1)])
    assert number == 3


def test_special_token_may_be_a_stop_string():
    env = TextGenerationEnv(**arguments(eos_token_id=(), stop_strings=["<eos>"]))
    number, info = write(env, [word(5), EOS])
    assert (number, info["completion"], info["stop_reason"]) == (2, "w5", "stop_string")


def test_earliest_stop_string_cuts():
    env = TextGenerationEnv(**arguments(stop_strings=["5", "w5"]))
    _, info = write(env, [word(1), word(5)])
    assert info["completion"] == "w1 "


def test_eos_comes_before_a_stop_string():
    env = TextGenerationEnv(**arguments(stop_strings=["<eos>"]))
    assert write(env, [word(1), EOS])[1]["stop_reason"] == "eos"


def test_stop_string_on_the_last_token_of_the_budget_is_scored():
    env = TextGenerationEnv(
        **arguments(stop_strings=["w2"], max_new_tokens=2, on_max_length="truncate")
    )
    number, info = write(env, [word(1), word(2)])
    assert (number, info["stop_reason"], info["score"]) == (2, "stop_string", 1.5)


@settings(max_examples=80, deadline=None)
@given(
    text=st.text(alphabet="ab é\n", max_size=14),
    stop_strings=st.lists(st.text(alphabet="ab é\n", min_size=1, max_size=3), min_size=1),
)
def test_equal_to_decoding_at_every_step(text, stop_strings):
    """The table of tokens that may complete a stop string skips no step that matters."""
    ids = BYTES.encode(text)
    expected = None
    for number in range(1, len(ids) + 1):
        if any(stop in BYTES.decode(ids[:number]) for stop in stop_strings):
            expected = number
            break
    assert write(byte_env(stop_strings), ids)[0] == expected


def test_completion_is_decoded_only_after_a_token_that_may_complete_a_stop_string():
    tokenizer = SpyTokenizer(tiny_tokenizer())
    decoded = []
    inner = tokenizer.decode
    tokenizer.decode = lambda ids, **keywords: decoded.append(list(ids)) or inner(ids, **keywords)
    env = TextGenerationEnv(**arguments(tokenizer=tokenizer, stop_strings=["w3 w4"]))
    env.reset()
    decoded.clear()
    for token in (word(1), word(4), word(2)):
        env.step(token)
    assert decoded == [[word(1), word(4)]]


@pytest.mark.parametrize("ids", [[200, 201, 202], [195]])
def test_broken_utf8_is_text_like_any_other(ids):
    tokens = [BYTES.convert_tokens_to_ids(BYTES.convert_ids_to_tokens(i)) for i in ids]
    assert write(byte_env(["zz"]), [*tokens, 0])[1]["stop_reason"] == "eos"


def test_table_ignores_ids_beyond_the_tokenizer():
    env = TextGenerationEnv(**arguments(vocab_size=64, stop_strings=["w2"]))
    number, _ = write(env, np.array([60, 61, word(2)]))
    assert number == 3


def test_stop_string_that_ends_in_a_space_the_decoder_strips():
    """SentencePiece drops the space before the first token, but not before the second."""
    tokenizer = word_tokenizer(["▁x", "▁y"], metaspace=True)
    env = TextGenerationEnv(tokenizer, ["x"], Recorder(), stop_strings=["y "], max_new_tokens=9)
    number, info = write(env, [1, 2, 1, 1])
    assert (number, info["completion"]) == (3, " x ")
