"""How good a model's answers are: every held-out prompt once, with an interval.

Scores come with a 95 % bootstrap interval over prompts; answers can be held against a reference
model (perplexity, KL), which tells improvement from exploitation of the scorer.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from llm_gym.runs.answering import (
    AnswerRow,
    answer_prompts,
    make_answering_env,
    number_of_prompts,
    policy_of,
    sampling_from,
)
from llm_gym.statistics.resampling import bootstrap_interval
from llm_gym.text import TextGenerationVectorEnv

if TYPE_CHECKING:
    from stable_baselines3.common.base_class import BaseAlgorithm

    from llm_gym.policy import TransformerActorCriticPolicy

__all__ = [
    "Evaluation",
    "evaluate",
]


@dataclass(frozen=True)
class Evaluation:
    """What `evaluate` found.

    Attributes:
        mean_score: Mean over prompts.
        low: Lower end of the 95 % bootstrap interval of the mean.
        high: Upper end.
        mean_length: Mean number of tokens of an answer.
        share_ended: Share of answers that ended by themselves (EOS or stop string).
        rows: One row a prompt, in the order of the prompts.
    """

    mean_score: float
    low: float
    high: float
    mean_length: float
    share_ended: float
    rows: tuple[AnswerRow, ...]

    @classmethod
    def of(cls, rows: Sequence[AnswerRow]) -> Evaluation:
        """Summarises rows, of which there must be at least one."""
        scores = np.array([row.score for row in rows])
        low, high = bootstrap_interval(scores)
        return cls(
            mean_score=float(scores.mean()),
            low=low,
            high=high,
            mean_length=float(np.mean([len(row.completion_ids) for row in rows])),
            share_ended=float(np.mean([row.stop_reason != "length" for row in rows])),
            rows=tuple(rows),
        )

    def to_dict(self) -> dict[str, Any]:
        """JSON-able form; token ids are left out, their number stays as `tokens`."""
        summary = {name: value for name, value in asdict(self).items() if name != "rows"}
        rows = [
            {
                "prompt_index": row.prompt_index,
                "prompt": row.prompt,
                "completion": row.completion,
                "score": row.score,
                "tokens": len(row.completion_ids),
                "stop_reason": row.stop_reason,
            }
            for row in self.rows
        ]
        return {**summary, "prompts": len(rows), "rows": rows}


def evaluate(
    model: str | Path | TransformerActorCriticPolicy | BaseAlgorithm,
    env: str | Mapping[str, Any],
    *,
    env_kwargs: Mapping[str, Any] | None = None,
    policy_kwargs: Mapping[str, Any] | None = None,
    max_prompts: int | None = None,
    num_envs: int = 32,
    deterministic: bool = False,
    seed: int = 0,
    device: torch.device | str = "cpu",
) -> Evaluation:
    """Lets a model answer every prompt of an environment exactly once.

    A policy that is being trained is left as it was, its random state included.

    Args:
        model: Name or path of a causal language model, a policy, or an algorithm (its policy).
        env: Id of a registered text environment, or the arguments of `TextGenerationVectorEnv`.
            For held-out prompts give a task that has them: the default of
            tasks with a `split` (`llm_gym/PoliteEmail-v0`, ...) here is `split="test"`.
        env_kwargs: Further arguments of the environment.
        policy_kwargs: Arguments of the policy made from a name or path (`temperature=`, ...).
        max_prompts: The first so many prompts only; None is all.
        num_envs: Answers written at the same time.
        deterministic: Take the most probable token instead of sampling.
        seed: Seed of the sampling.
        device: Where a model given by name runs.

    Returns:
        Scores, interval and rows.

    Raises:
        ValueError: The prompts are a stream, or an argument does not fit.
    """
    vector_env = make_answering_env(env, env_kwargs, num_envs=num_envs, max_prompts=max_prompts)
    try:
        text_env = vector_env.unwrapped
        assert isinstance(text_env, TextGenerationVectorEnv)
        indices = range(number_of_prompts(text_env, max_prompts))
        policy = policy_of(model, text_env, policy_kwargs, device)
        with sampling_from(policy, seed), torch.no_grad():
            rows = sorted(answer_prompts(policy, vector_env, indices, deterministic=deterministic))
    finally:
        vector_env.close()
    return Evaluation.of(rows)
