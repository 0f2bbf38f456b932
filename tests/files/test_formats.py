"""The public formats of rows, each in the readers it is for, and what no row says."""

from __future__ import annotations

import json

import numpy as np
import pytest

from llm_gym.feedback.preferences import Preference, read_preferences
from llm_gym.feedback.preferences.files import read_comparisons
from llm_gym.files.rows import DataWarning
from llm_gym.language_models.chat import PromptFormat
from llm_gym.scorers.texts import messages_of
from llm_gym.supervised.pairs import InstructionPair, encode_pair, read_pairs
from llm_gym.testing.tiny import tiny_tokenizer
from llm_gym.text.prompts import read_prompts

SYSTEM = {"role": "system", "content": "Be kind."}


def user(text):
    return {"role": "user", "content": text}


def assistant(text):
    return {"role": "assistant", "content": text}


TALK = [SYSTEM, user("Hi"), assistant("Hello"), user("Well?")]
TALK_TEXT = "system: Be kind.\n\nuser: Hi\n\nassistant: Hello\n\nuser: Well?"
HH = "\n\nHuman: Hi\n\nAssistant: Hello\n\nHuman: Well?\n\nAssistant:"
HH_TALK = TALK[1:]


def share_gpt(turns):
    names = {"user": "human", "assistant": "gpt", "system": "system"}
    return [{"from": names[turn["role"]], "value": turn["content"]} for turn in turns]


# ------------------------------------------------------------------ pairs


@pytest.mark.parametrize(
    "row",
    [
        {"prompt": "p", "completion": "a"},
        {"prompt": "p", "completion": "a", "messages": [user("q"), assistant("b")]},
        {"prompt": [user("p")], "completion": [assistant("a")]},
        {"prompt": "p", "completion": [assistant("a")]},
        {"prompt": "p", "completion": "a", "label": True},
        {"prompt": "p", "completion": "a", "label": "True"},
        {"prompt": "p", "completion": "a", "label": 0},  # another label than KTO's
        {"messages": [user("p"), assistant("a")]},
        {"messages": np.array([user("p"), assistant("a")])},  # as pandas reads Parquet
        {"messages": json.dumps([user("p"), assistant("a")])},  # as a cell of CSV holds it
        {"prompt": "id-7", "messages": [user("p"), assistant("a")]},
        {"messages": [{**user("p"), "name": None}, {**assistant("a"), "tool_calls": None}]},
        {"messages": [user([{"type": "text", "text": "p"}]), assistant("a")]},
        {"messages": [{**user("p"), "role": "User"}, {**assistant("a"), "role": "Assistant"}]},
        {"conversations": share_gpt([user("p"), assistant("a")])},
        {"conversations": [user("p"), assistant("a")]},
        {"instruction": "p", "output": "a"},
        {"instruction": "p", "input": "", "output": "a"},
        {"instruction": "p", "context": None, "response": "a", "category": "open"},
        [user("p"), assistant("a")],
    ],
)
def test_a_question_and_its_answer(row):
    assert read_pairs([row]) == [InstructionPair("p", "a")]


@pytest.mark.parametrize(
    "row",
    [
        {"messages": [*TALK, assistant("a")]},
        {"conversations": share_gpt([*TALK, assistant("a")])},
        {"prompt": TALK, "completion": [assistant("a")]},
        {"prompt": TALK, "completion": "a"},
        {"prompt": TALK, "completion": [*TALK, assistant("a")]},
    ],
)
def test_earlier_turns_are_the_prompt_and_stay_turns(row):
    (pair,) = read_pairs([row])
    assert pair == InstructionPair(TALK_TEXT, "a", tuple(TALK))
    tokenizer = tiny_tokenizer()
    tokenizer.chat_template = (
        "{% for m in messages %}{{ m['role'] + ' ' + m['content'] + ' ' }}{% endfor %}"
    )
    shown = PromptFormat(tokenizer)
    assert list(encode_pair(tokenizer, pair).prompt_ids) == shown.encode([shown.render(TALK)])[0]


def test_an_input_stands_below_its_instruction():
    row = {"instruction": "Translate.", "input": "Haus", "output": "house"}
    assert read_pairs([row]) == [InstructionPair("Translate.\n\nHaus", "house")]
    assert [row.text for row in read_prompts([row])] == ["Translate.\n\nHaus"]


