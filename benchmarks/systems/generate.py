"""`transformers`' own `generate`: sampling from the whole distribution, nothing else.

It returns tokens only: no log-probabilities, no values, no scores. That is less than a rollout
needs, so a comparison with it favours it.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from benchmarks.systems.base import Batch, Clock
from benchmarks.systems.trl_ends import end_as_told
from benchmarks.workload import (
    END,
    PAD,
    Workload,
    build_model,
    build_prompt_ids,
    build_prompts,
    build_tokenizer,
)


class Generate:
    """Rollouts by `model.generate`."""

    def __init__(self, workload: Workload, seed: int, settings: dict[str, Any]) -> None:
        self.workload = workload
        self.rollout_clock = Clock(workload.device)
        self.model = build_model(workload).eval()
        self.prompts = build_prompt_ids(workload)
        self.masks = np.ones_like(self.prompts)
        if workload.is_ragged:
            read = build_tokenizer(workload)(build_prompts(workload), padding=True)
            self.prompts = np.array(read["input_ids"])
            self.masks = np.array(read["attention_mask"])
            end_as_told(self.model, workload, seed)
        self.rng = np.random.default_rng(seed)
        torch.manual_seed(seed)  # `generate` samples from the global generator
        self.settings = {
            "do_sample": True,
            "top_k": 0,
            "top_p": 1.0,
            "temperature": 1.0,
            "max_new_tokens": workload.new_tokens,
            "eos_token_id": END if workload.is_ragged else None,
            "pad_token_id": PAD if workload.is_ragged else 0,
            **settings,
        }

    def rollout_batch(self) -> Batch:
        """Continues one batch of prompts."""
        w = self.workload
        rows = self.rng.integers(len(self.prompts), size=w.episodes)
        ids, mask = (
            torch.from_numpy(part[rows]).to(w.device) for part in (self.prompts, self.masks)
        )
        output = self.model.generate(ids, attention_mask=mask, **self.settings)
        new = output[:, ids.shape[1] :]
        written = torch.ones_like(new, dtype=torch.bool)
        if w.is_ragged:
            written = (new == END).cumsum(1) - (new == END).long() == 0  # the end is of the answer
        reward = (new < w.favoured)[written].float().mean().item()
        return Batch(int(written.sum()), reward)


def build(workload: Workload, *, seed: int = 0, cache: str | None = None) -> Generate:
    """The system; `cache` is the `cache_implementation` of `generate`, None for its default.

    On CUDA `cache="static"` makes `generate` compile the model, as its authors intend.
    """
    return Generate(workload, seed, {} if cache is None else {"cache_implementation": cache})
