"""Where comparisons come from: a file of pairs, or a model that answers every prompt twice."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from llm_gym.feedback.preferences.records import Comparison
from llm_gym.text.prompts import PromptRow

__all__ = ["sample_comparisons"]

_ROUNDS = 4  # tries to get two different answers to one prompt


def sample_comparisons(
    model: str,
    prompts: Sequence[PromptRow],
    *,
    prompt_template: str | None = None,
    max_new_tokens: int = 96,
    temperature: float = 1.0,
    seed: int = 0,
    device: str = "cpu",
) -> list[Comparison]:
    """Lets a model answer every prompt twice.

    Args:
        model: Name or directory of a causal language model.
        prompts: What to answer; their columns go with the comparison.
        prompt_template: Text around the prompt; None takes the tokenizer's chat template, if there
            is one.
        max_new_tokens: Most tokens of an answer.
        temperature: Temperature of the sampling.
        seed: Seed of the sampling.
        device: Where the model runs.

    Returns:
        One comparison for each prompt to which the model gave two different answers; it is asked
        again a few times where it gave the same twice, or nothing.
    """
    from llm_gym.runs.evaluation import evaluate
    from llm_gym.stages.by_name import TEXT_GENERATION, environment_kwargs

    kwargs = environment_kwargs(
        TEXT_GENERATION, model, prompt_template=prompt_template, max_new_tokens=max_new_tokens
    )
    kwargs["scorer"] = _no_score
    answers: list[dict[str, None]] = [{} for _ in prompts]  # of each prompt, in order, once each
    for round_ in range(_ROUNDS):
        open_ = [index for index, found in enumerate(answers) if len(found) < 2]
        if not open_:
            break
        twice = [index for index in open_ for _ in range(2)]
        sampled = evaluate(
            model,
            {**kwargs, "prompts": [prompts[index].text for index in twice]},
            policy_kwargs={"temperature": temperature},
            seed=seed + round_,
            device=device,
        )
        for index, row in zip(twice, sampled.rows, strict=True):
            if row.completion.strip():
                answers[index][row.completion] = None
    made_by: dict[str, Any] = {"model": model, "temperature": temperature}
    return [
        Comparison(prompt.text, (first, second), {**prompt.columns, **made_by})
        for prompt, (first, second) in (
            (prompt, list(found)[:2])
            for prompt, found in zip(prompts, answers, strict=True)
            if len(found) >= 2
        )
    ]


def _no_score(prompts: list[str], completions: list[str]) -> list[float]:
    return [0.0] * len(completions)