def test_a_file_may_mix_formats():
    rows = [
        {"prompt": "p", "completion": "a"},
        {"messages": [user("q"), assistant("b")]},
        {"instruction": "r", "output": "c"},
    ]
    assert [(pair.prompt, pair.completion) for pair in read_pairs(rows)] == [
        ("p", "a"),
        ("q", "b"),
        ("r", "c"),
    ]


def test_what_is_left_out_of_pairs_is_said_once():
    rows = [
        {"prompt": "p", "completion": "a", "label": True},
        {"prompt": "p", "completion": "b", "label": False},
        {"prompt": "q", "completion": "c", "label": "false"},
        {"messages": [user("p"), assistant("a"), user("thanks")]},
    ]
    with pytest.warns(UserWarning) as told:  # noqa: PT030 - both messages are below
        assert [pair.completion for pair in read_pairs(rows)] == ["a", "a"]
    assert [str(warning.message) for warning in told] == [
        "pairs: rows whose label is false (KTO) are left out: they are not to be imitated (2 of 4 "
        "rows)",
        "pairs: what comes after the assistant's last turn is not read (1 of 4 rows)",
    ]


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"prompt": "p"}, 'needs "prompt" and "completion", "messages"'),
        ({"prompt": "p", "chosen": "a", "rejected": "b"}, "dpo and reward-model read preferences"),
        ({"prompt": "p", "completion": " "}, "completion is empty"),
        ({"prompt": "p", "completion": 7}, "completion must be a text"),
        ({"prompt": "", "completion": "a"}, "prompt is empty"),
        ({"prompt": "p", "completion": [user("a")]}, r"one message of the assistant .* \['user'\]"),
        ({"messages": [user("p")]}, r"needs a turn of the assistant .* roles \['user'\]"),
        ({"messages": [assistant("a")]}, "needs a turn of the assistant with another before it"),
        ({"messages": []}, "messages must be a list of messages"),
        ({"messages": "[{'role': 'user'}]"}, "messages is a text that is no JSON"),
        ({"messages": [{"role": "user"}, assistant("a")]}, "has a message that is not"),
        ({"messages": [user([{"type": "image"}]), assistant("a")]}, "has a message that is not"),
        ({"messages": [user("\ud83d"), assistant("a")]}, "has a lone surrogate"),
        ({"instruction": 7, "output": "a"}, "instruction must be a str"),
        ("p", "needs an object with prompt and completion"),
        (("p", "a"), "needs an object with prompt and completion"),
    ],
)
def test_rows_that_are_no_pairs(row, message):
    with pytest.raises((TypeError, ValueError), match=rf"pairs\[0\]: .*{message}"):
        read_pairs([row])


# ------------------------------------------------------------------ prompts


@pytest.mark.parametrize(
    ("row", "columns"),
    [
        ([user("p")], {}),
        ({"prompt": [user("p")], "n": 1}, {"n": 1}),
        ({"messages": [user("p"), assistant("a")], "n": 1}, {"n": 1}),
        ({"conversations": share_gpt([user("p"), assistant("a")])}, {}),
        ({"instruction": "p", "input": "", "output": "a"}, {"output": "a"}),
        ({"prompt": "p", "messages": [user("q")]}, {"messages": [user("q")]}),
        ({"messages": [user("q"), assistant("a"), user("p")]}, {}),
        (
            {"chosen": [user("p"), assistant("a")], "rejected": [user("p"), assistant("b")]},
            {"chosen": [user("p"), assistant("a")], "rejected": [user("p"), assistant("b")]},
        ),
    ],
)
def test_prompts_of_rows_that_were_made_for_something_else(row, columns):
    (read,) = read_prompts([row])
    assert (read.text, dict(read.columns)) == ("p", columns)


def test_an_answer_that_is_no_part_of_the_prompt_is_said_to_be_left_out():
    rows = [{"messages": [user("p"), assistant("a")]}, {"messages": [user("q")]}]
    with pytest.warns(DataWarning, match=r"answer .* is left out of the prompt \(1 of 2 rows\)"):
        assert [row.text for row in read_prompts(rows)] == ["p", "q"]


def test_a_conversation_keeps_its_turns():
    for row in (
        TALK,
        {"prompt": TALK},
        {"messages": [*TALK, assistant("a")]},
        {"conversations": share_gpt([*TALK, assistant("a")])},
        {"chosen": f"{HH} a", "rejected": f"{HH} b"},
    ):
        (read,) = read_prompts([row])
        turns = messages_of(read.text)
        assert (read.text, turns) == ("Well?", turns if "chosen" in row else TALK)
        assert turns[-3:] == HH_TALK


