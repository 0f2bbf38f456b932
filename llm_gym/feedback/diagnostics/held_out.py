"""Proxy and gold on held-out prompts, for a model in the middle of its training."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from llm_gym.scorers.protocol import Columns, Scorer, Scores, as_scorer

if TYPE_CHECKING:
    from stable_baselines3.common.base_class import BaseAlgorithm

__all__ = ["HeldOutMeasure", "HeldOutScores"]


class HeldOutScores(NamedTuple):
    """Scores of one answer to each held-out prompt, in the order of the prompts.

    Attributes:
        gold: float64 `(P,)`.
        proxy: float64 `(P,)`.
    """

    gold: np.ndarray
    proxy: np.ndarray


class HeldOutMeasure:
    """Lets a model answer held-out prompts, and asks proxy and gold scorer what that is worth.

    The same random numbers are used every time, so that two moments differ by what was learnt
    rather than by luck. Every answer is judged, also one that the length limit cuts off. The model
    and its random state are left as they were.

    Args:
        env: Id of a registered text environment, or arguments of `TextGenerationVectorEnv`; with
            the held-out prompts, which should differ in their text.
        proxy: The scorer that is trained on.
        gold: The scorer that is not.
        env_kwargs: Further arguments of the environment.
        max_prompts: The first so many prompts only; None is all.
        num_envs: Answers written at the same time.
        seed: Seed of the sampling.

    Raises:
        TypeError: A scorer is not callable.
    """

    def __init__(
        self,
        env: str | Mapping[str, Any],
        proxy: Scorer | Callable[..., Any],
        gold: Scorer | Callable[..., Any],
        *,
        env_kwargs: Mapping[str, Any] | None = None,
        max_prompts: int | None = None,
        num_envs: int = 32,
        seed: int = 0,
    ) -> None:
        self._env = env
        self._recorder = _Recorder(as_scorer(proxy), as_scorer(gold))
        self._env_kwargs = dict(env_kwargs or {})
        self._max_prompts, self._num_envs, self._seed = max_prompts, num_envs, seed

    def __call__(self, algorithm: BaseAlgorithm) -> HeldOutScores:
        """Measures.

        Args:
            algorithm: Its policy must be a `TransformerActorCriticPolicy`.

        Returns:
            Both scores of every prompt.

        Raises:
            ScorerError: One of the scorers failed.
        """
        from llm_gym.runs.evaluation import evaluate

        recorder = self._recorder
        recorder.seen.clear()
        judged = {
            "scorer": recorder,
            "on_max_length": "terminate",
            "on_scorer_error": "raise",
        }
        evaluation = evaluate(
            algorithm,
            self._env,
            env_kwargs={**self._env_kwargs, **judged},
            max_prompts=self._max_prompts,
            num_envs=self._num_envs,
            seed=self._seed,
        )
        gold = [recorder.seen[row.prompt, row.completion] for row in evaluation.rows]
        return HeldOutScores(np.array(gold), np.array([row.score for row in evaluation.rows]))


class _Recorder(Scorer):
    """Gives the proxy's score, and remembers the gold score of each answer."""

    name = "held_out"

    def __init__(self, proxy: Scorer, gold: Scorer) -> None:
        self.proxy, self.gold = proxy, gold
        self.seen: dict[tuple[str, str], float] = {}

    def compute(self, prompts: list[str], completions: list[str], columns: Columns) -> Scores:
        scores = self.proxy.score(prompts, completions, columns)
        gold = self.gold.score(prompts, completions, columns).values
        for prompt, completion, value in zip(prompts, completions, gold.tolist(), strict=True):
            self.seen.setdefault((prompt, completion), value)
        return Scores(scores.values, {})
