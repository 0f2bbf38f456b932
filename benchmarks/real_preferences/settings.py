"""Settings of the benchmark on real ratings, as data.

They were chosen on folds of another shuffle (seed 7, the first three of ten) than the measured one.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from typing import Any

from llm_gym.feedback.reward_model import RatingModelConfig


@dataclass(frozen=True)
class Backbone:
    """The encoder that is made from scratch: one layer, nearly a bag of words with neighbours.

    Attributes:
        width: Width of the embeddings and of the layer.
        window: Words that a word attends to, itself in the middle.
        spread: Standard deviation of the weights. The embeddings are wide enough apart that
            training moves them little against where they started.
        norm_eps: Added to the variance in every norm. Being far above the variance, it leaves
            lengths nearly as they are, so that a word counts in proportion to what was learnt of it
            and a rare word, of which little was learnt, counts little.
        embedding_dropout: Share of the embeddings that is dropped in training.
        mlp_dropout: The same inside the layer's feed-forward part.
        longest: Tokens of a text, at most.
        fewest: Occurrences of a word in the training folds, at least; rarer words are unknown ones.
    """

    width: int = 64
    window: int = 8
    spread: float = 0.1
    norm_eps: float = 1.0
    embedding_dropout: float = 0.3
    mlp_dropout: float = 0.1
    longest: int = 128
    fewest: int = 2


FROM_SCRATCH = RatingModelConfig(
    head="finetune",
    epochs=8,
    batch_size=32,
    learning_rate=1e-2,
    final_share=0.0,
    weight_decay=0.05,
    adam_epsilon=1e-3,
    token_dropout=0.2,
    dropout=True,
)


@dataclass(frozen=True)
class Settings:
    """What to do.

    Attributes:
        folds: Folds of the cross-validation.
        models: Reward models of each fold, that differ in their seed; their mean predicts.
        seed: Which texts are in which fold.
        checkpoint: Model to train further instead of a backbone from scratch; empty for none.
        backbone: What is made from scratch where there is no checkpoint.
        training: Training of each reward model; `model` and `seed` are set for each.
    """

    folds: int = 10  # as in the paper
    models: int = 2
    seed: int = 0
    checkpoint: str = ""
    backbone: Backbone = Backbone()
    training: RatingModelConfig = FROM_SCRATCH

    def quick(self) -> Settings:
        """All folds, with one reward model of each."""
        return replace(self, models=1)

    def starting_from(self, checkpoint: str, device: str) -> Settings:
        """Trains a model that was trained on other text before."""
        training = RatingModelConfig(
            head="finetune",
            epochs=3,
            batch_size=32,
            learning_rate=3e-5,
            warmup_share=0.1,
            weight_decay=0.01,
            max_length=self.backbone.longest,
            dropout=True,
            device=device,
        )
        return replace(self, checkpoint=checkpoint, training=training, models=1)

    def frozen(self, checkpoint: str, head: str, device: str) -> Settings:
        """Leaves a model as it is, and fits a head to it (`FittingConfig.head`)."""
        training = RatingModelConfig(
            model=checkpoint, head=head, too_long="truncate", device=device
        )
        return replace(self, checkpoint=checkpoint, training=training, models=1)

    def conditions(self) -> dict[str, Any]:
        """What a run depends on; more models leave those that are done valid."""
        return {name: value for name, value in asdict(self).items() if name != "models"}