def test_roles_of_share_gpt_are_known_and_others_stay():
    turns = [
        {"from": "human", "value": "q"},
        {"from": "function_call", "value": "f"},
        {"from": "observation", "value": "o"},
        {"from": "developer", "value": "d"},
    ]
    (read,) = read_prompts([{"prompt": turns}])
    assert [turn["role"] for turn in messages_of(read.text)] == [
        "user",
        "assistant",
        "tool",
        "developer",
    ]


def test_a_single_conversation_is_no_list_of_them():
    with pytest.raises(ValueError, match=r"prompts\[0\]: is .*message.*conversation"):
        read_prompts([user("p")])


# ------------------------------------------------------------------ preferences


@pytest.mark.parametrize(
    ("chosen", "rejected", "expected"),
    [
        # The example of TRL's documentation.
        ("The sky is blue.", "The sky is green.", ("The sky is", " blue.", " green.")),
        ("What colour? color", "What colour? colour", ("What colour?", " color", " colour")),
        ("Q: why?\nBecause.", "Q: why?\nBe quiet.", ("Q: why?\n", "Because.", "Be quiet.")),
        ("Say yes", "Say yes please", ("Say", " yes", " yes please")),
    ],
)
def test_an_implicit_prompt_is_what_texts_have_in_common(chosen, rejected, expected):
    with pytest.warns(UserWarning, match=r"prompt is what chosen .* in common .* \(1 of 1 rows"):
        (read,) = read_preferences([{"chosen": chosen, "rejected": rejected}])
    assert (read.prompt, read.chosen, read.rejected) == expected
    assert read.prompt + read.chosen == chosen


@pytest.mark.parametrize(
    "row",
    [
        {"chosen": f"{HH} a", "rejected": f"{HH} b"},
        {"prompt": HH, "chosen": " a", "rejected": " b"},
        {"chosen": f"{HH} a".strip(), "rejected": f"{HH} b\n".lstrip()},
        {"prompt": HH, "chosen": f"{HH} a", "rejected": f"{HH} b"},
        {"prompt": HH_TALK, "chosen": [assistant("a")], "rejected": [assistant("b")]},
        {"chosen": share_gpt([*HH_TALK, assistant("a")]), "rejected": [*HH_TALK, assistant("b")]},
    ],
)
def test_transcripts_are_conversations(row):
    text = "user: Hi\n\nassistant: Hello\n\nuser: Well?"
    expected = Preference(text, "a", "b", {"prompt_messages": HH_TALK})
    assert read_preferences([row]) == [expected]


def test_a_transcript_of_one_question_is_a_question():
    question = "\n\nHuman: What is a\n\nlist?\n\nAssistant:"
    row = {"chosen": f"{question} This.\n\nAnd that.", "rejected": f"{question} No."}
    assert read_preferences([row]) == [
        Preference("What is a\n\nlist?", "This.\n\nAnd that.", "No.")
    ]


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"chosen": "yes", "rejected": "no"}, "has no 'prompt', and .* do not begin alike"),
        ({"chosen": "same", "rejected": "same"}, "identical, and there is no 'prompt'"),
        ({"chosen": f"{HH} a", "rejected": f"{HH}"}, "one message of the assistant after"),
        ({"prompt": "p", "completion": "a", "label": True}, r"unpaired rows \(KTO\) are for sft"),
        ({"prompt": 7, "chosen": "a", "rejected": "b"}, "prompt must be a text, got 7"),
    ],
)
def test_rows_that_are_no_preferences(row, message):
    with pytest.raises((TypeError, ValueError), match=rf"preferences\[0\]: .*{message}"):
        read_preferences([row])


def test_answers_to_compare_may_be_messages():
    for prompt in ("p", [user("p")]):
        (read,) = read_comparisons([{"prompt": prompt, "answers": [[assistant("a")], "b"]}])
        assert (read.prompt, read.answers) == ("p", ("a", "b"))
    with pytest.raises(ValueError, match=r"answers must be one message of the assistant"):
        read_comparisons([{"prompt": "p", "answers": [[user("a")], "b"]}])


def test_a_comparison_may_be_about_a_conversation():
    (read,) = read_comparisons([{"prompt": TALK, "answers": ["a", "b"], "n": 1}])
    assert read.prompt == TALK_TEXT
    assert read.columns == {"n": 1, "prompt_messages": TALK}
