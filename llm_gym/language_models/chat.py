"""How a model is shown its prompts: the one way from a prompt or a conversation to token ids.

Everything that feeds a model asks here: environments, supervised fine-tuning, DPO, reward models
and all commands. The rule is

1. the `prompt_template` that was given, a format string with `{prompt}`;
2. else the tokenizer's chat template, applied to the whole conversation;
3. else the prompt as it is.

Whatever the way, a prompt begins with the BOS token at most once, does not end in an EOS token that
the tokenizer appends, and an answer to learn from ends in exactly one token, the one that ends the
model's turn.
"""

from __future__ import annotations

import copy
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from string import Formatter
from typing import TYPE_CHECKING, Any, TypeAlias

from llm_gym.language_models.decoding import decode_after, special_ids
from llm_gym.language_models.generation import generation_end_ids

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

Messages: TypeAlias = Sequence[Mapping[str, Any]]
"""Turns of a conversation, `[{"role": "user", "content": "..."}, ...]`."""


class TemplateWarning(UserWarning):
    """A chat template does not show all that was said."""


_LONGEST = 50_000_000  # characters: no model reads so much
_PROMPT, _ANSWER = "PROMPT-GOES-HERE", "ANSWER-GOES-HERE"


@dataclass(frozen=True)
class PromptFormat:
    """The format in which prompts are shown to one model.

    Args:
        tokenizer: The model's tokenizer; never changed.
        prompt_template: Format string with `{prompt}`, and `{name}` for further columns; None takes
            the tokenizer's chat template, or the bare prompt if it has none.
        add_special_tokens: Whether the tokenizer adds its own special tokens (a BOS, say) to
            prompts; None lets it do so unless its chat template, which writes them, is used.

    Raises:
        TypeError: The template is no text, or `add_special_tokens` no switch.
        ValueError: The template has no place for a prompt, or the chat template does not show what
            the user says.
    """

    tokenizer: Any
    prompt_template: str | None = None
    add_special_tokens: bool | None = None

    def __post_init__(self) -> None:
        template = self.prompt_template
        if template is not None and not isinstance(template, str):
            raise TypeError(
                f"prompt_template={template!r} must be a format string such as "
                '"Question: {prompt}", or None for the tokenizer\'s chat template'
            )
        check_fields(template)
        if not isinstance(self.add_special_tokens, bool | None):
            raise TypeError(
                f"add_special_tokens={self.add_special_tokens!r:.80} must be True, False or None"
            )
        if self.by_chat_template and _PROMPT not in self.render(_PROMPT):
            raise ValueError(
                "the tokenizer's chat template does not show the user's message; pass "
                'prompt_template= (--prompt-template), e.g. "{prompt}"'
            )

    @property
    def by_chat_template(self) -> bool:
        """Whether the tokenizer's chat template is used."""
        return self.prompt_template is None and bool(getattr(self.tokenizer, "chat_template", None))

    @property
    def shown(self) -> str:
        """What a single prompt looks like, with `{prompt}` where it stands."""
        if self.by_chat_template:
            return self.render(_PROMPT).replace(_PROMPT, "{prompt}")
        return "{prompt}" if self.prompt_template is None else self.prompt_template

    @property
    def of_chat_template(self) -> str | None:
        """What `shown` would be by the tokenizer's own chat template; None if it has none."""
        own = PromptFormat(self.tokenizer)
        return own.shown if own.by_chat_template else None

    def __str__(self) -> str:
        if self.by_chat_template:
            origin = "the tokenizer's chat template"
        elif self.prompt_template is None:
            origin = "the bare prompt: the tokenizer has no chat template"
        else:
            origin = "as given by prompt_template"
        return f"{self.shown!r} ({origin})"

    def render(self, prompt: str | Messages, columns: Mapping[str, Any] | None = None) -> str:
        """The text that the model reads.

        Args:
            prompt: A plain prompt, which is what the user says; or the messages of a conversation,
                the last of which the model answers. A text with an attribute `messages` counts as
                those.
            columns: Further fields of the prompt, for a `prompt_template` that names them.

        Returns:
            The text. A conversation for which there is no chat template becomes "role: content"
            with a blank line between turns; a lone turn of the user, its content.

        Raises:
            ValueError: The chat template refuses the conversation.
            KeyError, IndexError: The template names a field that is not there.
        """
        if self.by_chat_template:
            return self._by_chat_template(_messages_of(prompt))
        text = plain_text(prompt)
        if self.prompt_template is None:
            return text
        return self.prompt_template.format(**{**(columns or {}), "prompt": text})

    def _by_chat_template(self, messages: Messages, *, ask: bool = True) -> str:
        return by_chat_template(self.tokenizer, messages, ask=ask)

    def encode(self, texts: Sequence[str]) -> list[list[int]]:
        """Token ids of prompts.

        Args:
            texts: B texts, as `render` returned them.

        Returns:
            B lists of ids, with one BOS where there is one, without an EOS of the tokenizer's.
        """
        adds = self.add_special_tokens
        adds = not self.by_chat_template if adds is None else adds
        rows = self._tokenized(texts, special=adds)
        if adds and any(self._doubtful(ids) for ids in rows):
            plain = self._tokenized(texts, special=False)
            rows = [self._once(ids, bare) for ids, bare in zip(rows, plain, strict=True)]
        return rows

    def _tokenized(self, texts: Sequence[str], *, special: bool) -> list[list[int]]:
        # verbose=False: whether a prompt is too long is the caller's to say.
        return self.tokenizer(
            list(texts), add_special_tokens=special, padding=False, truncation=False, verbose=False
        )["input_ids"]

    def _doubtful(self, ids: Sequence[int]) -> bool:
        bos, eos = self._id("bos"), self._id("eos")
        return len(ids) > 1 and ((ids[0] == bos and ids[1] == bos) or ids[-1] == eos)

    def _once(self, ids: list[int], bare: Sequence[int]) -> list[int]:
        """Takes away a BOS that the text has already, and an EOS that it has not."""
        bos, eos = self._id("bos"), self._id("eos")
        written = _count(bare, bos)
        if written:
            ids = ids[_count(ids, bos) - written :]
        surplus = _count(reversed(ids), eos) - _count(reversed(bare), eos)
        return ids[: len(ids) - surplus] if surplus > 0 else ids

    def _id(self, name: str) -> int | None:
        return getattr(self.tokenizer, f"{name}_token_id", None)

    @cached_property
    def end_token_id(self) -> int | None:
        """The token that ends the model's turn; None if there is none.

        By the chat template it is the special token that follows the assistant's words, else the
        tokenizer's EOS.
        """
        if self.by_chat_template:
            turn_end = self._end_of_turn()
            if turn_end is not None:
                return turn_end
        return self._id("eos")

    def _end_of_turn(self) -> int | None:
        turns = [
            {"role": "user", "content": _PROMPT},
            {"role": "assistant", "content": _ANSWER},
        ]
        try:
            text = self._by_chat_template(turns, ask=False)
        except ValueError:  # a template for asking only
            return None
        _, separator, after = text.rpartition(_ANSWER)
        if not separator or not after.strip():
            return None
        special = special_ids(self.tokenizer)
        for token in self._tokenized([after.strip()], special=False)[0]:
            if token in special:
                return token
            if self.tokenizer.decode([token]).strip():
                return None
        return None

    def end_token_ids(self, name_or_path: str | None = None) -> tuple[int, ...]:
        """All tokens that end an answer: EOS, those of the generation config, the end of a turn.

        Args:
            name_or_path: The model whose `generation_config.json` is read; None takes the
                directory that the tokenizer was loaded from, if it is on this machine.

        Returns:
            The ids, without repetition; none if nothing says any.
        """
        ids = [self._id("eos"), *generation_end_ids(self.tokenizer, name_or_path)]
        ids.append(self.end_token_id)
        return tuple(dict.fromkeys(token for token in ids if token is not None))

    def encode_answer(
        self,
        prompt: str | Messages,
        completion: str,
        columns: Mapping[str, Any] | None = None,
    ) -> tuple[list[int], list[int]]:
        """Token ids of a prompt and of an answer to learn from.

        The two are encoded so that the boundary is the one that generation has: the prompt's ids
        are those of `encode`, and the answer's decode to the answer after them.

        Args:
            prompt: As for `render`.
            completion: What the model should answer.
            columns: As for `render`.

        Returns:
            Ids of the prompt; ids of the completion with exactly one end token, the last.

        Raises:
            ValueError: No token ends an answer.
        """
        if self.end_token_id is None:
            raise ValueError("the tokenizer has no EOS token, so a model cannot learn to stop")
        text = self.render(prompt, columns)
        prompt_ids = self.encode([text])[0]
        ids = self._encode_after(text, prompt_ids, completion)
        ends = {self.end_token_id, self._id("eos")}
        while ids and ids[-1] in ends:
            ids = ids[:-1]
        return prompt_ids, [*ids, self.end_token_id]

    def _encode_after(self, text: str, prompt_ids: list[int], completion: str) -> list[int]:
        alone = list(self._tokenized([completion], special=False)[0])
        if not self._begins_with_a_space:
            return alone
        whole = self.encode([text + completion])[0]
        if whole[: len(prompt_ids)] == prompt_ids:
            behind = whole[len(prompt_ids) :]
            written = decode_after(self.tokenizer, prompt_ids, behind, skip_special_tokens=False)
            if written == completion:
                return behind
        return alone

    @cached_property
    def _begins_with_a_space(self) -> bool:
        """Whether a text encoded by itself begins with a space of the tokenizer's own."""
        ids = self._tokenized(["a"], special=False)[0]
        return decode_after(self.tokenizer, ids, ids, skip_special_tokens=False) == " a"

    def saved_tokenizer(self, example: str | Messages = "Say hello.") -> PreTrainedTokenizerBase:
        """The tokenizer to save beside a model that was trained in this format.

        Its chat template shows prompts as this format does, so that every program that loads the
        model asks as it was taught.

        Args:
            example: A prompt on which both must agree.

        Returns:
            The tokenizer itself where it says so already, else a copy with another chat template.

        Raises:
            ValueError: No chat template can say what `prompt_template` says.
        """
        if self.prompt_template is None:
            return self.tokenizer
        expected = self.encode([self.render(example)])
        by_rule = PromptFormat(self.tokenizer)
        if by_rule.encode([by_rule.render(example)]) == expected:
            return self.tokenizer
        written = copy.deepcopy(self.tokenizer)
        bos = getattr(written, "bos_token", None) or ""
        before, _, behind = self.render(_PROMPT).partition(_PROMPT)
        for start in dict.fromkeys((before, bos + before, f"{bos} {before}")):
            written.chat_template = _as_chat_template(start, behind)
            by_rule = PromptFormat(written)
            if by_rule.encode([by_rule.render(example)]) == expected:
                return written
        raise ValueError(
            f"prompt_template={self.prompt_template!r} cannot be written as a chat template of "
            "this tokenizer, so whoever loads the model would ask it otherwise; leave "
            "prompt_template out, or set tokenizer.chat_template yourself"
        )


