"""Ends the answers of a peer's model as workload R wants them, in `generate`."""

from __future__ import annotations

from typing import Any

import torch
from transformers import LogitsProcessor, LogitsProcessorList

from benchmarks.workload import END, Workload, end_hazards


class _Ends(LogitsProcessor):
    """Leaves nothing but the end to rows that are to end.

    Args:
        hazards: float `(new_tokens,)`, see `end_hazards`.
        prompt_tokens: Tokens before the answers.
        generator: Draws the rows.
    """

    def __init__(
        self, hazards: torch.Tensor, prompt_tokens: int, generator: torch.Generator
    ) -> None:
        self.hazards, self.prompt_tokens, self.generator = hazards, prompt_tokens, generator

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        """Scores `(B, V)` of the next token after int64 `(B, S)`."""
        chance = torch.rand(len(scores), generator=self.generator, dtype=torch.float64)
        ends = chance < self.hazards[input_ids.shape[1] - self.prompt_tokens]
        scores = scores.masked_fill(ends[:, None], -torch.inf)
        scores[:, END] = scores[:, END].masked_fill(ends, 0.0)
        return scores


def end_as_told(model: Any, workload: Workload, seed: int) -> None:
    """Makes `model.generate` end answers with R's probabilities."""
    generate, hazards = model.generate, end_hazards(workload)
    generator = torch.Generator().manual_seed(seed)

    def ended(inputs: torch.Tensor | None = None, **keywords: Any) -> Any:
        ids = inputs if inputs is not None else keywords["input_ids"]
        ends = _Ends(hazards, ids.shape[1], generator)
        keywords["logits_processor"] = LogitsProcessorList([ends])
        keywords.setdefault("eos_token_id", END)
        if inputs is not None:
            return generate(inputs, **keywords)
        return generate(**keywords)

    model.generate = ended
