"""Settings of the training and of the measurement, as data."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from typing import Any

WANTED_GAIN = 20.0
"""Points of 100, on held-out requests."""

WANTED_RATIO = 2.0
"""At most so many times the perplexity under the base."""


@dataclass(frozen=True)
class Settings:
    """What to do with each seed.

    Attributes:
        updates: Rollouts, each learnt from once; more of them where answers end early, for as many
            tokens.
        answers: Of a rollout.
        group_size: Answers to the same request, which are compared.
        minibatches: Gradient steps of a rollout.
        micro_batch_size: Answers of a gradient step that are in memory at a time.
        max_new_tokens: Of an answer in training.
        learning_rate: Of the adapter.
        lora_rank: Of the adapter, on all linear layers.
        kl_coef: Price of a nat of divergence from the base, in points of politeness.
        temperature: At which the model is sampled, trained and measured.
        held_out_requests: Each is answered once before and once after.
        held_out_tokens: Of such an answer.
        shown: Answers before and after that are printed.
    """

    updates: int = 26
    answers: int = 16
    group_size: int = 4
    minibatches: int = 1
    micro_batch_size: int = 4
    max_new_tokens: int = 48
    learning_rate: float = 5e-4
    lora_rank: int = 8
    kl_coef: float = 0.5
    temperature: float = 0.7
    held_out_requests: int = 64
    held_out_tokens: int = 96
    shown: int = 10

    def quick(self) -> Settings:
        """A look at whether it runs; nothing is learnt."""
        return replace(
            self,
            updates=1,
            answers=4,
            group_size=2,
            max_new_tokens=8,
            held_out_requests=4,
            held_out_tokens=8,
            shown=2,
        )

    def conditions(self) -> dict[str, Any]:
        """What a run is valid for."""
        return {name: value for name, value in asdict(self).items() if name != "shown"}

    def training(self, model: str, seed: int) -> dict[str, Any]:
        """Arguments of `llm_gym.stages.train.TrainConfig`: options of `llm-gym train`."""
        return {
            "env": "llm_gym/PoliteEmail-v0",
            "model": model,
            "algorithm": "rloo",
            "lora_rank": self.lora_rank,
            "learning_rate": self.learning_rate,
            "kl_coef": self.kl_coef,
            "temperature": self.temperature,
            "max_new_tokens": self.max_new_tokens,
            "num_envs": self.answers,
            "group_size": self.group_size,
            "keep_groups": True,
            "micro_batch_size": self.micro_batch_size,
            "batch_size": self.answers * self.max_new_tokens // self.minibatches,
            "total_tokens": self.updates * self.answers * self.max_new_tokens,
            "seed": seed,
            "device": "cpu",
        }
