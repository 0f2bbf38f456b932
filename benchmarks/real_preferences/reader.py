"""Reward models on a frozen encoder, fitted many times to parts of texts that are read once."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from llm_gym.feedback.reward_model.frozen import fit_frozen, pooled_features
from llm_gym.feedback.reward_model.layers import Features
from llm_gym.feedback.reward_model.parts import Task

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from llm_gym.feedback.reward_model import RatingModelConfig, RewardModelScorer

_CHECKED = 8  # texts that are read a second time, to see that they are scored alike


class Reader:
    """Fits frozen reward models, and scores with them, from features that are computed once.

    Args:
        texts: All texts of a benchmark.
        config: Model, head and limits of length; texts have no prompts.
    """

    def __init__(self, texts: Sequence[str], config: RatingModelConfig) -> None:
        self.config = config
        self._place: dict[str, int] = {}
        for text in texts:
            self._place.setdefault(text, len(self._place))
        self._values: NDArray[np.float32] | None = None
        self._poolings: list[str] = []
        self._layers = 0

    def fit(self, task: Task, **changes: Any) -> tuple[RewardModelScorer, dict[str, Any]]:
        """Fits a task, all of whose texts are the reader's; returns scorer and report.

        Args:
            task: Ratings or comparisons.
            **changes: Of the settings, `head` for example.
        """
        from dataclasses import replace

        from llm_gym.feedback.reward_model.fitting import scorer_to_train

        config = replace(self.config, **changes)
        scorer, _ = scorer_to_train(config)
        report, _ = fit_frozen(scorer, [""] * len(task), task, config, self._read)
        return scorer, report

    def rewards(self, scorer: RewardModelScorer, texts: Sequence[str]) -> NDArray[np.float64]:
        """What the scorer says of texts of the reader, float64 `(N,)`."""
        model = scorer.model
        values = np.full(len(texts), model.score.bias.item())
        if not model.reads_nothing:
            assert self._values is not None
            start = self._poolings.index(model.pooling) * self._layers
            places = [self._place[text] for text in texts]
            read = [self._values[start + layer][places] for layer in model.layers]
            weights = model.score.weight[0].detach().numpy().astype(np.float64)
            values = values + np.concatenate(read, axis=1) @ weights
        if scorer.words is not None:
            values = values + scorer.words(texts)
        few = list(texts[:_CHECKED])
        again = np.asarray(scorer([""] * len(few), few))
        np.testing.assert_allclose(values[: len(few)], again, atol=1e-3)
        return values

    def _read(
        self, scorer: RewardModelScorer, prompts: Sequence[str], task: Task, poolings: Sequence[str]
    ) -> Features:
        if self._values is None:
            rows = scorer.encode([""] * len(self._place), list(self._place))
            self._values = pooled_features(scorer.model, rows, poolings)
            self._poolings, self._layers = list(poolings), len(scorer.model.layers)
        places = [[self._place[text] for text in side] for side in task.sides]
        return Features(self._values, np.array(places))
