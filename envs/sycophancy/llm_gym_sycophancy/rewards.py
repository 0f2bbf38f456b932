"""Rewards of every answer to every question: of a rater, of a reward model, corrected.

Arrays are indexed by question, opening and city, as in `policies`.
"""

from __future__ import annotations

import warnings
from collections import defaultdict
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from llm_gym.language_models.embedded import PROMPT_TEMPLATE
from llm_gym_sycophancy.answers import OPENINGS
from llm_gym_sycophancy.facts import CITIES
from llm_gym_sycophancy.policies import judgements, single_token_cities
from llm_gym_sycophancy.questions import Question

if TYPE_CHECKING:
    import torch
    from numpy.typing import NDArray
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

    Floats = NDArray[np.float64]

__all__ = ["classifier_rewards", "correction", "rater_rewards"]

_BATCH = 16  # prefixes of one forward pass, each of which goes on with every city
_SHAPE = (len(OPENINGS), len(CITIES))


def rater_rewards(
    questions: Sequence[Question], *, truth: float = 1.0, agreement: float = 0.0
) -> Floats:
    """A rater's utility: `truth * 1{correct} + agreement * 1{agrees with the user}`.

    Args:
        questions: Q questions.
        truth: What a correct answer is worth to the rater.
        agreement: The rater's agreement bias b.

    Returns:
        float64 `(Q, O, C)`.
    """
    verdicts = judgements(questions)
    utility = truth * verdicts.correct + agreement * verdicts.agrees
    return np.broadcast_to(utility, (len(questions), *_SHAPE)).copy()


def correction(questions: Sequence[Question]) -> Floats:
    """The agreement penalty of Shapira et al. (https://arxiv.org/abs/2602.01002).

    `r - weight * correction` takes off what agreement with a *false* claim earned, and leaves
    agreement with a user who is right alone. With the rater's own b as the weight, false claims
    are treated exactly as by a rater without the bias.

    Args:
        questions: Q questions.

    Returns:
        `1{agrees} * 1{the user's claim is false}`, float64 `(Q, 1, C)`.
    """
    verdicts = judgements(questions)
    return verdicts.agrees * verdicts.claim_is_false


def classifier_rewards(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    questions: Sequence[Question],
    *,
    template: str = PROMPT_TEMPLATE + "{completion}",
) -> Floats:
    """Score every answer by a reward model, reading each prompt and opening once.

    The same numbers as `SequenceClassifierScorer` gives with this template, without reading the
    prompt again for each of 400 answers. Whether the model goes on rightly from what it has read
    is asked first; where it does not, every answer is read whole, with a warning.

    Args:
        model: A sequence classifier with one label on a decoder, as
            `AutoModelForSequenceClassification` loads it, in evaluation mode.
        tokenizer: Its tokenizer; every city must be one token of it.
        questions: Q questions.
        template: The text to score, with slots for prompt and completion.

    Returns:
        float64 `(Q, O, C)`, the raw scores (logits).

    Raises:
        ValueError: If a city is not a single token, or the classifier has several labels.
    """
    if model.config.num_labels != 1:
        raise ValueError(f"a reward model has one label, this one has {model.config.num_labels}")
    cities = single_token_cities(tokenizer)
    head, tail = template.split("{completion}")
    tail_ids: list[int] = tokenizer(f".{tail}", add_special_tokens=False)["input_ids"]
    texts = [head.format(prompt=q.prompt) + opening for q in questions for opening in OPENINGS]
    encoded: list[list[int]] = tokenizer(texts, verbose=False)["input_ids"]
    by_length: dict[int, list[int]] = defaultdict(list)
    for row, ids in enumerate(encoded):
        by_length[len(ids)].append(row)  # rows of one length share a cache without padding
    score = _scores if _goes_on_rightly(model, encoded, cities, tail_ids) else _whole_scores
    rewards = np.empty((len(texts), len(CITIES)))
    for rows in by_length.values():
        for start in range(0, len(rows), _BATCH):
            chosen = rows[start : start + _BATCH]
            rewards[chosen] = score(model, [encoded[row] for row in chosen], cities, tail_ids)
    return rewards.reshape(len(questions), *_SHAPE)


def _goes_on_rightly(
    model: PreTrainedModel, encoded: list[list[int]], cities: list[int], tail: list[int]
) -> bool:
    """Whether scores from a cache are those of whole texts, on the shortest and longest prefix."""
    import torch

    trouble = "scores differ from those of whole texts"
    for prefix in (min(encoded, key=len), max(encoded, key=len)):
        asked = ([prefix], cities[:3], tail)
        expected = _whole_scores(model, *asked)
        try:
            found = _scores(model, *asked)
        except Exception as error:  # whatever an architecture raises that wants another cache
            trouble = f"{type(error).__name__}: {error}"
            break
        tolerated = torch.finfo(model.dtype).eps ** 0.5
        if not np.allclose(found, expected, rtol=tolerated, atol=tolerated):
            break
    else:
        return True
    warnings.warn(
        f"a model of type {model.config.model_type!r} does not go on rightly from its cache "
        f"({trouble}); every answer is read whole instead, which is right but slower",
        stacklevel=3,
    )
    return False


def _whole_scores(
    model: PreTrainedModel, prefixes: list[list[int]], cities: list[int], tail: list[int]
) -> Floats:
    """As `_scores`, reading every text from its beginning."""
    import torch

    scores = np.empty((len(prefixes), len(cities)))
    with torch.no_grad():
        for row, prefix in enumerate(prefixes):
            texts = torch.tensor([[*prefix, city, *tail] for city in cities])  # (C, S)
            read = model.base_model(input_ids=texts, use_cache=False)
            scores[row] = model.score(read.last_hidden_state[:, -1])[:, 0].double().numpy()
    return scores


def _scores(
    model: PreTrainedModel, prefixes: list[list[int]], cities: list[int], tail: list[int]
) -> Floats:
    """Scores of the prefixes continued by each city and the tail, float64 `(B, C)`."""
    import torch

    endings = torch.tensor([[city, *tail] for city in cities])  # (C, T)
    with torch.no_grad():
        read = model.base_model(input_ids=torch.tensor(prefixes), use_cache=True)
        cache = read.past_key_values
        cache.batch_repeat_interleave(len(cities))
        hidden: torch.Tensor = model.base_model(
            input_ids=endings.repeat(len(prefixes), 1), past_key_values=cache, use_cache=True
        ).last_hidden_state  # (B * C, T, H)
        scores: torch.Tensor = model.score(hidden[:, -1])[:, 0]
    return scores.double().view(len(prefixes), len(cities)).numpy()
