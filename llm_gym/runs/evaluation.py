"""How good a model's answers are: every held-out prompt once, with an interval.

Scores come with a 95 % bootstrap interval over prompts; answers can be held against a reference
model (perplexity, KL), which tells improvement from exploitation of the scorer.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from llm_gym.files.counting import counting
from llm_gym.files.ranges import check_choice, check_device, check_numbers
from llm_gym.policy.chunked_likelihood import answer_token_log_probs
from llm_gym.policy.sampling import widened
from llm_gym.runs.playing import (
    by_name,
    make_playing_env,
    number_of_prompts,
    play_prompts,
    policy_of,
    seeded_sampling,
)
from llm_gym.statistics.resampling import bootstrap_interval
from llm_gym.text.answer import Answer, Conversation, pack_answers, scores_of
from llm_gym.turns import TurnVectorEnv

if TYPE_CHECKING:
    from stable_baselines3.common.base_class import BaseAlgorithm
    from transformers import PreTrainedModel

    from llm_gym.language_models.model_objects import ModelLike
    from llm_gym.language_models.packing import TokenBatch
    from llm_gym.policy import TransformerActorCriticPolicy


@dataclass(frozen=True)
class Evaluation:
    """What `evaluate` found.

    Attributes:
        mean_score: Mean over prompts. Of conversations with a world, mean return.
        low: Lower end of the 95 % bootstrap interval of the mean.
        high: Upper end.
        mean_length: Mean number of tokens of an answer; of a conversation, those of the agent.
        share_ended: Share of answers that ended by themselves (EOS or stop string), and of
            conversations that the world ended.
        rows: One answer a prompt, in the order of the prompts.
        prompt_format: How prompts were shown.
        mean_turns: Mean number of the agent's turns in a conversation; None of answers.
        turns_low: Lower end of its 95 % bootstrap interval.
        turns_high: Upper end.
    """

    mean_score: float
    low: float
    high: float
    mean_length: float
    share_ended: float
    rows: tuple[Answer, ...]
    prompt_format: str = ""
    mean_turns: float | None = None
    turns_low: float | None = None
    turns_high: float | None = None

    @classmethod
    def of(cls, rows: Sequence[Answer]) -> Evaluation:
        """Summarises scored answers, of which there must be at least one."""
        scores = scores_of(rows)
        low, high = bootstrap_interval(scores)
        turns = np.array([row.turns for row in rows if isinstance(row, Conversation)])
        return cls(
            mean_score=float(scores.mean()),
            low=low,
            high=high,
            mean_length=float(np.mean([row.num_tokens for row in rows])),
            share_ended=float(np.mean([_has_ended(row) for row in rows])),
            rows=tuple(rows),
            **(_of_turns(turns.astype(np.float64)) if len(turns) else {}),
        )

    def to_dict(self) -> dict[str, Any]:
        """JSON-able form; token ids are left out, their number stays as `tokens`."""
        summary = asdict(replace(self, rows=()))
        summary = {name: value for name, value in summary.items() if value is not None}
        rows = [_row(row) for row in self.rows]
        return {**summary, "prompts": len(rows), "rows": rows}


def _has_ended(row: Answer) -> bool:
    if isinstance(row, Conversation):
        return row.end_reason == "world"
    return row.stop_reason != "length"


def _of_turns(turns: np.ndarray) -> dict[str, Any]:
    """Mean and interval of numbers of turns, float64 `(B,)`."""
    low, high = bootstrap_interval(turns)
    return {"mean_turns": float(turns.mean()), "turns_low": low, "turns_high": high}


def _row(row: Answer) -> dict[str, Any]:
    if isinstance(row, Conversation):
        said = {"messages": list(row.messages), "turns": row.turns, "end_reason": row.end_reason}
    else:
        said = {
            "prompt": row.prompt,
            "completion": row.completion,
            "stop_reason": row.stop_reason,
        }
    return {
        "prompt_index": row.prompt_index,
        **said,
        "score": row.score,
        "tokens": row.num_tokens,
    }


def evaluate(
    model: ModelLike | TransformerActorCriticPolicy | BaseAlgorithm,
    env: str | Mapping[str, Any],
    *,
    env_kwargs: Mapping[str, Any] | None = None,
    policy_kwargs: Mapping[str, Any] | None = None,
    max_prompts: int | None = None,
    num_envs: int = 32,
    deterministic: bool = False,
    seed: int = 0,
    device: torch.device | str = "cpu",
    progress_bar: bool = False,
) -> Evaluation:
    """Lets a model answer every prompt of an environment exactly once.

    With a world of turns (`llm_gym/Turns-v0`, or arguments with `world`) it has conversations, one
    for each of the seeds 0, 1, ..., and what is measured are returns and turns.

    A policy that is being trained is left as it was, its random state included.

    Args:
        model: Name or path of a causal language model, or a model (see
            `llm_gym.language_models.model_objects.named`), a policy, or an algorithm (its policy).
        env: Id of a registered text environment, or the arguments of `TextGenerationVectorEnv` (of
            `TurnVectorEnv` if `world` is one). For held-out prompts give a task that has them: the
            default of tasks with a `split` (`llm_gym/PoliteEmail-v0`, ...) here is `split="test"`.
        env_kwargs: Further arguments of the environment.
        policy_kwargs: Arguments of the policy made from a name or path (`temperature=`, ...).
        max_prompts: The first so many prompts only; None is all, and 100 conversations.
        num_envs: Answers written at the same time.
        deterministic: Take the most probable token instead of sampling.
        seed: Seed of the sampling.
        device: Where a model given by name runs.
        progress_bar: Show on standard error how many are done.

    Returns:
        Scores, interval and rows.

    Raises:
        ValueError: The prompts are a stream, or an argument does not fit.
    """
    check_numbers(seed=seed)
    check_choice("deterministic", deterministic, (True, False))
    check_device("device", device)
    model = by_name(model)
    vector_env = make_playing_env(
        env, env_kwargs, num_envs=num_envs, max_prompts=max_prompts, model=model
    )
    try:
        text_env: Any = vector_env.unwrapped
        indices = range(number_of_prompts(text_env, max_prompts))
        policy = policy_of(model, text_env, policy_kwargs, device)
        unit = "conversations" if isinstance(text_env, TurnVectorEnv) else "prompts"
        with (
            seeded_sampling(policy, seed),
            torch.no_grad(),
            counting("evaluating", len(indices), unit, quiet=not progress_bar) as advance,
        ):
            answers = []
            for answer in play_prompts(policy, vector_env, indices, deterministic=deterministic):
                answers.append(answer)
                advance(1)
    finally:
        vector_env.close()
    found = Evaluation.of(sorted(answers, key=lambda answer: answer.prompt_index))
    return replace(found, prompt_format=str(text_env.prompt_format))


def perplexity_under(
    model: PreTrainedModel, answers: Sequence[Answer], *, batch_size: int = 16
) -> float:
    """Perplexity of answers, given their prompts, under a model.

    Args:
        model: A causal language model in evaluation mode; gives logits at temperature 1.
        answers: Answers, of whatever model.
        batch_size: Answers per forward pass.

    Returns:
        exp of the mean negative log-likelihood of the answers' tokens, the ending one included.

    Raises:
        ValueError: If there are no answers.
    """
    total, count = 0.0, 0
    for batch in _batches(answers, batch_size, model.device):
        with torch.no_grad():
            log_probs = answer_token_log_probs(model, batch)  # (A,)
        total += float(log_probs.double().sum())
        count += len(log_probs)
    return float(np.exp(-total / count))


def sequence_kl(
    model: PreTrainedModel,
    reference: PreTrainedModel,
    answers: Sequence[Answer],
    *,
    temperature: float = 1.0,
    batch_size: int = 16,
) -> float:
    """KL(model || reference) of whole answers, in nats, estimated on answers that `model` sampled.

    At every token the divergence of the two distributions is computed exactly and summed over the
    answer. That has the same mean as the log-ratio of the sampled tokens, and less variance.

    Args:
        model: The model that sampled the answers.
        reference: The model it started from; same vocabulary, same device.
        answers: Sampled answers (not greedy ones).
        temperature: At which they were sampled.
        batch_size: Answers per forward pass.

    Returns:
        Mean over answers.

    Raises:
        ValueError: If there are no answers.
    """
    total = 0.0
    for batch in _batches(answers, batch_size, model.device):
        log_probs, reference_log_probs = (
            (_answer_logits(network, batch) / temperature).log_softmax(-1)  # (A, V)
            for network in (model, reference)
        )
        divergence = (log_probs.exp() * (log_probs - reference_log_probs)).sum(-1)  # (A,)
        total += float(divergence.double().sum())
    return total / len(answers)


def _batches(
    answers: Sequence[Answer], batch_size: int, device: torch.device
) -> Iterator[TokenBatch]:
    if not answers:
        raise ValueError("answers is empty: there are no answers to look at")
    for start in range(0, len(answers), batch_size):
        yield pack_answers(answers[start : start + batch_size], device=device)


@torch.no_grad()
def _answer_logits(model: PreTrainedModel, batch: TokenBatch) -> torch.Tensor:
    """Logits that predict the answers' tokens: float `(A, V)`, float32 or wider."""
    logits = model(input_ids=batch.input_ids, use_cache=False).logits  # (B, S, V)
    return widened(logits[batch.answer_rows, batch.answer_slots - 1])
