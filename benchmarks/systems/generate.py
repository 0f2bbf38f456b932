"""`transformers`' own `generate`: sampling from the whole distribution, nothing else.

It returns tokens only: no log-probabilities, no values, no scores. That is less than a rollout
needs, so a comparison with it favours it.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from benchmarks.systems.base import Batch, Clock
from benchmarks.workload import Workload, build_model, build_prompt_ids


class Generate:
    """Rollouts by `model.generate`."""

    def __init__(self, workload: Workload, seed: int, settings: dict[str, Any]) -> None:
        self.workload = workload
        self.rollout_clock = Clock(workload.device)
        self.model = build_model(workload).eval()
        self.prompts = build_prompt_ids(workload)
        self.rng = np.random.default_rng(seed)
        torch.manual_seed(seed)  # `generate` samples from the global generator
        self.settings = {
            "do_sample": True,
            "top_k": 0,
            "top_p": 1.0,
            "temperature": 1.0,
            "max_new_tokens": workload.new_tokens,
            "eos_token_id": None,
            "pad_token_id": 0,
            **settings,
        }

    def rollout_batch(self) -> Batch:
        """Continues one batch of prompts."""
        w = self.workload
        rows = self.prompts[self.rng.integers(len(self.prompts), size=w.episodes)]
        ids = torch.from_numpy(rows).to(w.device)
        output = self.model.generate(ids, attention_mask=torch.ones_like(ids), **self.settings)
        assert output.shape == (w.episodes, w.length)
        reward = (output[:, w.prompt_tokens :] < w.favoured).float().mean().item()
        return Batch(w.tokens_per_batch, reward)


def build(workload: Workload, *, seed: int = 0, cache: str | None = None) -> Generate:
    """The system; `cache` is the `cache_implementation` of `generate`, None for its default.

    On CUDA `cache="static"` makes `generate` compile the model, as its authors intend.
    """
    return Generate(workload, seed, {} if cache is None else {"cache_implementation": cache})
