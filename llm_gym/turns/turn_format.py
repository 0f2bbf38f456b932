r"""How what a world says is shown to a model: its first text as a prompt, later ones as increments.

An increment is everything that stands between two turns of the agent: what closes the agent's turn,
the world's text, and what asks for the next answer. By the tokenizer's chat template that is, say,

    <|im_end|>\n<|im_start|>user\nTEXT<|im_end|>\n<|im_start|>assistant\n

and without one `"\n{text}\n"`. It is encoded by itself and put behind what is there already, so
that nothing is ever tokenised twice. What a world says is text and nothing else: control tokens
come from the template alone.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from llm_gym.language_models.decoding import decode_after, special_ids
from llm_gym.text.vocabulary import Vocabulary

PLAIN = "\n{text}\n"
_ASKED, _ANSWER, _TEXT = "PROMPT-GOES-HERE", "ANSWER-GOES-HERE", "TEXT-GOES-HERE"


class TurnFormat:
    """The format in which one model is shown a world's texts.

    Args:
        vocabulary: Its tokenizer and prompt format.
        turn_template: Format string with `{text}`: all that stands between two turns of the agent.
            None takes the tokenizer's chat template, or `PLAIN` where that is not in use.

    Attributes:
        turn_template: The same, as it is used.

    Raises:
        ValueError: The chat template does not show a second question, or not always alike.
    """

    def __init__(self, vocabulary: Vocabulary, turn_template: str | None) -> None:
        self._vocabulary = vocabulary
        self._tokenizer: Any = vocabulary.tokenizer
        self._prompts = vocabulary.prompt_format
        if turn_template is None:
            turn_template = self._of_chat() if self._prompts.by_chat_template else PLAIN
        self.turn_template = turn_template
        self._before, self._behind = turn_template.split("{text}")
        self._begins_with_a_space = decode_after(
            self._tokenizer, self._encode("a"), self._encode("a"), skip_special_tokens=False
        ).startswith(" ")
        self._unknown = getattr(self._tokenizer, "unk_token_id", None)
        added = set(getattr(self._tokenizer, "added_tokens_decoder", {}))
        frame = self._encode(self._before + self._behind)
        ends = vocabulary.eos_token_ids.tolist()
        self._control = special_ids(self._tokenizer) | set(ends) | (added & set(frame))
        self._asked = self._control_of(self._first(_ASKED))
        self._framed = self._control_of(self._encode(self._framed_text(_TEXT)))

    def _of_chat(self) -> str:
        def after_answers(number: int) -> list[str]:
            asked = [f"{_TEXT}-{k}" for k in range(1, number)]
            turns: list[dict[str, str]] = [{"role": "user", "content": _ASKED}]
            for text in asked:
                turns.append({"role": "assistant", "content": _ANSWER})
                turns.append({"role": "user", "content": text})
            parts = self._prompts.render(turns).split(_ANSWER)[1:]
            return [part.replace(text, "{text}") for part, text in zip(parts, asked, strict=False)]

        found, again = after_answers(2), after_answers(3)
        if not found or "{text}" not in found[0]:
            raise ValueError(
                "the tokenizer's chat template does not show what follows an answer; pass "
                r'turn_template=, all that stands between two answers, as in "\n{text}\n"'
            )
        if again[1:] != found:
            raise ValueError(
                "the tokenizer's chat template shows a third question otherwise than a second one, "
                "so no increment can say it; pass turn_template=, all that stands between two "
                r'answers, as in "\n{text}\n"'
            )
        return found[0]

    # ------------------------------------------------------------------ to token ids

    def first(self, text: str) -> np.ndarray:
        """Token ids of the world's first text, as a prompt: int64 `(P,)`."""
        ids = self._first(text)
        if self._control_of(ids) != self._asked:
            before, *behind = self._prompts.render(_ASKED).split(_ASKED)
            ids = self._prompts.encode([before])[0]
            for part in behind:
                ids = [*ids, *self._text_after(ids, text)]
                ids += self._encode(part)
        return self._checked("the world's first text", ids)

    def _first(self, text: str) -> list[int]:
        return self._prompts.encode([self._prompts.render(text)])[0]

    def increment(self, text: str, last: int) -> np.ndarray:
        """Token ids of all that stands between two turns of the agent: int64 `(K,)`.

        Args:
            text: What the world says.
            last: The agent's last token. An end of turn that it has written is not written again.
        """
        ids = self._encode(self._framed_text(text))
        if self._control_of(ids) != self._framed:
            ids = self._encode(self._before)
            ids = [*ids, *self._text_after(ids, text), *self._encode(self._behind)]
        ids = self._without_its_space(ids, [last], self._framed_text(text))
        if ids and ids[0] == last and self._vocabulary.is_eos[last]:
            ids = ids[1:]
        return self._checked("the world's text", ids)

    def _framed_text(self, text: str) -> str:
        return self._before + text + self._behind

    def _text_after(self, before: Sequence[int], text: str) -> list[int]:
        """Token ids of a text in which nothing is a control token.

        A tokenizer may find one even where it was told not to look, in its own vocabulary: then the
        text is cut inside of whatever spells one.
        """
        ids = self._encode(text, split_special_tokens=True)
        if not self._forbidden(ids):
            return self._without_its_space(ids, before, text)
        spelled = [str(self._tokenizer.convert_ids_to_tokens(token)) for token in self._control]
        spelled.sort(key=len, reverse=True)
        pattern = "|".join(f"(?<={re.escape(s[0])})(?={re.escape(s[1:])})" for s in spelled if s)
        ids, found = [], list(before)
        for piece in re.split(pattern, text):
            more = self._encode(piece, split_special_tokens=True)
            more = self._without_its_space(more, found, piece)
            ids += more
            found += more
        unwanted = self._forbidden(ids)
        if unwanted:
            names = self._tokenizer.convert_ids_to_tokens(sorted(unwanted))
            raise ValueError(
                f"the tokenizer can write the world's text {text[:80]!r} only with {names}, which "
                "mean something else to the model: have the world say it in other words"
            )
        return ids

    def _without_its_space(self, ids: list[int], before: Sequence[int], text: str) -> list[int]:
        """Leaves out the space that a tokenizer of sentencepiece's kind puts before any text."""
        if not self._begins_with_a_space or not ids or self._shown(before, ids) == text:
            return ids
        return ids[1:] if self._shown(before, ids[1:]) == text else ids

    def _shown(self, before: Sequence[int], ids: Sequence[int]) -> str:
        return decode_after(self._tokenizer, before, ids, skip_special_tokens=False)

    def _control_of(self, ids: Iterable[int]) -> list[int]:
        return [token for token in ids if token in self._control]

    def _forbidden(self, ids: Iterable[int]) -> set[int]:
        # A word that it does not know is that, whatever else the id means.
        return set(self._control_of(ids)) - {self._unknown}

    def _encode(self, text: str, **keywords: bool) -> list[int]:
        if not text:
            return []
        encoded = self._tokenizer([text], add_special_tokens=False, verbose=False, **keywords)
        return list(encoded["input_ids"][0])

    def _checked(self, name: str, ids: Sequence[int]) -> np.ndarray:
        return self._vocabulary.checked_ids(f"the encoding of {name}", ids)
