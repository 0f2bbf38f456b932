r"""What a row means: the public formats of prompts, pairs and preferences.

| format | columns |
|---|---|
| TRL | `prompt`, with `completion` or with `chosen` and `rejected`; texts or messages |
| TRL, implicit prompt | `chosen` and `rejected`, which begin with the prompt |
| TRL, unpaired (KTO) | `prompt`, `completion`, `label` |
| OpenAI | `messages`: `[{"role": ..., "content": ...}, ...]` |
| ShareGPT | `conversations`: `[{"from": ..., "value": ...}, ...]` |
| Alpaca, Dolly | `instruction`, `input` or `context`, `output` or `response` |
| HH-RLHF | `chosen` and `rejected`: `"\n\nHuman: ...\n\nAssistant: ..."` |

Sources: https://huggingface.co/docs/trl/dataset_formats, the cards of the data sets. Each row is
read for itself, so a file may mix formats. A prompt is a text or, where a conversation was given,
its messages.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from llm_gym.files.encoding import check_text
from llm_gym.files.messages import Turns, is_transcript, messages, transcript
from llm_gym.files.rows import Note, as_list, has

_CONVERSATIONS = ("messages", "conversations")
_CONTEXT, _OUTPUT = ("input", "context"), ("output", "response")


class PairFields(NamedTuple):
    """A prompt and its answer."""

    prompt: str | Turns
    completion: str


class PreferenceFields(NamedTuple):
    """A prompt, two answers, and all further columns of the row."""

    prompt: str | Turns
    chosen: str
    rejected: str
    columns: dict[str, Any]


# ------------------------------------------------------------------ prompts


def prompt_fields(
    row: Any, note: Note, prompt_column: str | None = None
) -> tuple[str | Turns, dict[str, Any]]:
    """The prompt of a row, and its further columns.

    Args:
        row: A text, the messages of a conversation, or a mapping of columns.
        note: Hears what was left out.
        prompt_column: The column with the prompt; None takes the first there is of `prompt`,
            `messages` and `conversations` (without the answer they end in), `instruction` with its
            `input`, and what `chosen` and `rejected` begin with.

    Raises:
        TypeError: None of these, or the prompt is no text and no messages.
        ValueError: There is no such column, or the messages are malformed.
    """
    if not isinstance(row, Mapping):
        if prompt_column:
            raise ValueError(f"has no columns, so prompt_column={prompt_column!r} names none")
        return _prompt("the prompt", row), {}
    columns = {str(name): value for name, value in row.items()}
    name = prompt_column or next((key for key in ("prompt", *_CONVERSATIONS) if has(row, key)), "")
    if prompt_column and not has(row, prompt_column):
        raise ValueError(f"has no column prompt_column={prompt_column!r}, only {_names(row)}")
    if name in _CONVERSATIONS:
        turns = messages(name, columns.pop(name))
        if len(turns) > 1 and turns[-1]["role"] == "assistant":
            note("the answer that a conversation ends in is left out of the prompt")
            turns = turns[:-1]
        return turns, columns
    if name:
        return _prompt(name, columns.pop(name)), columns
    if has(row, "instruction"):
        return _instruction(row), {key: columns[key] for key in columns if key not in _TASK}
    if has(row, "chosen") and has(row, "rejected"):
        return preference_fields(row, note).prompt, columns
    if {"role", "content"} <= set(columns):
        raise ValueError(
            "is one message; a conversation is a list of them, inside the list of prompts"
        )
    raise ValueError(
        f'has no "prompt" key, only {_names(row)}; name the column with prompt_column= '
        "(--prompt-column)"
    )


_TASK = ("instruction", *_CONTEXT)


def _prompt(name: str, value: Any) -> str | Turns:
    if isinstance(value, str):
        return value
    listed = as_list(value)
    if isinstance(listed, list) and any(isinstance(turn, Mapping) for turn in listed):
        return messages(name, listed)
    raise TypeError(
        f"{name} must be a str, got {type(value).__name__}; a conversation is a list of messages "
        '{"role": ..., "content": ...}'
    )


def _instruction(row: Mapping[str, Any]) -> str:
    parts = [row["instruction"], *(row[key] for key in _CONTEXT if has(row, key))]
    for part in parts:
        if not isinstance(part, str):
            raise TypeError(f"instruction must be a str, got {type(part).__name__}")
    return "\n\n".join(part for part in parts if part.strip())


def _split_off_answer(turns: Turns, note: Note) -> tuple[Turns, str | None]:
    """The turns before the last one of the assistant, and what that one says."""
    spoken = [index for index, turn in enumerate(turns) if turn["role"] == "assistant"]
    if not spoken:
        return turns, None
    last = spoken[-1]
    if last < len(turns) - 1:
        note("what comes after the assistant's last turn is not read")
    return turns[:last], turns[last]["content"]


# ------------------------------------------------------------------ pairs


def pair_fields(row: Any, note: Note) -> PairFields | None:
    """Prompt and answer of a row.

    Of a conversation the last turn of the assistant is the answer, and all turns before it are the
    prompt, the system's among them.

    Args:
        row: A mapping of columns, or the messages of a conversation.
        note: Hears what was left out.

    Returns:
        The pair; None for a row of KTO's format whose label is false.

    Raises:
        TypeError, ValueError: The row has no prompt or no answer.
    """
    listed = as_list(row)
    if isinstance(listed, list) and any(isinstance(turn, Mapping) for turn in listed):
        return _pair_of_conversation(messages("a conversation", row), note)
    if not isinstance(row, Mapping):
        raise TypeError(f"needs an object with prompt and completion, got {row!r:.80}")
    if has(row, "prompt") and has(row, "completion"):
        if str(row.get("label")).lower() == "false":
            note("rows whose label is false (KTO) are left out: they are not to be imitated")
            return None
        prompt = _prompt("prompt", row["prompt"])
        return PairFields(prompt, answer_text("completion", row["completion"], prompt))
    for name in _CONVERSATIONS:
        if has(row, name):
            return _pair_of_conversation(messages(name, row[name]), note)
    output = next((row[key] for key in _OUTPUT if has(row, key)), None)
    if has(row, "instruction") and output is not None:
        return PairFields(_instruction(row), output)
    hint = "; dpo and reward-model read preferences" if has(row, "chosen") else ""
    raise ValueError(
        'needs "prompt" and "completion", "messages", "conversations", or "instruction" and '
        f'"output", has {_names(row)}{hint}'
    )


def _pair_of_conversation(turns: Turns, note: Note) -> PairFields:
    prompt, answer = _split_off_answer(turns, note)
    if answer is None or not prompt:
        raise ValueError(
            "a conversation needs a turn of the assistant with another before it, got the roles "
            f"{[turn['role'] for turn in turns]}"
        )
    return PairFields(prompt, answer)


# ------------------------------------------------------------------ preferences


def preference_fields(row: Any, note: Note) -> PreferenceFields:
    r"""Prompt and answers of a row in one of TRL's forms, or a pair of HH-RLHF's transcripts.

    Without a prompt, it is what `chosen` and `rejected` have in common at their beginning: turns of
    conversations; of texts, whole words, the space behind them being the answers'.

    Args:
        row: A mapping with `chosen` and `rejected`, each a text or messages that end in exactly one
            of the assistant, and with or without a prompt.
        note: Hears what was left out, and that a prompt was split off.

    Raises:
        TypeError, ValueError: The row is no such mapping.
    """
    if not isinstance(row, Mapping):
        raise TypeError(f"needs an object with prompt, chosen, rejected, got {row!r:.80}")
    for name in ("chosen", "rejected"):
        if not has(row, name):
            hint = "; unpaired rows (KTO) are for sft, which reads those labelled true"
            raise ValueError(f"has no {name!r}{hint if has(row, 'completion') else ''}")
    prompt, chosen, rejected = (_turns(row.get(name)) for name in ("prompt", "chosen", "rejected"))
    columns = {str(n): v for n, v in row.items() if n not in ("prompt", "chosen", "rejected")}
    if any(isinstance(field, list) for field in (prompt, chosen, rejected)):
        if isinstance(prompt, list) and is_transcript(row.get("prompt")):
            chosen, rejected = (_as_turn(text) for text in (chosen, rejected))
        return PreferenceFields(*_of_messages(prompt, chosen, rejected), columns)
    if has(row, "prompt"):
        check_text("prompt", prompt)
        return PreferenceFields(prompt, chosen, rejected, columns)
    note("the prompt is what chosen and rejected have in common at their beginning")
    return PreferenceFields(*_common_words(chosen, rejected), columns)


def _turns(value: Any) -> Any:
    """Lists as such, and transcripts as messages; anything else as it is."""
    listed = as_list(value)
    return transcript(listed) if is_transcript(listed) else listed


def _as_turn(answer: Any) -> Any:
    is_text = isinstance(answer, str)
    return [{"role": "assistant", "content": answer.strip()}] if is_text else answer


def _common_words(chosen: Any, rejected: Any) -> tuple[str, str, str]:
    for name, text in (("chosen", chosen), ("rejected", rejected)):
        if not isinstance(text, str):
            raise TypeError(f"{name} must be a text, got {text!r:.80}")
    if chosen == rejected:
        raise ValueError("chosen and rejected are identical, and there is no 'prompt'")
    longest = min(len(chosen), len(rejected)) - 1
    same = next((i for i in range(longest) if chosen[i] != rejected[i]), longest)
    while same and not chosen[same - 1].isspace():
        same -= 1
    if same and chosen[same - 1] == " ":
        same -= 1
    if not chosen[:same].strip():
        raise ValueError("has no 'prompt', and chosen and rejected do not begin alike")
    return chosen[:same], chosen[same:], rejected[same:]


def _of_messages(prompt: Any, chosen: Any, rejected: Any) -> tuple[Turns, str, str]:
    chosen, rejected = messages("chosen", chosen), messages("rejected", rejected)
    if isinstance(prompt, str):
        prompt = [{"role": "user", "content": prompt}]
    elif prompt is None:
        prompt = _common_turns(chosen, rejected)
    else:
        prompt = messages("prompt", prompt)
    if not prompt:
        raise ValueError("there is no prompt, and chosen and rejected do not begin alike")
    return prompt, answer_text("chosen", chosen, prompt), answer_text("rejected", rejected, prompt)


def _common_turns(first: Sequence[dict[str, Any]], second: Sequence[dict[str, Any]]) -> Turns:
    longest = min(len(first), len(second)) - 1  # the last message is the answer
    same = 0
    while same < longest and first[same] == second[same]:
        same += 1
    return list(first[:same])


def answer_text(name: str, value: Any, prompt: str | Turns) -> Any:
    """The text of an answer, which may be messages that repeat the prompt; else what it is.

    Raises:
        ValueError: Messages that are not one of the assistant after the prompt.
    """
    if not isinstance(as_list(value), list):
        return value
    turns = messages(name, value)
    if isinstance(prompt, list) and turns[: len(prompt)] == prompt:
        turns = turns[len(prompt) :]
    if len(turns) != 1 or turns[0]["role"] != "assistant":
        raise ValueError(
            f"{name} must be one message of the assistant after the prompt, got the roles "
            f"{[turn['role'] for turn in turns]}"
        )
    return turns[0]["content"]


def _names(row: Mapping[str, Any]) -> list[str]:
    return sorted(str(name) for name in row if has(row, name))
