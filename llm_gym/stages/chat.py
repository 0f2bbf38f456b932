"""A conversation with a language model, answer by answer and token by token."""

from __future__ import annotations

from collections.abc import Generator, Iterator, Sequence
from pathlib import Path
from typing import Any

import torch

from llm_gym.language_models import load_causal_lm, load_tokenizer
from llm_gym.language_models.architecture import (
    check_ids,
    context_length,
    decoder_of,
    vocabulary_size,
)
from llm_gym.language_models.chat import PromptFormat
from llm_gym.language_models.decoding import decode_after
from llm_gym.language_models.generation import unheard_end_ids
from llm_gym.policy.sampling import (
    LanguageModelHead,
    inverse_cdf_sample,
    most_probable,
    truncated_support,
)
from llm_gym.stages.chat_settings import ChatConfig

_UNFINISHED = "\ufffd"  # what a decoder writes for a character whose last bytes are to come


class Conversation:
    """One model with what was said so far.

    Args:
        name: Name or path of a causal language model.
        config: How it answers.
        device: Where it runs.

    Attributes:
        name: As given.
        messages: What was said, as `[{"role": ..., "content": ...}, ...]`.
        prompt_format: How the model is shown it.

    Raises:
        FileNotFoundError: See `load_causal_lm`.
        ValueError: It cannot be loaded, or has no token that ends an answer.
    """

    def __init__(self, name: str | Path, config: ChatConfig, device: str = "cpu") -> None:
        self.name, self.config = str(name), config
        self.prompt_format = PromptFormat(load_tokenizer(name), config.prompt_template)
        self.tokenizer = self.prompt_format.tokenizer
        self.model = load_causal_lm(name, dtype=config.dtype).to(device)
        heard = self.prompt_format.end_token_ids()
        unheard = unheard_end_ids(self.model, heard, vocabulary_size(self.model))
        self._ends = frozenset([*heard, *unheard])
        if not self._ends:
            raise ValueError(
                f"nothing says which token ends an answer of {self.name!r}: neither its tokenizer "
                "nor its generation config; save the tokenizer with an eos_token"
            )
        self._decoder, self._head = decoder_of(self.model), LanguageModelHead(self.model)
        self._generator = torch.Generator(self.model.device)
        self.messages: list[dict[str, str]] = []
        self.reset()

    def reset(self) -> None:
        """Forgets what was said, and draws from the seed anew."""
        system = self.config.system
        self.messages = [] if system is None else [{"role": "system", "content": system}]
        self._generator.manual_seed(self.config.seed)

    def answer(self, prompt: str) -> Generator[str, None, None]:
        """Answers, and remembers both.

        Where the whole conversation leaves no room for an answer, its oldest turns are forgotten.
        Who stops reading the answer half-way has the model remember the half.

        Args:
            prompt: What the user says.

        Returns:
            The answer so far, longer each time; written while it is read.

        Raises:
            ValueError: The chat template refuses the conversation, or not even the prompt alone
                fits into the model's context.
        """
        asked = [*self.messages, {"role": "user", "content": prompt}]
        return self._write(*self._fitting(asked))

    def _write(
        self, ids: Sequence[int], messages: Sequence[dict[str, str]]
    ) -> Generator[str, None, None]:
        text, written = "", []
        try:
            for token in self._tokens(ids):
                written.append(token)
                found = decode_after(self.tokenizer, ids, written, skip_special_tokens=True)
                if not found.endswith(_UNFINISHED):
                    text = found
                    yield text
            whole = decode_after(self.tokenizer, ids, written, skip_special_tokens=True)
            if whole != text:
                text = whole
                yield text
        finally:
            self.messages = [*messages, {"role": "assistant", "content": text}]

    def _fitting(self, messages: list[dict[str, str]]) -> tuple[list[int], list[dict[str, str]]]:
        """Token ids of a conversation, and what of it is left where the context is too short."""
        context = context_length(self.model)
        while True:
            ids = self.prompt_format.encode([self.prompt_format.render(messages)])[0]
            if context is None or len(ids) < context:
                check_ids([ids], self.model, self.tokenizer)
                return ids, messages
            first = next(n for n, message in enumerate(messages) if message["role"] != "system")
            if first == len(messages) - 1:
                raise ValueError(
                    f"the prompt has {len(ids):,} tokens, and {self.name} reads at most "
                    f"{context:,}, the answer included; shorten it"
                )
            messages = messages[:first] + messages[first + 2 :]  # a question and its answer

    @torch.no_grad()
    def _tokens(self, ids: Sequence[int]) -> Iterator[int]:
        """Samples until an end; the end itself is left out."""
        context = context_length(self.model)
        room = self.config.max_new_tokens
        room = room if context is None else min(room, context - len(ids))
        read = torch.tensor([ids], device=self.model.device)  # (1, S), then (1, 1)
        cache: Any = None
        for _ in range(room):
            output = self._decoder(input_ids=read, past_key_values=cache, use_cache=True)
            cache = output.past_key_values
            token = self._choose(self._head(output.last_hidden_state[:, -1]))
            if token in self._ends:
                return
            yield token
            read = torch.tensor([[token]], device=self.model.device)

    def _choose(self, logits: torch.Tensor) -> int:
        """The next token by its logits, float `(1, V)`."""
        config = self.config
        if config.deterministic:
            return int(most_probable(logits.softmax(-1)))
        logits = logits / config.temperature
        support = truncated_support(logits, config.top_k, config.top_p)
        if support is not None:
            logits = logits.masked_fill(~support, -torch.inf)
        return int(inverse_cdf_sample(logits.softmax(-1), self._generator))
