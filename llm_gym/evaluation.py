"""How good a model's answers are: every held-out prompt once, with an interval.

Scores come with a 95 % bootstrap interval over prompts; answers can be held against a reference
model (perplexity, KL), which tells improvement from exploitation of the scorer.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import gymnasium as gym
import numpy as np
import torch
from gymnasium.vector import AutoresetMode
from stable_baselines3.common.utils import obs_as_tensor

from llm_gym.likelihood import perplexity_under, sequence_kl
from llm_gym.policy import TransformerActorCriticPolicy
from llm_gym.text import TextGenerationVectorEnv

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from stable_baselines3.common.base_class import BaseAlgorithm

__all__ = [
    "AnswerRow",
    "Evaluation",
    "bootstrap_interval",
    "evaluate",
    "make_text_vector_env",
    "perplexity_under",
    "sequence_kl",
]


class AnswerRow(NamedTuple):
    """One answer to one prompt.

    Attributes:
        prompt_index: place of the prompt in the environment's list.
        prompt: as text.
        completion: as text, without special tokens and stop string.
        score: the episode's reward: the scorer's value, or the penalty of an unscored episode.
        stop_reason: `eos`, `stop_string` or `length`.
        prompt_ids: token ids the model was given.
        completion_ids: token ids it chose, the one that ended the episode included.
    """

    prompt_index: int
    prompt: str
    completion: str
    score: float
    stop_reason: str
    prompt_ids: tuple[int, ...]
    completion_ids: tuple[int, ...]


@dataclass(frozen=True)
class Evaluation:
    """What `evaluate` found.

    Attributes:
        mean_score: mean over prompts.
        low: lower end of the 95 % bootstrap interval of the mean.
        high: upper end.
        mean_length: mean number of tokens of an answer.
        share_ended: share of answers that ended by themselves (EOS or stop string).
        rows: one row a prompt, in the order of the prompts.
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
        model: name or path of a causal language model, a policy, or an algorithm (its policy).
        env: id of a registered text environment, or the arguments of `TextGenerationVectorEnv`.
            For held-out prompts give a task that has them: the default of
            tasks with a `split` (`llm_gym/PoliteEmail-v0`, ...) here is `split="test"`.
        env_kwargs: further arguments of the environment.
        policy_kwargs: arguments of the policy made from a name or path (`temperature=`, ...).
        max_prompts: the first so many prompts only; None is all.
        num_envs: answers written at the same time.
        deterministic: take the most probable token instead of sampling.
        seed: seed of the sampling.
        device: where a model given by name runs.

    Returns:
        Scores, interval and rows.

    Raises:
        ValueError: the prompts are a stream, or an argument does not fit.
    """
    vector_env = _make_env(env, dict(env_kwargs or {}), num_envs, max_prompts)
    try:
        text_env = vector_env.unwrapped
        assert isinstance(text_env, TextGenerationVectorEnv)
        indices = range(_number_of_prompts(text_env, max_prompts))
        policy = _as_policy(model, text_env, dict(policy_kwargs or {}), device)
        with _sampling_from(policy, seed), torch.no_grad():
            rows = sorted(_answers(policy, vector_env, indices, deterministic))
    finally:
        vector_env.close()
    return Evaluation.of(rows)


def make_text_vector_env(env: str, **kwargs: Any) -> gym.vector.VectorEnv:
    """`gymnasium.make_vec`, for text environments only.

    Args:
        env: registered id.
        **kwargs: arguments of the environment, `num_envs` among them.

    Returns:
        The environment.

    Raises:
        ValueError: the environment is not one of text.
    """
    try:
        made = gym.make_vec(env, **kwargs)
    except TypeError as error:
        if "unexpected keyword argument" not in str(error):
            raise
        raise ValueError(f"env={env!r} is no text environment ({error})") from error
    if not isinstance(made.unwrapped, TextGenerationVectorEnv):
        raise ValueError(f"env={env!r} is no text environment")
    return made


def bootstrap_interval(
    values: NDArray[np.float64], *, level: float = 0.95, resamples: int = 2000, seed: int = 0
) -> tuple[float, float]:
    """Percentile bootstrap interval of the mean (Efron and Tibshirani, 1993, chapter 13).

    Args:
        values: float `(n,)`, n at least 1; one number an independent unit, here a prompt.
        level: probability that the interval shall cover.
        resamples: how often to resample.
        seed: seed of the resampling, fixed so that a result has one interval.

    Returns:
        Lower and upper end.
    """
    rng = np.random.default_rng(seed)
    means = [values[rng.integers(len(values), size=len(values))].mean() for _ in range(resamples)]
    low, high = np.quantile(means, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


# ------------------------------------------------------------------ playing the episodes


def _make_env(
    env: str | Mapping[str, Any], kwargs: dict[str, Any], num_envs: int, max_prompts: int | None
) -> gym.vector.VectorEnv:
    if num_envs < 1:
        raise ValueError(f"num_envs must be at least 1, got {num_envs}")
    if max_prompts is not None:
        if max_prompts < 1:
            raise ValueError(f"max_prompts must be at least 1 or None, got {max_prompts}")
        num_envs = min(num_envs, max_prompts)
    # Rows are reset by hand: each to the next prompt that nobody has answered yet.
    kwargs |= {"num_envs": num_envs, "autoreset_mode": AutoresetMode.DISABLED}
    if not isinstance(env, str):
        return TextGenerationVectorEnv(**{**env, **kwargs})
    if env in gym.registry and gym.spec(env).kwargs.get("split") == "train":
        kwargs.setdefault("split", "test")
    return make_text_vector_env(env, **kwargs)


def _number_of_prompts(env: TextGenerationVectorEnv, max_prompts: int | None) -> int:
    if env.num_prompts is None:
        raise ValueError("the prompts are a stream; give a finite list of prompts to evaluate on")
    return env.num_prompts if max_prompts is None else min(max_prompts, env.num_prompts)


def _as_policy(
    model: str | Path | TransformerActorCriticPolicy | BaseAlgorithm,
    env: TextGenerationVectorEnv,
    policy_kwargs: dict[str, Any],
    device: torch.device | str,
) -> TransformerActorCriticPolicy:
    if isinstance(model, (str, Path)):
        # A new layer draws its first weights from the global generator, which is not ours to move.
        with torch.random.fork_rng(devices=[]):
            return TransformerActorCriticPolicy(
                env.single_observation_space,
                env.single_action_space,
                lambda _: 0.0,
                model=model,
                seed=0,
                **policy_kwargs,
            ).to(device)
    policy = getattr(model, "policy", model)
    if not isinstance(policy, TransformerActorCriticPolicy):
        raise TypeError(
            f"model must be a name, a path, a TransformerActorCriticPolicy or an algorithm that "
            f"has one, got {type(model).__name__}"
        )
    if policy_kwargs:
        raise ValueError(f"policy_kwargs={policy_kwargs} cannot change a policy that is given")
    return policy


@contextmanager
def _sampling_from(policy: TransformerActorCriticPolicy, seed: int) -> Iterator[None]:
    """Seeds the policy's sampling for the block, then gives it its own generator back."""
    own = policy.generator
    policy.generator = torch.Generator(own.device).manual_seed(seed)
    try:
        yield
    finally:
        policy.generator = own


