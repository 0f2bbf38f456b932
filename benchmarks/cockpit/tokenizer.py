"""A tokenizer whose words are whole readings, and embeddings that know their numbers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from llm_gym_autopilot.task import OBSERVATION_BOUNDS
from llm_gym_autopilot.words import MOST_CLICKS, NAMES, PAIRS, lines_of

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

_WORD = r" ?[a-z]+ [0-9]+| ?[a-z]+"  # "low 230", " climb 12", "stick", " back 2"
_NUMBERS = (*range(100), *range(100, 1000, 10), *range(1000, 10_000, 100))
_FREQUENCIES = (0.25, 0.5, 1.0, 2.0, 4.0, 8.0)  # the fastest tells a speed of 54 from one of 55
_SIZE = 0.1  # of an embedding's entries


def readings_tokenizer(context: int) -> PreTrainedTokenizerFast:
    """A token for each reading that the instruments can have, and for the words of answers.

    Args:
        context: Longest input of the model it is for.
    """
    from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers

    from llm_gym.supervised.documents import (
        ASSISTANT,
        END_OF_TEXT,
        PAD,
        USER,
        chat_tokenizer,
    )

    unknown = "<|unknown|>"
    ways, clicks = ("back", "forward", "up", "down"), range(1, MOST_CLICKS + 1)
    tokens = [END_OF_TEXT, PAD, USER, ASSISTANT, unknown, "hold", "stick", "throttle", " throttle"]
    tokens += [f" {way} {n}" for way in ways for n in clicks]
    most = _largest_numbers()
    for place, name in enumerate(NAMES):
        space = "" if place < 2 else " "  # a line begins with one of the first two
        tokens += [f"{space}{name} {n}" for n in _NUMBERS if n <= most[name]]
    vocabulary = {token: number for number, token in enumerate(dict.fromkeys(tokens))}
    core = Tokenizer(models.WordLevel(vocabulary, unk_token=unknown))
    core.pre_tokenizer = pre_tokenizers.Split(Regex(_WORD), "isolated")
    core.decoder = decoders.Fuse()
    return chat_tokenizer(core, context=context, unk_token=unknown)


def _largest_numbers() -> dict[str, int]:
    """The largest number that each reading can have: observations are cut off."""
    most: dict[str, int] = {}
    for line in lines_of(np.stack([OBSERVATION_BOUNDS, -OBSERVATION_BOUNDS])):
        said = line.split(" ")
        for name, number in zip(said[::2], said[1::2], strict=True):
            most[name] = max(int(number), most.get(name, 0))
    return most


def give_numbers(model: Any, tokenizer: PreTrainedTokenizerFast, seed: int) -> None:
    """Has the embeddings of readings begin as smooth functions of their numbers.

    Random embeddings would have to learn of 2,500 readings, one by one, which are alike. These
    are random all the same: random mixtures of waves, another for each instrument. What a reading
    means is learnt.

    Args:
        model: Its input embeddings are changed.
        tokenizer: From `readings_tokenizer`.
        seed: Of the mixtures.
    """
    import torch

    weights = model.get_input_embeddings().weight
    rng = np.random.default_rng(seed)
    sides = {name: (pair, sign) for pair in PAIRS for name, sign in zip(pair, (1, -1), strict=True)}
    mixtures = {
        pair: rng.normal(size=(2 + 2 * len(_FREQUENCIES), weights.shape[1])) for pair in PAIRS
    }
    with torch.no_grad():
        for token, row in tokenizer.get_vocab().items():
            name, _, number = token.strip().rpartition(" ")
            if not name or name not in sides:
                continue
            pair, sign = sides[name]
            place = sign * np.arcsinh(int(number) / 5)  # fine where it is small
            waves = np.outer(_FREQUENCIES, place)[:, 0]
            features = np.array([1.0, place / 3, *np.sin(waves), *np.cos(waves)])
            mixed = features @ mixtures[pair] / np.sqrt(len(features))
            weights[row] = torch.from_numpy(_SIZE * mixed).to(weights.dtype)
