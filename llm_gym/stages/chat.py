"""A conversation with a language model, answer by answer and token by token."""

from __future__ import annotations

from collections.abc import Generator, Iterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any, NamedTuple

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file

from llm_gym.language_models import load_causal_lm, load_tokenizer
from llm_gym.language_models.architecture import (
    check_ids,
    context_length,
    decoder_of,
    vocabulary_size,
)
from llm_gym.language_models.chat import PromptFormat
from llm_gym.language_models.decoding import TokenTexts, decode_after
from llm_gym.language_models.embedded import resolve
from llm_gym.language_models.generation import unheard_end_ids
from llm_gym.language_models.model_objects import ModelLike, named
from llm_gym.policy.sampling import (
    LanguageModelHead,
    inverse_cdf_sample,
    most_probable,
    truncated_support,
)
from llm_gym.policy.transformer_policy import TRUNK, VALUE_HEAD_FILE
from llm_gym.stages.chat_settings import ChatConfig

_UNFINISHED = "\ufffd"  # what a decoder writes for a character whose last bytes are to come


ALTERNATIVES = 5
"""Tokens that are told beside the one that was chosen."""


class WrittenToken(NamedTuple):
    """A token of an answer, and what the model thought of it.

    Probabilities are the model's own, before temperature, `top_k` and `top_p`.

    Attributes:
        id: Its number.
        prob: Its probability.
        entropy: Of the choice, in nats.
        value: What the critic expected before it, in units of the reward; None without a critic.
        top: The most probable tokens with their probabilities, the first first.
    """

    id: int
    prob: float
    entropy: float
    value: float | None
    top: tuple[tuple[int, float], ...]


class Answer(NamedTuple):
    """An answer so far.

    Attributes:
        text: What can be read of it.
        tokens: All of it.
        texts: What each token adds to the text; of a character in several tokens the last has it.
        beginnings: What could be read behind each token.
    """

    text: str
    tokens: tuple[WrittenToken, ...]
    texts: tuple[str, ...]
    beginnings: tuple[str, ...]

    @classmethod
    def empty(cls) -> Answer:
        """One of which nothing is written yet."""
        return cls("", (), (), ())


class Conversation:
    """One model with what was said so far.

    Args:
        name: Name or path of a causal language model, or a model.
        config: How it answers.
        device: Where it runs.

    Attributes:
        name: As given.
        messages: What was said, as `[{"role": ..., "content": ...}, ...]`.
        has_critic: Whether a value head of ours lies beside the model.
        prompt_format: How the model is shown it.

    Raises:
        FileNotFoundError: See `load_causal_lm`.
        ValueError: It cannot be loaded, or has no token that ends an answer.
    """

    def __init__(self, name: ModelLike, config: ChatConfig, device: str = "cpu") -> None:
        name = named(name, "name")
        self.name, self.config = name, config
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
        self._critic = value_head(name, self._head.width)
        self._texts = TokenTexts(self.tokenizer)
        self._generator = torch.Generator(self.model.device)
        self.messages: list[dict[str, str]] = []
        self.reset()

    @property
    def has_critic(self) -> bool:
        """Whether its tokens have values."""
        return self._critic is not None

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
        return _texts_of(self.write(prompt))

    def write(self, prompt: str) -> Generator[Answer, None, None]:
        """Like `answer`, with what the model thought of each token.

        Args:
            prompt: What the user says.

        Returns:
            The answer so far, a token longer each time; written while it is read.

        Raises:
            ValueError: See `answer`.
        """
        asked = [*self.messages, {"role": "user", "content": prompt}]
        return self._write(*self._fitting(asked))

    def token_text(self, token: int) -> str:
        """What a token would add to a text."""
        return self._texts.of_token([token], token)

    def _write(
        self, ids: Sequence[int], messages: Sequence[dict[str, str]]
    ) -> Generator[Answer, None, None]:
        written: list[WrittenToken] = []
        beginnings: list[str] = []
        text = ""
        try:
            for token in self._tokens(ids):
                written.append(token)
                found = self._decoded(ids, written)
                if not found.endswith(_UNFINISHED):
                    text = found
                beginnings.append(text)
                yield self._answer(ids, written, beginnings)
            whole = self._decoded(ids, written)
            if whole != text:
                text = beginnings[-1] = whole
                yield self._answer(ids, written, beginnings)
        finally:
            self.messages = [*messages, {"role": "assistant", "content": text}]

    def _decoded(self, ids: Sequence[int], written: Sequence[WrittenToken]) -> str:
        chosen = [token.id for token in written]
        return decode_after(self.tokenizer, ids, chosen, skip_special_tokens=True)

    def _answer(
        self, ids: Sequence[int], written: Sequence[WrittenToken], beginnings: Sequence[str]
    ) -> Answer:
        texts = self._texts.of_answer(ids, [token.id for token in written])
        return Answer(beginnings[-1], tuple(written), tuple(texts), tuple(beginnings))

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
    def _tokens(self, ids: Sequence[int]) -> Iterator[WrittenToken]:
        """Samples until an end; the end itself is left out."""
        context = context_length(self.model)
        room = self.config.max_new_tokens
        room = room if context is None else min(room, context - len(ids))
        read = torch.tensor([ids], device=self.model.device)  # (1, S), then (1, 1)
        cache: Any = None
        for _ in range(room):
            output = self._decoder(input_ids=read, past_key_values=cache, use_cache=True)
            cache = output.past_key_values
            state = output.last_hidden_state[:, -1]  # (1, H)
            logits = self._head(state)  # (1, V)
            token = self._choose(logits)
            if token in self._ends:
                return
            yield self._told(token, logits[0], state[0])
            read = torch.tensor([[token]], device=self.model.device)

    def _told(self, token: int, logits: torch.Tensor, state: torch.Tensor) -> WrittenToken:
        """A token by its logits, float `(V,)`, and the hidden state that they come of, `(H,)`."""
        log_probs = logits.double().log_softmax(-1)
        probs = log_probs.exp()
        best = probs.topk(min(ALTERNATIVES, len(probs)))
        value = None if self._critic is None else float(self._critic(state.float().cpu()))
        return WrittenToken(
            token,
            float(probs[token]),
            float(-(probs * log_probs.nan_to_num(neginf=0.0)).sum()),
            value,
            tuple(zip(best.indices.tolist(), best.values.tolist(), strict=True)),
        )

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


def _texts_of(answers: Generator[Answer, None, None]) -> Generator[str, None, None]:
    with closing(answers):
        for answer in answers:
            yield answer.text


def value_head(name: str | Path, width: int) -> torch.nn.Linear | None:
    """The critic that a training run of ours left beside a model.

    None where there is none, or one that read the hidden states of a transformer of its own.

    Args:
        name: Name or path of the model.
        width: Of its hidden states.

    Raises:
        ValueError: There is one for another model.
    """
    path = Path(resolve(name)) / VALUE_HEAD_FILE
    if not path.is_file():
        return None
    head = torch.nn.Linear(width, 1)
    try:
        with safe_open(path, "pt") as opened:
            if (opened.metadata() or {}).get(TRUNK) == "critic":
                return None
        head.load_state_dict({n: p.float() for n, p in load_file(path).items()})
    except (SafetensorError, RuntimeError) as error:
        raise ValueError(
            f"{path} is not a value head for this model ({error}); delete it to chat without values"
        ) from error
    return head.requires_grad_(False)
