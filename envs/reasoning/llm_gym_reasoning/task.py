"""The environments: any task of reasoning-gym as prompts and a scorer."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from llm_gym_reasoning.questions import SPLITS, Split, draw_questions, make_dataset
from llm_gym_reasoning.scorer import RUNS_ANSWERS, AnswerFormat, ReasoningScorer

__all__ = ["check_task", "environment_kwargs", "judge_of"]


def environment_kwargs(
    task: str = "",
    settings: Mapping[str, Any] | None = None,
    *,
    split: Split = "train",
    size: int = 512,
    test_size: int = 128,
    seed: int = 0,
    answer_format: AnswerFormat = "completion",
    run_answers: bool = False,
    time_limit: float | None = 5.0,
    **overrides: Any,
) -> dict[str, Any]:
    """Answer a question of reasoning-gym; its own verifier judges (`llm_gym/Reasoning-v0`).

    ## Description

    One of reasoning-gym's hundred procedural datasets, https://arxiv.org/abs/2505.24760: sums,
    letters, puzzles, games. The prompt is the question, the completion is the answer. A question
    belongs to the training or to the test split by its text, whatever the seed.

    ## Action Space

    The next token, `Discrete(V)`. The default tokenizer is that of the embedded models;
    `tokenizer=` takes that of yours, and its chat template is used where it has one.

    ## Observation Space

    That of `TextGenerationEnv`: a `Dict` of `input_ids`, `attention_mask` and `completion_mask`,
    each `(L,)`, where L holds the longest question of both splits and `max_new_tokens`.

    ## Rewards

    0 until the answer ends, then the dataset's `score_answer`: 1 for a right answer, mostly 0 for a
    wrong one, part of the credit for some (an answer that contains the right one among other words;
    letters in the right place). `info["score_parts"]` says whether it is `correct` (a full score)
    and whether it was `unreadable`.

    ## Starting State

    A question drawn from `size` of the training or `test_size` of the test split.

    ## Episode End

    Terminated by the end-of-text token or after `max_new_tokens`; never truncated.

    ## Arguments

    `gym.make("llm_gym/Reasoning-v0", task="gcd", settings={"max_value": 50}, split="train",
    size=512, test_size=128, seed=0, answer_format="answer_tag")`; see below. All others are
    arguments of `TextGenerationEnv`; the vector form also takes `group_size`. Both splits get the
    same observation space: `max_prompt_tokens` is the length of the longest question of either.

    ## Version History

    * v0: initial version.

    Args:
        task: Name of a reasoning-gym dataset.
        settings: Fields of its configuration; None means its defaults.
        split: `"train"`, or `"test"` for questions that no seed puts into the other.
        size: Questions of the training split.
        test_size: Questions of the test split.
        seed: Seed of the questions.
        answer_format: See `ReasoningScorer`.
        run_answers: Allow the tasks of `RUNS_ANSWERS`, whose scorers evaluate what the model wrote.
        time_limit: Seconds that such a task's scorer may take for one answer: `9**9**9**9` would
            take for ever. It is then worth 0. None sets no limit.
        **overrides: Arguments of the environment that take the place of the task's own, such as
            `tokenizer`, `prompt_template`, `scorer`, `prompts` or `max_new_tokens`.

    Returns:
        Keyword arguments for `TextGenerationEnv` and `TextGenerationVectorEnv`.

    Raises:
        ImportError: Reasoning-gym is not installed.
        ValueError: As `draw_questions`; or split or answer format are unknown, or the task runs
            answers.
    """
    from llm_gym.language_models import SFT_MODEL, load_tokenizer
    from llm_gym.text.tasks import longest_prompt

    check_task(task, split, run_answers=run_answers)
    tokenizer = overrides.pop("tokenizer", SFT_MODEL)
    tokenizer = load_tokenizer(tokenizer) if isinstance(tokenizer, str) else tokenizer
    arguments: dict[str, Any] = {"tokenizer": tokenizer, **overrides}
    if "prompts" in overrides:
        dataset = make_dataset(task, settings, seed)
    else:
        dataset, rows = draw_questions(task, settings, size=size, test_size=test_size, seed=seed)
        arguments["prompts"] = rows[split]
        if "max_prompt_tokens" not in overrides:
            arguments["max_prompt_tokens"] = longest_prompt(
                [row for name in SPLITS for row in rows[name]],
                tokenizer,
                overrides.get("prompt_template"),
                add_special_tokens=overrides.get("add_special_tokens"),
            )
    if "scorer" not in overrides:
        arguments["scorer"] = judge_of(dataset, task, answer_format, time_limit)
    return arguments


def check_task(task: str, split: Split, *, run_answers: bool) -> None:
    """Raises `ValueError` for a task that is missing or runs answers, or an unknown split."""
    if split not in SPLITS:
        raise ValueError(f'split must be "train" or "test", got {split!r}')
    if not task:
        raise ValueError('task is missing: name a dataset of reasoning-gym, task="chain_sum"')
    if task in RUNS_ANSWERS and not run_answers:
        raise ValueError(
            f"task={task!r}: reasoning-gym evaluates answers to it as Python code, so that a model "
            "could run code on this machine; pass run_answers=True if that is acceptable"
        )


def judge_of(
    dataset: Any, task: str, answer_format: AnswerFormat, time_limit: float | None
) -> ReasoningScorer:
    """The scorer of a task: in a process of its own if it runs answers."""
    return ReasoningScorer(
        dataset,
        answer_format=answer_format,
        time_limit=time_limit if task in RUNS_ANSWERS else None,
        name=task,
    )
