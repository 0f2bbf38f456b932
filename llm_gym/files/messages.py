"""Conversations as data sets write them, made one: OpenAI's messages.

Read are `role` and `content`, ShareGPT's `from` and `value`, and the transcripts of HH-RLHF.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any, TypeAlias

from llm_gym.files.encoding import check_characters
from llm_gym.files.rows import as_list, has

Turns: TypeAlias = list[dict[str, Any]]
"""Turns of a conversation, `[{"role": "user", "content": "..."}, ...]`."""

_ROLES = {
    "human": "user",
    "gpt": "assistant",
    "chatgpt": "assistant",
    "bing": "assistant",
    "bard": "assistant",
    "model": "assistant",
    "function_call": "assistant",
    "observation": "tool",
    "function_response": "tool",
}
_SPEAKER = re.compile(r"\n\n(Human|Assistant):")


def messages(name: str, value: Any) -> Turns:
    """A conversation in OpenAI's form.

    Args:
        name: The column's, for messages.
        value: Messages with `role` and `content`, or `from` and `value`; as a list, an array, or
            (in a cell of CSV) as JSON. A content may be a list of blocks of text.

    Returns:
        The messages, with their further keys (such as `tool_calls`) unless they are null.

    Raises:
        ValueError: Malformed, or content that is no text.
    """
    listed = as_list(value)
    if isinstance(listed, str) and listed.lstrip().startswith("["):
        try:
            listed = json.loads(listed)
        except (ValueError, RecursionError):
            raise ValueError(f"{name} is a text that is no JSON: {listed!r:.80}") from None
    if not isinstance(listed, list) or not listed:
        raise ValueError(
            f"{name} must be a list of messages, since another field is one, got {value!r:.80}"
            if name in ("prompt", "chosen", "rejected")
            else f"{name} must be a list of messages, got {value!r:.80}"
        )
    return [_message(name, turn) for turn in listed]


def _message(name: str, turn: Any) -> dict[str, Any]:
    is_message = isinstance(turn, Mapping)
    role = turn.get("role", turn.get("from")) if is_message else None
    content = turn.get("content", turn.get("value")) if is_message else None
    blocks = as_list(content)
    if isinstance(blocks, list) and all(_is_text(block) for block in blocks):
        content = "\n".join(block["text"] for block in blocks)
    calls = is_message and content is None and has(turn, "tool_calls")
    if not isinstance(role, str) or not (isinstance(content, str) or calls):
        raise ValueError(
            f'{name} has a message that is not {{"role": text, "content": text}}: {turn!r:.80}'
        )
    check_characters(name, content or "")
    known = ("role", "content", "from", "value")
    further = {key: turn[key] for key in turn if key not in known and turn[key] is not None}
    return {"role": _ROLES.get(role.lower(), role.lower()), "content": content or "", **further}


def _is_text(block: Any) -> bool:
    is_block = isinstance(block, Mapping) and block.get("type", "text") == "text"
    return is_block and isinstance(block.get("text"), str)


def is_transcript(value: Any) -> bool:
    """Whether something is a conversation as HH-RLHF writes it."""
    is_text = isinstance(value, str)
    return is_text and value.lstrip().startswith("Human:") and "\n\nAssistant:" in value


def transcript(text: str) -> Turns:
    r"""The turns of a text like `"\n\nHuman: ...\n\nAssistant: ..."`, without an empty last one."""
    _, *parts = _SPEAKER.split("\n\n" + text.lstrip())
    turns = [
        {"role": "user" if speaker == "Human" else "assistant", "content": words.strip()}
        for speaker, words in zip(parts[::2], parts[1::2], strict=True)
    ]
    # "\n\nAssistant:" at the end asks for the answer.
    return turns if turns[-1]["content"] or turns[-1]["role"] == "user" else turns[:-1]
