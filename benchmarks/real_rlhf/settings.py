"""Settings of RLHF on real people's ratings, as data."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from typing import Any


@dataclass(frozen=True)
class Settings:
    """What to do.

    Attributes:
        seed: Which text is in which half, and the seed of all training.
        kl_coefs: Price of a nat of divergence from the base, one training each, in units of the
            proxy: a standard deviation of its rewards of people's requests.
        train_prompts: Tasks to train on.
        held_out_prompts: Tasks of other requests and subjects; each is answered once at every look.
        max_new_tokens: Of an answer.
        temperature: At which the model is sampled, trained and measured.
        answers: Of an update.
        group_size: Answers to the same prompt, which are compared.
        micro_batch_size: Answers that are read at a time.
        tokens: Of the answers of one training; 512 of an update if none ends by itself.
        look_every: Updates from one look at held-out prompts to the next.
        learning_rate: Of the adapter.
        lora_rank: Of the adapter, on all linear layers.
        lora_alpha: What it adds is multiplied by alpha / rank.
        shown: Answers of each look that are kept for people to read.
    """

    seed: int = 0
    kl_coefs: tuple[float, ...] = (0.1, 0.005)
    train_prompts: int = 192
    held_out_prompts: int = 48
    max_new_tokens: int = 32
    temperature: float = 0.7
    answers: int = 16
    group_size: int = 4
    micro_batch_size: int = 4
    tokens: int = 8_192
    look_every: int = 4
    learning_rate: float = 1e-3
    lora_rank: int = 8
    lora_alpha: int = 16
    shown: int = 10

    def quick(self) -> Settings:
        """One training of a few updates, to see that everything works."""
        return replace(
            self, kl_coefs=self.kl_coefs[:1], held_out_prompts=16, tokens=2_048, look_every=2
        )

    @property
    def planned_looks(self) -> int:
        """After the first, if no answer ends by itself."""
        return max(1, self.tokens // (self.answers * self.max_new_tokens * self.look_every))

    def conditions(self) -> dict[str, Any]:
        """What one training depends on, beside its own coefficient."""
        return {name: value for name, value in asdict(self).items() if name != "kl_coefs"}