def by_chat_template(
    tokenizer: Any, messages: Messages, *, ask: bool, instead: str = "pass prompt_template="
) -> str:
    """A conversation as a tokenizer's chat template writes it.

    What a system message says, and the template leaves out, is said in a `TemplateWarning`.

    Args:
        tokenizer: With a chat template.
        messages: The conversation; the template gets a copy.
        ask: Whether what asks for an answer is written behind it.
        instead: What to do where the template cannot, for messages.

    Raises:
        ValueError: The template refuses the conversation, fails, or makes too much of it.
    """
    turns = [dict(message) for message in messages]
    try:
        text = str(tokenizer.apply_chat_template(turns, add_generation_prompt=ask, tokenize=False))
    except Exception as error:  # whatever jinja, or the template itself, raises
        why = " ".join(str(error).split()) or type(error).__name__
        role = _refused_role(tokenizer, turns, ask)
        if role is not None:
            raise ValueError(
                f"the tokenizer's chat template refuses the role {role!r} ({why}): put what it "
                f"says into a message of the user, leave it out, or {instead}"
            ) from error
        raise ValueError(
            f"the tokenizer's chat template cannot render a conversation of the roles "
            f"{[turn.get('role') for turn in turns]}: {why}; change the messages, or {instead}"
        ) from error
    if len(text) > _LONGEST:
        raise ValueError(
            f"the tokenizer's chat template makes {len(text):,} characters of a conversation, "
            f"more than {_LONGEST:,}; {instead}"
        )
    told = [turn.get("content") for turn in turns if turn.get("role") == "system"]
    if any(isinstance(each, str) and each.strip() not in text for each in told):
        warnings.warn(
            "the tokenizer's chat template leaves out what system messages say: put it into a "
            f"message of the user, or {instead}",
            TemplateWarning,
            stacklevel=2,
        )
    return text


