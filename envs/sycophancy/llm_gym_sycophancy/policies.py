"""Exact policies: the probability of every answer to every question.

An answer is an opening and a city (5 x 80 of them), so what a model does can be computed instead of
sampled, and what reinforcement learning with a KL penalty *should* do can be written down. Arrays
are indexed by question, opening and city: Q, O, C.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np

from llm_gym.language_models.embedded import PROMPT_TEMPLATE
from llm_gym.language_models.packing import pad
from llm_gym_sycophancy.answers import OPENINGS, judge
from llm_gym_sycophancy.facts import CITIES
from llm_gym_sycophancy.questions import Question

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

    Floats = NDArray[np.float64]

__all__ = ["AnswerPolicy", "Judgements", "answer_policy", "judgements", "single_token_cities"]

_BATCH = 256  # sequences of one forward pass


@dataclass(frozen=True)
class Judgements:
    """All answers to all questions, judged.

    Attributes:
        correct: float64 `(Q, 1, C)`, 1 where the city is the correct one.
        agrees: float64 `(Q, 1, C)`, 1 where it goes along with the user.
        claim_is_false: float64 `(Q, 1, 1)`, 1 where the user is wrong.
    """

    correct: Floats
    agrees: Floats
    claim_is_false: Floats


@dataclass(frozen=True)
class AnswerPolicy:
    """A distribution over the answers to each question.

    Attributes:
        questions: Q questions.
        probabilities: float64 `(Q, O, C)`; those of a question sum to 1.
        outside: float64 `(Q,)`, what the model spends on anything else than an answer. The
            probabilities are conditional on an answer; this says on how much they say nothing.
    """

    questions: tuple[Question, ...]
    probabilities: Floats
    outside: Floats

    def mean(self, values: Floats) -> Floats:
        """Expectation of a function of the answer.

        Args:
            values: `(Q, O, C)` or what broadcasts to it.

        Returns:
            float64 `(Q,)`.
        """
        return (self.probabilities * values).sum((1, 2))

    def covariance(self, first: Floats, second: Floats) -> Floats:
        """Covariance of two functions of the answer, float64 `(Q,)`."""
        centred = first - self.mean(first)[:, None, None]
        return self.mean(centred * second)

    def kl_to(self, reference: AnswerPolicy) -> Floats:
        """KL(self || reference) of the answers' distributions, in nats, float64 `(Q,)`."""
        ours, theirs = self.probabilities, reference.probabilities
        tiny = np.finfo(np.float64).tiny
        ratio = np.log(np.maximum(ours, tiny)) - np.log(np.maximum(theirs, tiny))
        return (ours * ratio).sum((1, 2))

    def tilted(self, rewards: Floats, strength: float) -> AnswerPolicy:
        """The policy proportional to `self * exp(strength * rewards)`.

        With `strength = 1 / beta` that is the optimum of `E[reward] - beta * KL(. || self)`
        (Korbak et al., https://arxiv.org/abs/2205.11275): what RLHF is after, exactly. The
        derivative of any `E[A]` in the strength is `Cov(A, reward)` (Shapira et al.,
        https://arxiv.org/abs/2602.01002), so the sign of that covariance under the *reference*
        says whether sycophancy grows.

        Args:
            rewards: `(Q, O, C)` or what broadcasts to it.
            strength: Optimisation pressure; 0 is this very policy.
        """
        exponents = strength * np.broadcast_to(rewards, self.probabilities.shape)
        exponents = exponents - exponents.max((1, 2), keepdims=True)
        weights = self.probabilities * np.exp(exponents)
        weights /= weights.sum((1, 2), keepdims=True)
        return AnswerPolicy(self.questions, weights, self.outside)


def judgements(questions: Sequence[Question]) -> Judgements:
    """Judges every answer to every question (`answers.judge`); read-only arrays."""
    return _judgements(tuple(questions))


@lru_cache(maxsize=32)  # the same questions are asked of many policies
def _judgements(questions: tuple[Question, ...]) -> Judgements:
    rows = [
        [judge(city, answer=q.answer, claim=q.claim, first=q.first) for city in CITIES]
        for q in questions
    ]
    table = np.array(rows, dtype=np.float64)  # (Q, C, 2)
    false = np.array([q.claim_is_false for q in questions], dtype=np.float64)
    table.flags.writeable = false.flags.writeable = False  # everybody gets the same ones
    return Judgements(table[:, None, :, 0], table[:, None, :, 1], false[:, None, None])


def answer_policy(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    questions: Sequence[Question],
    *,
    prompt_template: str = PROMPT_TEMPLATE,
) -> AnswerPolicy:
    """The distribution of a language model's answers, at temperature 1.

    One forward pass for each question and opening gives the probability of the opening and of all
    cities behind it. How the model ends the answer after the city makes no difference to what the
    answer says, so it is left out.

    Args:
        model: A causal language model with learned or no positions, in evaluation mode.
        tokenizer: Its tokenizer; every city must be one token of it.
        questions: Q questions.
        prompt_template: What stands around the prompt.

    Raises:
        ValueError: If a city is not a single token.
    """
    cities = single_token_cities(tokenizer)
    prompts = [prompt_template.format(prompt=question.prompt) for question in questions]
    prompt_ids: list[list[int]] = tokenizer(prompts, verbose=False)["input_ids"]
    joint = np.empty((len(questions), len(OPENINGS), len(CITIES)))
    for index, opening in enumerate(OPENINGS):
        opening_ids: list[int] = tokenizer(opening, add_special_tokens=False)["input_ids"]
        for start in range(0, len(questions), _BATCH):
            chosen = slice(start, start + _BATCH)
            joint[chosen, index] = _joint(model, prompt_ids[chosen], opening_ids, cities)
    inside = joint.sum((1, 2))
    return AnswerPolicy(tuple(questions), joint / inside[:, None, None], 1 - inside)


def single_token_cities(tokenizer: PreTrainedTokenizerBase) -> list[int]:
    """The token of each city, with the space before it.

    Args:
        tokenizer: The tokenizer.

    Raises:
        ValueError: If a city has another number of tokens than one, or is unknown.
    """
    encoded = tokenizer([f" {city}" for city in CITIES], add_special_tokens=False)["input_ids"]
    for city, ids in zip(CITIES, encoded, strict=True):
        if len(ids) != 1 or ids[0] == tokenizer.unk_token_id:
            raise ValueError(
                f"the tokenizer has no single token for {city!r} (it gives {ids}); exact policies "
                "need one for each city, as the tokenizer of llm_gym/facts-sft has"
            )
    return [ids[0] for ids in encoded]


def _joint(
    model: PreTrainedModel, prompts: list[list[int]], opening: list[int], cities: list[int]
) -> Floats:
    """P(opening and city | prompt), float64 `(B, C)`."""
    import torch

    lengths = torch.tensor([len(ids) for ids in prompts])
    input_ids = pad([prompt + opening for prompt in prompts], device=model.device)  # (B, S)
    rows = torch.arange(len(prompts))[:, None]
    places = lengths[:, None] - 1 + torch.arange(len(opening) + 1)  # (B, T + 1)
    with torch.no_grad():
        logits = model(input_ids=input_ids, use_cache=False).logits.cpu()
    logits = logits[rows, places]  # (B, T + 1, V)
    log_probs = logits.double().log_softmax(-1)
    written = log_probs[:, :-1].gather(
        -1, torch.tensor(opening)[None, :, None].expand(len(prompts), -1, 1)
    )  # (B, T, 1)
    return (written.sum(1) + log_probs[:, -1, cities]).exp().numpy()
