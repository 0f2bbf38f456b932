"""TRL's conversational form, `{"role": ..., "content": ...}` messages, as plain texts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

__all__ = ["flattened"]


def flattened(row: Mapping[str, Any]) -> dict[str, Any]:
    """Turns a conversational row into one of three texts.

    What `chosen` and `rejected` have in common at their beginning, or the prompt that is given, is
    the prompt; each must then end in exactly one message of the assistant, whose text is the
    answer. A prompt of one user message becomes its text. A longer conversation becomes lines
    "role: content" with blank lines between, and the messages are kept in a column
    `prompt_messages`, for who wants to apply a chat template.

    Args:
        row: A row with `chosen` and `rejected`, which must be lists of messages, and with or
            without a prompt, which may be a text or messages.

    Returns:
        The row with texts instead of messages.

    Raises:
        ValueError: Messages of another shape, or answers of more than one message.
    """
    chosen, rejected = (_messages(name, row[name]) for name in ("chosen", "rejected"))
    given = row.get("prompt")
    if isinstance(given, str):
        prompt = [{"role": "user", "content": given}]
    elif given is None:
        prompt = _common_start(chosen, rejected)
    else:
        prompt = _messages("prompt", given)
    if not prompt:
        raise ValueError("there is no prompt, and chosen and rejected do not begin alike")
    texts = {
        "prompt": prompt[0]["content"],
        "chosen": _answer("chosen", chosen, prompt),
        "rejected": _answer("rejected", rejected, prompt),
    }
    columns = {name: value for name, value in row.items() if name not in texts}
    if len(prompt) == 1 and prompt[0]["role"] == "user":
        return {**texts, **columns}
    texts["prompt"] = "\n\n".join(f"{each['role']}: {each['content']}" for each in prompt)
    return {**texts, **columns, "prompt_messages": prompt}


def _messages(name: str, value: Any) -> list[dict[str, str]]:
    if not isinstance(value, list) or not value:
        raise ValueError(
            f"{name} must be a list of messages, since another field is one, got {value!r:.80}"
        )
    for message in value:
        parts = (
            [message.get(key) for key in ("role", "content")]
            if isinstance(message, Mapping)
            else [None]
        )
        if not all(isinstance(part, str) for part in parts):
            raise ValueError(
                f'{name} has a message that is not {{"role": text, "content": text}}: '
                f"{message!r:.80}"
            )
    return [{"role": message["role"], "content": message["content"]} for message in value]


def _common_start(
    first: Sequence[dict[str, str]], second: Sequence[dict[str, str]]
) -> list[dict[str, str]]:
    longest = min(len(first), len(second)) - 1  # the last message is the answer
    same = 0
    while same < longest and first[same] == second[same]:
        same += 1
    return list(first[:same])


def _answer(name: str, messages: list[dict[str, str]], prompt: list[dict[str, str]]) -> str:
    if messages[: len(prompt)] == prompt:
        messages = messages[len(prompt) :]
    if len(messages) != 1 or messages[0]["role"] != "assistant":
        raise ValueError(
            f"{name} must be one message of the assistant after the prompt, got the roles "
            f"{[message['role'] for message in messages]}"
        )
    return messages[0]["content"]