def _refused_role(tokenizer: Any, turns: Messages, ask: bool) -> str | None:
    """The role, other than the two that talk, without which the template takes the rest."""
    for role in dict.fromkeys(turn.get("role") for turn in turns):
        rest = [dict(turn) for turn in turns if turn.get("role") != role]
        if role in ("user", "assistant") or not rest:
            continue
        try:
            tokenizer.apply_chat_template(rest, add_generation_prompt=ask, tokenize=False)
        except Exception:  # noqa: S112 - of whatever kind: another thing is wrong, too
            continue
        return str(role)
    return None


def as_prompt_format(
    tokenizer: Any, prompt_template: str | PromptFormat | None = None
) -> PromptFormat:
    """The format of a tokenizer's model; one that is ready is handed back."""
    if isinstance(prompt_template, PromptFormat):
        return prompt_template
    return PromptFormat(tokenizer, prompt_template)


def check_prompt_template(prompt_template: str | None) -> None:
    """Raises `ValueError` for a template of the settings that has no place for the prompt."""
    if prompt_template is not None and "{prompt}" not in prompt_template:
        raise ValueError(f"prompt_template must contain {{prompt}}: {prompt_template!r}")


def check_fields(prompt_template: str | None) -> None:
    """Raises `ValueError` for a template that shows nothing of a row, whose prompts are all one."""
    if prompt_template is None:
        return
    try:
        fields = [field for _, field, _, _ in Formatter().parse(prompt_template) if field]
    except ValueError as error:
        raise ValueError(f"prompt_template={prompt_template!r} is damaged: {error}") from None
    if not fields:
        raise ValueError(
            f"prompt_template={prompt_template!r} has no place for a prompt: write {{prompt}} there"
        )