def _answers(
    policy: TransformerActorCriticPolicy,
    env: gym.vector.VectorEnv,
    indices: Sequence[int],
    deterministic: bool,
) -> Iterator[AnswerRow]:
    """Plays one episode for each prompt index, as many at a time as the environment has rows.

    When no prompt is left, rows that are done repeat one until the last is finished, because a
    vector environment steps all its rows; those repetitions are not returned.
    """
    waiting = deque(indices)
    remaining = len(waiting)
    current = np.full(env.num_envs, -1)

    def assign(rows: NDArray[np.int64]) -> NDArray[np.int64]:
        for row in rows:
            current[row] = waiting.popleft() if waiting else -1
        return np.maximum(current, 0)

    everyone = np.arange(env.num_envs)
    obs, infos = env.reset(seed=0, options={"prompt_index": assign(everyone)})
    prompts = list(infos["prompt"])
    while remaining:
        actions, _, _ = policy(obs_as_tensor(obs, policy.device), deterministic)
        obs, rewards, terminated, truncated, infos = env.step(actions.cpu().numpy())
        ended = terminated | truncated
        if not ended.any():
            continue
        for row in np.flatnonzero(ended).tolist():
            if current[row] >= 0:
                remaining -= 1
                yield _row(int(current[row]), prompts[row], obs, infos, row, float(rewards[row]))
        options = {"reset_mask": ended, "prompt_index": assign(np.flatnonzero(ended))}
        obs, infos = env.reset(options=options)
        for row in np.flatnonzero(ended).tolist():
            prompts[row] = infos["prompt"][row]


def _row(
    index: int,
    prompt: str,
    obs: Mapping[str, NDArray[Any]],
    infos: Mapping[str, Any],
    row: int,
    score: float,
) -> AnswerRow:
    ids = obs["input_ids"][row]
    is_token = obs["attention_mask"][row].astype(bool)
    is_action = obs["completion_mask"][row].astype(bool)
    return AnswerRow(
        prompt_index=index,
        prompt=str(prompt),
        completion=str(infos["completion"][row]),
        score=score,
        stop_reason=str(infos["stop_reason"][row]),
        prompt_ids=tuple(ids[is_token & ~is_action].tolist()),
        completion_ids=tuple(ids[is_action].tolist()),
    )
