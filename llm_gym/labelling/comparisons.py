"""Where comparisons come from: a file of pairs, or a model that answers every prompt twice."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from llm_gym.preferences.records import Comparison
from llm_gym.text.prompt_rows import PromptRow

__all__ = ["read_comparisons", "sample_comparisons"]

_ROUNDS = 4  # tries to get two different answers to one prompt


def read_comparisons(path: str | Path) -> list[Comparison] | None:
    """Reads pairs that nobody has judged yet.

    Args:
        path: `.jsonl`, every line with "prompt" and "answers", a list of two texts. Further keys
            become columns.

    Returns:
        The comparisons; None if the file's first row has no "answers": it is of another kind.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: a line is malformed; the message has its number.
    """
    path = Path(path)
    if path.suffix != ".jsonl":
        return None
    if not path.is_file():
        raise FileNotFoundError(f"there is no file {str(path)!r}")
    found: list[Comparison] = []
    # Not str.splitlines: a text may contain U+2028, which JSON does not escape.
    for number, line in enumerate(path.read_bytes().split(b"\n"), start=1):
        where = f"{path}, line {number}"
        try:
            text = line.decode("utf-8-sig")
            row = json.loads(text) if text.strip() else None
        except (ValueError, RecursionError) as error:
            raise ValueError(f"{where}: no JSON in UTF-8 ({error})") from error
        if row is None:
            continue
        if not isinstance(row, dict) or "answers" not in row:
            if not found:
                return None
            raise ValueError(f'{where}: has no "answers", as the lines before it have')
        answers = row.pop("answers")
        if not isinstance(answers, list) or len(answers) != 2:
            raise ValueError(f'{where}: "answers" must be a list of two texts, got {answers!r:.80}')
        try:
            found.append(Comparison(row.pop("prompt", None), (answers[0], answers[1]), row))
        except (TypeError, ValueError) as error:
            raise ValueError(f"{where}: {error}") from error
    return found or None


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
        model: name or directory of a causal language model.
        prompts: what to answer; their columns go with the comparison.
        prompt_template: text around the prompt; None takes the tokenizer's chat template, if there
            is one.
        max_new_tokens: most tokens of an answer.
        temperature: of the sampling.
        seed: of the sampling.
        device: where the model runs.

    Returns:
        One comparison for each prompt to which the model gave two different answers; it is asked
        again a few times where it gave the same twice, or nothing.
    """
    from llm_gym.evaluation import evaluate
    from llm_gym.pipeline.setup import TEXT_GENERATION, environment_kwargs

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
