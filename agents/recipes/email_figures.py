"""What a model writes when it is asked: figures for the model card and for checks of the assets."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from llm_gym.text.answer import Answer

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

    from llm_gym.scorers.protocol import Scorer

__all__ = ["AnswerFigures", "answer_figures", "sample_answers"]


class AnswerFigures(NamedTuple):
    """Figures over several sampled answers per prompt.

    Attributes:
        ended_share: Share of answers that end within the budget.
        mean_tokens: Mean length.
        mean_score: Mean score over all answers.
        score_std: Standard deviation over all answers.
        best_score: Mean over prompts of the best answer's score: what picking could reach.
        greedy_score: Mean score of the most probable answers (greedy decoding).
    """

    ended_share: float
    mean_tokens: float
    mean_score: float
    score_std: float
    best_score: float
    greedy_score: float


def sample_answers(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    texts: Sequence[str],
    *,
    max_new_tokens: int,
    seed: int | None,
    batch_size: int = 128,
) -> list[Answer]:
    """Continues texts by sampling from the model's own distribution, or greedily.

    Args:
        model: A causal language model.
        tokenizer: Its tokenizer, with EOS and pad tokens.
        texts: What to continue, prompt template already applied.
        max_new_tokens: Budget of tokens.
        seed: Seed of the samples; None decodes greedily. The global generator is left alone.
        batch_size: Texts per call of `generate`.

    Returns:
        One answer per text, with its completion, what ended it ("eos" or "length") and its ids.
    """
    import torch

    eos = tokenizer.eos_token_id
    answers: list[Answer] = []
    with torch.random.fork_rng(), torch.no_grad():  # generate draws from the global generator
        if seed is not None:
            torch.manual_seed(seed)
        for start in range(0, len(texts), batch_size):
            prompts = tokenizer(
                list(texts[start : start + batch_size]),
                padding=True,
                padding_side="left",
                return_tensors="pt",
            ).to(model.device)
            output = model.generate(
                input_ids=prompts["input_ids"],
                attention_mask=prompts["attention_mask"],
                max_new_tokens=max_new_tokens,
                do_sample=seed is not None,
                top_k=0 if seed is not None else None,
                pad_token_id=tokenizer.pad_token_id,
            )
            for row in output[:, prompts["input_ids"].shape[1] :].tolist():
                ended = eos in row
                ids = row[: row.index(eos) + 1] if ended else row
                answers.append(
                    Answer(
                        completion=tokenizer.decode(ids, skip_special_tokens=True),
                        completion_ids=tuple(ids),
                        stop_reason="eos" if ended else "length",
                    )
                )
    return answers


def answer_figures(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    prompts: Sequence[str],
    scorer: Scorer,
    *,
    prompt_template: str,
    max_new_tokens: int,
    samples: int = 8,
    seed: int = 0,
) -> AnswerFigures:
    """Samples several answers to each prompt and score them.

    Args:
        model: A causal language model.
        tokenizer: Its tokenizer.
        prompts: P prompts, without template; the scorer gets them so.
        scorer: Judges the answers.
        prompt_template: Filled with the prompt before encoding.
        max_new_tokens: Budget of tokens.
        samples: Answers per prompt.
        seed: Seed of the samples.
    """
    texts = [prompt_template.format(prompt=prompt) for prompt in prompts]
    greedy = sample_answers(model, tokenizer, texts, max_new_tokens=max_new_tokens, seed=None)
    answers = sample_answers(
        model, tokenizer, texts * samples, max_new_tokens=max_new_tokens, seed=seed
    )
    repeated = list(prompts) * samples
    values = scorer.score(repeated, [answer.completion for answer in answers]).values
    greedy_values = scorer.score(list(prompts), [answer.completion for answer in greedy]).values
    return AnswerFigures(
        ended_share=float(np.mean([answer.stop_reason == "eos" for answer in answers])),
        mean_tokens=float(np.mean([len(answer.completion_ids) for answer in answers])),
        mean_score=float(values.mean()),
        score_std=float(values.std()),
        best_score=float(values.reshape(samples, len(prompts)).max(axis=0).mean()),
        greedy_score=float(greedy_values.mean()),
    )