def plain_text(prompt: str | Messages) -> str:
    """A prompt as text: the content of a lone user's turn, else "role: content" turn by turn."""
    if isinstance(prompt, str) and getattr(prompt, "messages", None) is None:
        return prompt
    messages = _messages_of(prompt)
    if is_question(messages):
        return str(messages[0]["content"])
    return "\n\n".join(f"{message['role']}: {message['content']}" for message in messages)


def is_question(messages: Messages) -> bool:
    """Whether a conversation is a lone turn of the user, which its text says in full."""
    return len(messages) == 1 and messages[0].get("role") == "user"


def _messages_of(prompt: str | Messages) -> Messages:
    messages = getattr(prompt, "messages", None)
    if messages is not None:
        return messages
    return [{"role": "user", "content": prompt}] if isinstance(prompt, str) else prompt


def _count(ids: Any, token: int | None) -> int:
    number = 0
    for token_id in ids:
        if token_id != token:
            break
        number += 1
    return number


def _as_chat_template(before: str, behind: str) -> str:
    """The chat template of a format string; earlier turns end as an answer does, in EOS."""
    return (
        "{% for message in messages %}{% if message['role'] == 'assistant' %}"
        "{{ message['content'] + eos_token }}{% else %}"
        f"{{{{ {before!r} + message['content'] + {behind!r} }}}}"
        "{% endif %}{% endfor %}"
    )
