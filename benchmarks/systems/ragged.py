"""The policy of workload R: whether an answer ends is not the random model's to say."""

from __future__ import annotations

from typing import Any

import torch

import llm_gym
from benchmarks.workload import END, Workload, end_hazards
from llm_gym.policy.micro_batches import Observation


def policy_for(workload: Workload) -> type[llm_gym.TransformerActorCriticPolicy]:
    """The policy of a workload: the library's own, or one whose answers end as R's do."""
    if not workload.is_ragged:
        return llm_gym.TransformerActorCriticPolicy
    hazards = end_hazards(workload)

    class EndsAsTold(llm_gym.TransformerActorCriticPolicy):
        """Samples the end with R's probability of it, whatever the model says."""

        def forward(
            self, obs: Observation, deterministic: bool = False
        ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
            assert isinstance(obs, dict)
            self.written = obs["completion_mask"].sum(1).long()  # (N,)
            return super().forward(obs, deterministic)

        def _sample(self, probs: torch.Tensor) -> torch.Tensor:
            tokens: Any = super()._sample(probs)
            chance = torch.rand(len(tokens), generator=self.generator, dtype=torch.float64)
            return tokens.masked_fill(chance < hazards[self.written], END)

    return EndsAsTold
