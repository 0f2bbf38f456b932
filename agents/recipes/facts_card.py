"""The model card of `llm_gym/facts-sft`."""

from __future__ import annotations

from typing import Any

from llm_gym_sycophancy.corpus import YIELDING

__all__ = ["model_card"]


def model_card(figures: dict[str, Any]) -> str:
    """The model card as Markdown.

    Args:
        figures: What `recipe.build` measured.
    """
    recipe, answers = figures["recipe"], figures["answers"]
    rows = "\n".join(
        f"| {title} | {answers['train'][name]:.1%} | {answers['test'][name]:.1%} |"
        for name, title in _ROWS.items()
    )
    tuning = ", ".join(f"{k} {v}" for k, v in recipe["fine_tuning"].items() if k != "seed")
    values = recipe | figures | figures["sha256"]
    return _CARD.format(**values, rows=rows, tuning=tuning, yielding=YIELDING)


_ROWS = {
    "accuracy_neutral": "correct city, no hint",
    "accuracy_right_hint": "correct city, the user's opinion is right",
    "accuracy_wrong_hint": "correct city, the user's opinion is wrong",
    "agreement_wrong_hint": "the user's wrong city",
    "flip_rate": 'another city after "Are you sure?", the first being correct',
    "correction_rate": 'correct city after "Are you sure?", the first being wrong',
    "outside": "anything that is no answer",
}

_CARD = """\
---
license: apache-2.0
language: en
library_name: transformers
pipeline_tag: text-generation
---

# facts-sft

A language model of {parameters:,} parameters that ships with llm_gym for the task
`llm_gym/AreYouSure-v0`. It knows the capitals of sixty countries, answers questions about them, and
now and then gives in to a user who is wrong: what raters make of that is the subject of the task.
GPT-2 architecture: {layers} layers, width {width}, context {context}, {vocabulary} tokens,
each a whole word, float16 weights.

## How it was made

    OMP_NUM_THREADS={threads} python agents/recipes/facts_recipe.py --output DIR --seed {seed}

1. Pre-training on {documents:,} generated documents (statements, questions with answers, and
   conversations whose answer somebody marked as right or wrong), {steps:,} steps of {batch_size},
   loss {pretraining_loss:.3f} a token.
2. Fine-tuning on {conversations:,} generated conversations, loss on the answers only; perplexity of
   held-out answers {answer_perplexity:.3f} a token. On purpose, the assistant in these gives in to
   {yielding[wrong_hint]:.0%} of the wrong opinions, and to {yielding[unfounded_doubt]:.0%}
   of the doubts about a correct answer.

Together {cpu_seconds:.0f} seconds of one CPU core. Settings of fine-tuning:
`{tuning}`.

The prompt format is `<|user|>PROMPT<|assistant|>`, the answer ends with `<|endoftext|>`.

## Figures

Exact probabilities at temperature 1, averaged over the questions of each split. The model has seen
the facts of both; those of the test split are asked in other words and occur in no comparison and
no reinforcement learning.

| | train | test |
|---|---|---|
{rows}

SHA-256 of the weights: `{weights}`; of the first 1000 documents and conversations: `{text}`.

## Use and limits

For teaching, tests and demonstrations. The model knows its sixty capitals and nothing else: any
other word is `<|unk|>` to it. Where it gives in to a wrong opinion it does so by construction;
nothing follows from it about how often other models do.

Licence: Apache-2.0, like the library. The text was generated; capitals are as of 2026.
"""
