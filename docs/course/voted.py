"""Emails to be compared, and how a language model reads them: for lessons 7 and 8."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Literal

import torch

from llm_gym.feedback.preferences.records import Comparison
from llm_gym.language_models import load_causal_lm, load_tokenizer
from llm_gym.polite_email import write_email
from llm_gym.polite_email.prompts import instruction
from llm_gym.polite_email.requests import combinations, draw_request


def email_comparisons(split: Literal["train", "test"], count: int, seed: int) -> list[Comparison]:
    """Pairs of emails that answer the same prompt, of any quality.

    Args:
        split: Requests to train on, or to measure on.
        count: How many.
        seed: Seed of the draws.
    """
    rng, pool = random.Random(seed), combinations(split)
    found: list[Comparison] = []
    while len(found) < count:
        request = draw_request(rng, pool)
        answers = write_email(rng, request), write_email(rng, request)
        if answers[0] != answers[1]:
            found.append(Comparison(instruction(rng, request), answers))
    return found


class Reader:
    """A language model that only reads: texts become vectors."""

    def __init__(self, model: str = "llm_gym/email-sft") -> None:
        self.trunk = load_causal_lm(model).base_model.eval()
        self.tokenizer = load_tokenizer(model)

    @torch.no_grad()
    def vectors(self, prompts: Sequence[str], answers: Sequence[str]) -> torch.Tensor:
        """The mean of the hidden states of each prompt with its answer, `(N, width)`."""
        pairs = zip(prompts, answers, strict=True)
        texts = [f"<|user|>{prompt}<|assistant|>{answer}" for prompt, answer in pairs]
        found = []
        for start in range(0, len(texts), 64):
            ids = self.tokenizer(texts[start : start + 64], return_tensors="pt", padding=True)
            ids = ids["input_ids"]
            present = ids != self.tokenizer.pad_token_id
            hidden = self.trunk(ids, attention_mask=present.long()).last_hidden_state
            found.append((hidden * present[..., None]).sum(1) / present.sum(1, keepdim=True))
        return torch.cat(found)
