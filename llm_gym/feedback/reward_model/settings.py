"""What both kinds of reward model are told about their training."""

from __future__ import annotations

import math
from dataclasses import dataclass

from llm_gym.supervised.loop import check_training_settings

__all__ = ["FittingSettings"]


@dataclass(frozen=True)
class FittingSettings:
    """Settings that training on comparisons and training on ratings share.

    Attributes:
        model: Model to start from, by embedded or hub name, or directory.
        template: How prompt and text become the model's input: "chat" for the tokenizer's chat
            template, "pair", or a format string with {completion} and perhaps {prompt}.
        max_length: Tokens of a text, its prompt included; what is longer is cut from the left; 0
            for what the model can read.
        epochs: Passes over the examples.
        batch_size: Examples per step.
        learning_rate: Peak of the cosine schedule.
        warmup_share: Share of the steps that warm up.
        final_share: Last learning rate as a share of the peak.
        weight_decay: Decay of the weight matrices.
        adam_epsilon: Gradients far smaller than this move their weights in proportion to their
            size, as without Adam, so that a word's embedding moves the less the rarer the word. At
            1e-8 all embeddings move alike, and those of rare words may learn texts by heart.
        max_grad_norm: Longer gradients are clipped.
        dropout: Leave the model's own dropout on while training.
        held_out_share: Share that is held out to measure on, if nothing held out is given.
        seed: Seed of the head, of the order of examples and of dropout.
        weights: Type of the stored weights: float32, float16 or bfloat16.
        device: Where to train, for example "cpu" or "cuda".

    Raises:
        ValueError: A value is out of range, by name.
    """

    model: str = "llm_gym/email-sft"
    template: str = "auto"
    max_length: int = 0
    epochs: int = 1
    batch_size: int = 16
    learning_rate: float = 3e-4
    warmup_share: float = 0.05
    final_share: float = 0.05
    weight_decay: float = 0.01
    adam_epsilon: float = 1e-8
    max_grad_norm: float = 1.0
    dropout: bool = False
    held_out_share: float = 0.1
    seed: int = 0
    weights: str = "float32"
    device: str = "cpu"

    def __post_init__(self) -> None:
        check_training_settings(self)
        if not 0 < self.adam_epsilon < math.inf:
            raise ValueError(f"adam_epsilon must be positive, got {self.adam_epsilon!r}")
