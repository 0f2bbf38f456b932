"""A world whose every answer is listed: prompts, answers, a language model and a gold score."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.overoptimisation.settings import Settings

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerFast

Floats = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class World:
    """Everything there is, listed.

    Attributes:
        prompts: int64 `(P, 2)`, words of each prompt.
        answers: int64 `(A, T)`, words of each answer.
        probabilities: float64 `(P, A)`, of the initial policy.
        gold: float64 `(P, A)`, with mean 0 for each prompt and variance 1 over all, under the
            initial policy.
        model: Directory of the initial policy.
    """

    prompts: NDArray[np.int64]
    answers: NDArray[np.int64]
    probabilities: Floats
    gold: Floats
    model: Path

    def standardised(self, scores: Floats) -> Floats:
        """Scores with mean 0 for each prompt and variance 1 over all, under the initial policy."""
        return standardised(scores, self.probabilities)

    def texts(self) -> list[str]:
        """The prompts as text."""
        return [words_as_text(prompt) for prompt in self.prompts.tolist()]

    def scorer(self, scores: Floats, name: str) -> Any:
        """A scorer that looks its answers up.

        Args:
            scores: Score of each answer to each prompt, `(P, A)`.
            name: What messages and logs call it.
        """
        row_of = {text: row for row, text in enumerate(self.texts())}
        words = int(self.answers.max()) + 1

        def look_up(prompts: list[str], completions: list[str]) -> list[float]:
            numbers = (int(text.replace("w", "").replace(" ", ""), words) for text in completions)
            return [
                float(scores[row_of[prompt], number])
                for prompt, number in zip(prompts, numbers, strict=True)
            ]

        look_up.__name__ = name
        return look_up


def make_world(settings: Settings, seed: int, directory: Path) -> World:
    """Makes the world of a seed; its language model is saved into a directory."""
    from llm_gym.testing.tiny import tiny_model

    rng = np.random.default_rng([seed, 0])
    words, length = settings.words, settings.answer_words
    prompts = listed(words, 2)
    answers = listed(words, length)
    model = tiny_model(
        vocab_size=words,
        seed=seed,
        n_embd=settings.model_width,
        n_positions=2 + length,
        initializer_range=settings.model_spread,
    )
    model.save_pretrained(directory)
    probabilities = np.exp(log_probabilities(model, prompts, words, length))
    probabilities /= probabilities.sum(1, keepdims=True)  # float32 rounding of the model
    gold = standardised(gold_scores(settings, rng, prompts, answers), probabilities)
    return World(prompts, answers, probabilities, gold, directory)


def listed(words: int, length: int) -> NDArray[np.int64]:
    """All sequences, int64 `(words**length, length)`; row i spells i in base `words`."""
    digits = np.unravel_index(np.arange(words**length), (words,) * length)
    return np.stack(digits, axis=1).astype(np.int64)


def gold_scores(
    settings: Settings,
    rng: np.random.Generator,
    prompts: NDArray[np.int64],
    answers: NDArray[np.int64],
) -> Floats:
    """The true worth of every answer, `(P, A)`.

    Linear in the counts of the words, with weights that depend on both words of the prompt; less
    the squares of the counts, so that each word is worth having until there is enough of it; plus
    what neighbouring words are worth together.
    """
    words = settings.words
    by_prompt = settings.prompt_scale * rng.normal(size=(2, words, words))
    pairs = settings.pair_scale * rng.normal(size=(words, words))
    counts = word_counts(answers, words)  # (A, V)
    common = pairs[answers[:, :-1], answers[:, 1:]].sum(1) - settings.enough * (counts**2).sum(1)
    weights = by_prompt[0, prompts[:, 0]] + by_prompt[1, prompts[:, 1]]  # (P, V)
    return weights @ counts.T + common


def word_counts(answers: NDArray[np.int64], words: int) -> Floats:
    """How often each word occurs, `(A, V)`."""
    return np.stack([(answers == word).sum(1) for word in range(words)], axis=1).astype(np.float64)


def log_probabilities(
    model: PreTrainedModel, prompts: NDArray[np.int64], words: int, length: int
) -> Floats:
    """Log-probability of every answer to every prompt, `(P, words**length)`, from full passes."""
    import torch

    prefixes = listed(words, length - 1)
    tables = []
    for prompt in prompts:
        ids = torch.from_numpy(np.concatenate([np.tile(prompt, (len(prefixes), 1)), prefixes], 1))
        with torch.no_grad():
            parts = [model(part).logits[:, -length:].log_softmax(-1) for part in ids.split(4096)]
        log_probs = torch.cat(parts).double().numpy()  # (prefixes, T, V)
        total = np.zeros((words,) * length)
        for t in range(length):
            # Prefixes that begin alike are alike up to t: any of them will do.
            first = np.arange(words**t) * words ** (length - 1 - t)
            shape = (words,) * (t + 1) + (1,) * (length - 1 - t)
            total = total + log_probs[first, t].reshape(shape)
        tables.append(total.ravel())
    return np.stack(tables)


def standardised(scores: Floats, probabilities: Floats) -> Floats:
    """See `World.standardised`."""
    centred = scores - (probabilities * scores).sum(1, keepdims=True)
    return centred / np.sqrt((probabilities * centred**2).sum(1).mean())


def words_as_text(words: list[int]) -> str:
    """`w3 w0` for `[3, 0]`."""
    return " ".join(f"w{word}" for word in words)


def make_tokenizer(words: int) -> PreTrainedTokenizerFast:
    """A word-level tokenizer whose whole vocabulary is `w0 w1 ...`, with no special tokens."""
    from tokenizers import Tokenizer
    from tokenizers.models import WordLevel
    from tokenizers.pre_tokenizers import WhitespaceSplit
    from transformers import PreTrainedTokenizerFast

    table = {f"w{word}": word for word in range(words)}
    core = Tokenizer(WordLevel(table, unk_token="w0"))  # noqa: S106 - a token, not a password
    core.pre_tokenizer = WhitespaceSplit()
    return PreTrainedTokenizerFast(tokenizer_object=core)
