"""A language model learns to fly from a teacher, while it flies itself.

DAgger (Ross et al. 2011, arXiv:1011.0686). Who learns from the teacher's flights alone makes small
mistakes, and comes by them into situations that the teacher never came into and said nothing about.
Here the student flies, and the teacher says of each situation what it would have done.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from llm_gym.text.answer import Answer, pack_answers

if TYPE_CHECKING:
    import torch
    from llm_gym_autopilot.pilots.spoken import Speaker
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

    from llm_gym.supervised.loop import TrainingConfig

Lessons = list[tuple[str, str]]

# A reading comes in few of the batches. By a usual epsilon each would move its embedding by a whole
# learning rate whatever the gradient, and neighbouring numbers would drift apart.
EPSILON = 1e-4


def encoded(tokenizer: PreTrainedTokenizerBase, pairs: Lessons) -> list[Answer]:
    """Lessons as tokens, as `llm_gym.supervised.sft` makes them.

    There are far more lines than answers, so that lines are encoded in one call, and each answer
    once.

    Args:
        tokenizer: With a chat template.
        pairs: Lines and answers.
    """
    from llm_gym.language_models.chat import PromptFormat

    shown = PromptFormat(tokenizer)
    asked = shown.encode([shown.render(line) for line, _ in pairs])
    line_of = {answer: line for line, answer in pairs}
    said = {answer: shown.encode_answer(line, answer)[1] for answer, line in line_of.items()}
    return [
        Answer(prompt_ids=tuple(ids), completion_ids=tuple(said[answer]))
        for ids, (_, answer) in zip(asked, pairs, strict=True)
    ]


def practise(
    model: PreTrainedModel,
    lessons: Sequence[Answer],
    config: TrainingConfig,
    optimizer: torch.optim.Optimizer | None = None,
) -> list[float]:
    """The model reads lessons once, in random order.

    Args:
        model: Trained in place.
        lessons: Encoded.
        config: Batch size, learning rate and so on.
        optimizer: Of the model's parameters; None makes one.

    Returns:
        The loss curve.
    """
    from llm_gym.supervised.loop import descend, shuffled_batches

    lengths = [len(lesson.ids) for lesson in lessons]
    # By a window of one batch nothing is sorted: answers of one length are much the same answer.
    batches = shuffled_batches(lengths, config.batch_size, seed=config.seed, window=1)
    return descend(
        model,
        batches,
        lambda batch: learnt_loss(model, [lessons[number] for number in batch]),
        config,
        title="practising",
        quiet=True,
        optimizer=optimizer,
    )


def learnt_loss(model: PreTrainedModel, lessons: Sequence[Answer]) -> torch.Tensor:
    """Mean negative log-likelihood of the answers' tokens, in nats.

    That of `llm_gym.supervised.sft`; but lines are long and answers short, so that a model as small
    as this one would spend most of its time on logits that nobody asks for.
    """
    from llm_gym.language_models.architecture import decoder_of
    from llm_gym.policy.chunked_likelihood import head_of, log_prob_and_entropy_of_hidden

    batch = pack_answers(lessons)
    inputs = {"input_ids": batch.input_ids, "attention_mask": batch.attention_mask}
    hidden = decoder_of(model)(**inputs, use_cache=False).last_hidden_state  # (B, S, H)
    predicting = hidden[batch.answer_rows, batch.answer_slots - 1]
    return -log_prob_and_entropy_of_hidden(predicting, head_of(model), batch.answer_ids)[0].mean()


def agreement(speaker: Speaker, pairs: Lessons) -> float:
    """The share of lines to which somebody says exactly what the teacher says."""
    lines, answers = zip(*pairs, strict=True)
    said, _ = speaker.answer(lines, None, None)
    return float(np.mean([one == other for one, other in zip(said, answers, strict=True)]))


def dagger(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    lessons_of: Callable[[int], Lessons],
    practice: Sequence[int],
    config: TrainingConfig,
) -> Iterator[dict[str, Any]]:
    """Rounds of lessons and practice; all lessons are kept.

    Args:
        model: Trained in place.
        tokenizer: Its own.
        lessons_of: The new lessons of a round, by its number from 0; called when the model has
            practised for all rounds before, so that it can fly.
        practice: Lessons that are read in each round, drawn from all that there are.
        config: Of each round's practice.

    Yields:
        After each round what came of it: how many lessons there are, and the last loss.
    """
    from llm_gym.supervised.loop import adamw

    rng = np.random.default_rng(config.seed)
    optimizer = adamw(model, config.weight_decay, epsilon=EPSILON)
    kept: list[Answer] = []
    for number, reads in enumerate(practice):
        kept += encoded(tokenizer, lessons_of(number))
        drawn = rng.permutation(len(kept))[:reads].tolist()
        losses = practise(model, [kept[place] for place in drawn], config, optimizer)
        yield {"lessons": len(kept), "read": len(drawn), "loss": losses[-1]}
