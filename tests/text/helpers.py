"""A byte-level tokenizer and a scorer that tests share."""

from __future__ import annotations

from typing import Any

from llm_gym.scorers import Scorer, Scores
from llm_gym.testing.tiny import tiny_tokenizer

PAD, EOS, UNK = 0, 1, 2
WORD = 3  # id of "w0"
PROMPTS = ["w1 w2", "w3", "w4 w5 w6", "w7 w8 w9 w10", "w2 w1"]


def word(n: int) -> int:
    """The id of the word "w<n>"."""
    return WORD + n


def byte_tokenizer():
    """One token a byte, as the alphabet of GPT-2: characters may span several tokens."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {token: i for i, token in enumerate(["<eos>", *alphabet])}
    core = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    core.decoder = decoders.ByteLevel()
    return PreTrainedTokenizerFast(tokenizer_object=core, eos_token="<eos>", pad_token="<eos>")


class Recorder(Scorer):
    """Scores the number of words, with parts, and keeps every batch it was given."""

    name = "recorder"

    def __init__(self) -> None:
        self.batches: list[tuple[list[str], list[str], dict[str, Any]]] = []

    def compute(self, prompts, completions, columns) -> Scores:
        self.batches.append((list(prompts), list(completions), dict(columns)))
        words = [float(len(completion.split())) for completion in completions]
        letters = [float(len(completion)) for completion in completions]
        return Scores([w + 0.5 for w in words], {"words": words, "letters": letters})


class SpyTokenizer:
    """Passes everything on to a tokenizer and keeps the texts it was asked to encode."""

    def __init__(self, tokenizer) -> None:
        self._tokenizer = tokenizer
        self.encoded: list[str] = []

    def __call__(self, texts, **keywords):
        self.encoded.extend(texts)
        return self._tokenizer(texts, **keywords)

    def encode(self, text, **keywords):
        self.encoded.append(text)
        return self._tokenizer.encode(text, **keywords)

    def __len__(self) -> int:
        return len(self._tokenizer)

    def __getattr__(self, name):
        return getattr(self._tokenizer, name)


def arguments(**overrides) -> dict[str, Any]:
    """Arguments of an environment on the tiny tokenizer."""
    defaults = {
        "tokenizer": tiny_tokenizer(),
        "prompts": PROMPTS,
        "scorer": Recorder(),
        "max_new_tokens": 5,
    }
    return defaults | overrides


def word_tokenizer(words: list[str], *, metaspace: bool = False, **keywords):
    """The given words and "<eos>" (id 0, also pad), decoded by joining or as SentencePiece does."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    vocabulary = {token: i for i, token in enumerate(["<eos>", *words])}
    core = Tokenizer(models.WordLevel(vocabulary, unk_token="<eos>"))
    core.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    if metaspace:
        core.pre_tokenizer = pre_tokenizers.Metaspace()
        core.decoder = decoders.Metaspace()
    special = {"eos_token": "<eos>", "pad_token": "<eos>"}
    return PreTrainedTokenizerFast(tokenizer_object=core, **special, **keywords)
