"""What both kinds of reward model are told about their training."""

from __future__ import annotations

import math
from dataclasses import dataclass

from llm_gym.files.settings import setting
from llm_gym.supervised.loop import check_training_settings

__all__ = ["FittingSettings"]


@dataclass(frozen=True)
class FittingSettings:
    """Settings that training on comparisons and training on ratings share.

    Raises:
        ValueError: A value is out of range, by name.
    """

    model: str = setting(
        "llm_gym/email-sft", "model to start from, by embedded or hub name, or directory"
    )
    template: str = setting(
        "auto",
        "how prompt and text become the model's input: chat for the tokenizer's chat template, "
        "pair, or a format string with {completion} and perhaps {prompt}",
    )
    max_length: int = setting(
        0,
        "tokens of a text, its prompt included; what is longer is cut from the left; 0 for what "
        "the model can read",
    )
    epochs: int = setting(1, "passes over the examples")
    batch_size: int = setting(16, "examples per step")
    learning_rate: float = setting(3e-4, "peak of the cosine schedule")
    warmup_share: float = setting(0.05, "share of the steps that warm up")
    final_share: float = setting(0.05, "last learning rate as a share of the peak")
    weight_decay: float = setting(0.01, "decay of the weight matrices")
    adam_epsilon: float = setting(
        1e-8,
        "gradients far smaller than this move their weights in proportion to their size, as "
        "without Adam, so that a word's embedding moves the less the rarer the word. At 1e-8 "
        "all embeddings move alike, and those of rare words may learn texts by heart",
    )
    max_grad_norm: float = setting(1.0, "longer gradients are clipped")
    dropout: bool = setting(False, "leave the model's own dropout on while training")
    held_out_share: float = setting(
        0.1, "share that is held out to measure on, if nothing held out is given"
    )
    seed: int = setting(0, "seed of the head, of the order of examples and of dropout")
    weights: str = setting("float32", "type of the stored weights: float32, float16 or bfloat16")
    device: str = setting("cpu", "where to train: cpu or cuda, for example")

    def __post_init__(self) -> None:
        check_training_settings(self)
        if not 0 < self.adam_epsilon < math.inf:
            raise ValueError(f"adam_epsilon must be positive, got {self.adam_epsilon!r}")
