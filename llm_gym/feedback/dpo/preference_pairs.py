"""Preferences as token ids: how they are encoded, how likely answers are."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

from llm_gym.feedback.preferences import Preference
from llm_gym.feedback.preferences.records import MESSAGES
from llm_gym.language_models.chat import PromptFormat, as_prompt_format
from llm_gym.language_models.packing import by_length
from llm_gym.supervised.pairs import InstructionPair, encode_pair
from llm_gym.text.answer import Answer, pack_answers

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel, PreTrainedTokenizerBase


class EncodedPreference(NamedTuple):
    """Token ids of a preferred and of another answer, each with its prompt and an EOS.

    Attributes:
        chosen: The preferred answer.
        rejected: The other one.
        weight: 1, or 1/2 for each of the two rows of a tie.
    """

    chosen: Answer
    rejected: Answer
    weight: float

    @property
    def length(self) -> int:
        """Tokens of the longer of the two."""
        return max(len(self.chosen.ids), len(self.rejected.ids))


def encode_preferences(
    tokenizer: PreTrainedTokenizerBase,
    preferences: Sequence[Preference],
    prompt_template: str | PromptFormat | None,
    context: int | None,
    *,
    drop_too_long: bool = False,
) -> list[EncodedPreference]:
    """Encodes prompts and answers apart, as at generation time; conversations keep their turns.

    The end of the model's turn ends every answer.

    Args:
        tokenizer: Adds its own special tokens (a BOS, say) to the prompt only. It needs an EOS
            token, and no padding token.
        preferences: The rows.
        prompt_template: As for `llm_gym.supervised.pairs.encode_pair`.
        context: Longest sequence the model can read; None if it has no limit.
        drop_too_long: Leave out rows that are longer, instead of an error.

    Raises:
        ValueError: No EOS token; a row is too long, or all are; a prompt becomes no token at all;
            two answers become the same tokens. The message has the row's number.
    """
    prompt_format = as_prompt_format(tokenizer, prompt_template)
    encoded = []
    for index, row in enumerate(preferences):
        messages = row.columns.get(MESSAGES)
        turns = None if messages is None else tuple(messages)
        chosen, rejected = (
            encode_pair(tokenizer, InstructionPair(row.prompt, answer, turns), prompt_format)
            for answer in (row.chosen, row.rejected)
        )
        weight = 0.5 if row.columns.get("tie") is True else 1.0
        pair = EncodedPreference(chosen, rejected, weight)
        if context is not None and pair.length > context:
            if drop_too_long:
                continue
            raise ValueError(
                f"preferences[{index}] has {pair.length} tokens, prompt, answer and EOS together, "
                f"more than the model's context of {context}; shorten it, or leave such rows out "
                "with too_long='drop'"
            )
        if not chosen.prompt_ids:
            raise ValueError(
                f"preferences[{index}]: the prompt format {prompt_format} and the prompt "
                f"{row.prompt!r:.60} become no token, so nothing predicts the answer's first one"
            )
        if chosen.ids == rejected.ids:
            raise ValueError(
                f"preferences[{index}]: the two answers become the same tokens; they differ only "
                "in what the tokenizer cannot read. Leave the row out"
            )
        encoded.append(pair)
    if not encoded:
        raise ValueError(
            f"all {len(preferences)} preferences are longer than the model's context of {context}"
        )
    return encoded


def answer_log_probs(model: PreTrainedModel, answers: Sequence[Answer]) -> torch.Tensor:
    """Log-probabilities of answers given their prompts, EOS included.

    Args:
        model: A causal language model.
        answers: B encoded answers.

    Returns:
        float `(B,)` in nats, float32 or wider, with gradients: the sums over each answer's tokens.
    """
    from llm_gym.learning.losses import answer_sums
    from llm_gym.policy.sampling import token_log_probs, widened

    batch = pack_answers(answers, device=model.device)
    logits = model(
        input_ids=batch.input_ids, attention_mask=batch.attention_mask, use_cache=False
    ).logits  # (B, S, V)
    # Only where an answer's token is predicted: prompts would double the work for nothing.
    answer_logits = widened(logits[batch.answer_rows, batch.answer_slots - 1])  # (A, V)
    log_probs = token_log_probs(answer_logits, batch.answer_ids)  # (A,)
    return answer_sums(log_probs, batch.answer_rows)


def reference_log_probs(
    model: PreTrainedModel, preferences: Sequence[EncodedPreference], batch_size: int
) -> torch.Tensor:
    """Log-probabilities of all answers, without gradients: float32 `(N, 2)`, chosen first."""
    import torch

    log_probs = torch.empty(len(preferences), 2)
    model.eval()
    with torch.inference_mode():
        for members in by_length([row.length for row in preferences], batch_size):
            sides = _sides([preferences[index] for index in members])
            log_probs[members] = answer_log_probs(model, sides).view(2, -1).T.cpu()
    return log_probs


def pair_log_probs(
    model: PreTrainedModel, preferences: Sequence[EncodedPreference]
) -> tuple[torch.Tensor, torch.Tensor]:
    """Log-probabilities of chosen and rejected answers in one pass: float `(B,)` each."""
    both = answer_log_probs(model, _sides(preferences))
    return both[: len(preferences)], both[len(preferences) :]


def _sides(preferences: Sequence[EncodedPreference]) -> list[Answer]:
    return [row.chosen for row in preferences] + [row.rejected for row in preferences]
