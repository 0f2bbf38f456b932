"""Templates and texts at the edge of what an increment can say."""

from __future__ import annotations

import re

import pytest

from tests.chat_tokenizers import CHATML, byte_tokenizer
from tests.turns.test_turn_format import turn_env
from tests.turns.worlds import Scripted


@pytest.mark.parametrize("number", ["loop.index", "100 - loop.index"])
def test_a_third_question_must_be_shown_as_the_second_one(number):
    counted = CHATML.replace("{{ m['role'] }}", f"{{{{ m['role'] }}}} {{{{ {number} }}}}")
    with pytest.raises(ValueError, match="a third question otherwise"):
        turn_env(byte_tokenizer(counted), Scripted())


def test_a_third_question_must_be_shown():
    first = CHATML.replace("in messages", "in messages[:3]")
    with pytest.raises(ValueError, match="a third question otherwise"):
        turn_env(byte_tokenizer(first), Scripted())


def test_an_end_of_turn_that_is_added_and_in_the_template_stays_a_control_token():
    tokenizer = byte_tokenizer(CHATML.replace("<|im_end|>", "<end>"))
    tokenizer.add_tokens(["<end>"])
    (control,) = tokenizer("<end>", add_special_tokens=False)["input_ids"]
    assert control > 256
    world = Scripted("say <end>", [("say <end>", 0.0, False, False, {})])
    env = turn_env(tokenizer, world, eos_token_id=[control])
    ids = env.reset(seed=0)[0]["input_ids"]
    assert (ids == control).sum() == 1  # behind the question
    ids = env.step(control)[0]["input_ids"]
    # The agent's own is not written again; one is behind the second question.
    assert (ids == control).sum() == 3


def test_a_text_that_can_only_be_written_with_a_control_token_is_shown_short():
    tokenizer = byte_tokenizer(CHATML)
    (control,) = tokenizer("c", add_special_tokens=False)["input_ids"]
    text = "x" * 79 + "yzc"
    shown = re.escape(f"the world's text {'x' * 79 + 'y'!r} only with ['c'], which")
    with pytest.raises(ValueError, match=shown):
        turn_env(tokenizer, Scripted(text), eos_token_id=[control]).reset(seed=0)
