"""Texts that remember where they come from: from messages, from token ids.

Scorers that read text get text; TRL's reward functions get the messages and token ids behind it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from llm_gym.language_models.chat import Messages


class SourcedText(str):
    """A text that remembers what it was made from.

    It is a `str` wherever a text is wanted: the last words of the user where it is a prompt, what
    the assistant said where it is a completion. It goes through compositions and selections of
    rows as any text does, and takes its source along.

    Args:
        text: The text.
        messages: The messages it stands for, if it came as such.
        token_ids: The tokens it was decoded from, if they are known.

    Attributes:
        messages: The messages, or None.
        token_ids: The tokens, or None.
    """

    __slots__ = ("messages", "token_ids")
    messages: list[dict[str, Any]] | None
    token_ids: list[int] | None

    def __new__(
        cls,
        text: str,
        messages: Messages | None = None,
        token_ids: Sequence[int] | None = None,
    ) -> SourcedText:
        """Makes the text and keeps its source."""
        made = super().__new__(cls, text)
        made.messages = None if messages is None else [dict(message) for message in messages]
        made.token_ids = None if token_ids is None else list(token_ids)
        return made

    def __reduce__(self) -> tuple[Any, ...]:  # for pickle and copy
        return SourcedText, (str(self), self.messages, self.token_ids)


def prompt_text(prompt: Any, where: str) -> str:
    """A prompt as text.

    Args:
        prompt: A text, or messages.
        where: Its name in messages, such as "prompts[3]".

    Returns:
        The text itself, or a `SourcedText` with the last turn of the user.

    Raises:
        TypeError: Neither text nor messages.
    """
    if isinstance(prompt, str):
        return prompt
    messages = _checked(prompt, where)
    turns = [turn for turn in messages if turn.get("role", "user") == "user"] or messages
    return SourcedText(_content(turns[-1], where), messages)


def completion_text(completion: Any, where: str) -> str:
    """A completion as text.

    Args:
        completion: A text, or messages.
        where: Its name in messages, such as "completions[3]".

    Returns:
        The text itself, or a `SourcedText` with what the assistant said, line after line.

    Raises:
        TypeError: Neither text nor messages.
    """
    if isinstance(completion, str):
        return completion
    messages = _checked(completion, where)
    turns = [turn for turn in messages if turn.get("role", "assistant") == "assistant"]
    contents = [_content(turn, where) for turn in turns]
    return SourcedText("\n".join(text for text in contents if text), messages)


def for_trl(prompts: Sequence[str], completions: Sequence[str]) -> tuple[list[Any], list[Any]]:
    """Prompts and completions as TRL's reward functions get them.

    Args:
        prompts: B prompts.
        completions: B completions.

    Returns:
        Both, B each: messages where the prompt or the completion came as such, else texts.
    """
    trl_prompts: list[Any] = [messages_of(prompt) or str(prompt) for prompt in prompts]
    trl_completions: list[Any] = [
        _reply(completion) if messages_of(prompt) else messages_of(completion) or str(completion)
        for prompt, completion in zip(prompts, completions, strict=True)
    ]
    return trl_prompts, trl_completions


def conversation(prompt: str, completion: str) -> list[dict[str, Any]]:
    """Prompt and completion as the messages of one conversation."""
    turns = messages_of(prompt) or [{"role": "user", "content": str(prompt)}]
    return [*turns, *_reply(completion)]


def _reply(completion: str) -> list[dict[str, Any]]:
    return messages_of(completion) or [{"role": "assistant", "content": str(completion)}]


def token_ids_of(completions: Sequence[str]) -> list[list[int]] | None:
    """The token ids of completions; None unless they are known of all."""
    ids = [getattr(completion, "token_ids", None) for completion in completions]
    return None if any(row is None for row in ids) else ids  # type: ignore[return-value]


def with_token_ids(
    completions: Sequence[str], token_ids: Sequence[Sequence[int]]
) -> list[SourcedText]:
    """Completions that remember their token ids."""
    pairs = zip(completions, token_ids, strict=True)
    return [SourcedText(text, messages_of(text), ids) for text, ids in pairs]


def messages_of(text: str) -> list[dict[str, Any]] | None:
    """The messages that a text stands for; None if it is nothing but a text."""
    return getattr(text, "messages", None)


def _checked(messages: Any, where: str) -> Messages:
    is_list = isinstance(messages, Sequence) and not isinstance(messages, bytes)
    if is_list and messages and all(isinstance(m, Mapping) and "content" in m for m in messages):
        return messages
    raise TypeError(
        f'{where} must be a str or a list of messages {{"role": ..., "content": ...}}, got '
        f"{type(messages).__name__}"
    )


def _content(message: Mapping[str, Any], where: str) -> str:
    content = message["content"]
    if content is None:  # a turn that only calls tools
        return ""
    if isinstance(content, str):
        return content
    if isinstance(content, Sequence) and all(isinstance(block, Mapping) for block in content):
        texts = [block["text"] for block in content if isinstance(block.get("text"), str)]
        return "\n".join(texts)
    raise TypeError(
        f"{where}: the content of a message must be a str or a list of blocks, got "
        f"{type(content).__name__}"
    )
