"""`transformers`' own `generate` with the model of a real task: what inference alone takes."""

from __future__ import annotations

import numpy as np
import torch

from benchmarks.systems.base import Batch, Clock
from benchmarks.tasks import Tally, build_task
from benchmarks.workload import Workload
from llm_gym.language_models import load_causal_lm


class GenerateReal:
    """Answers to a batch of prompts, each asked for `group_size` times.

    Args:
        workload: Model, task and sizes of everything.
        seed: Seed of everything that is drawn.
    """

    def __init__(self, workload: Workload, seed: int) -> None:
        self.workload = workload
        self.rollout_clock = Clock(workload.device)
        self.task = build_task(workload, "")
        self.scorer = Tally(self.task.score)
        self.model = load_causal_lm(workload.model).to(workload.device)
        self.task.tokenizer.padding_side = "left"
        self.rng = np.random.default_rng(seed)
        torch.manual_seed(seed)  # `generate` samples from the global generator

    def rollout_batch(self) -> Batch:
        """Answers one batch of prompts and has the answers scored."""
        w, tokenizer = self.workload, self.task.tokenizer
        chosen = self.rng.choice(len(self.task.prompts), w.episodes // w.group_size, replace=False)
        rows = np.repeat(chosen, w.group_size)
        inputs = tokenizer(
            [self.task.prompts[row] for row in rows],
            return_tensors="pt",
            padding=True,
            add_special_tokens=False,
        ).to(w.device)
        output = self.model.generate(
            **inputs, do_sample=True, top_k=0, top_p=1.0, max_new_tokens=w.new_tokens
        )
        answers = output[:, inputs["input_ids"].shape[1] :]
        self.scorer.forget()
        self.scorer(
            [self.task.instructions[row] for row in rows],
            tokenizer.batch_decode(answers, skip_special_tokens=True),
        )
        written = int((answers != tokenizer.pad_token_id).sum())
        return Batch(written, self.scorer.last_mean)


def build(workload: Workload, *, seed: int = 0) -> GenerateReal:
    """The system."""
    return GenerateReal(workload, seed)
