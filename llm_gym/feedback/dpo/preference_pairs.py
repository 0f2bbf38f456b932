"""Preferences as token ids: how they are encoded, how likely answers are."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

from llm_gym.feedback.preferences import Preference
from llm_gym.feedback.preferences.records import MESSAGES
from llm_gym.files.containers import Row
from llm_gym.files.rows import Note, parse_rows, short_enough
from llm_gym.language_models.architecture import decoder_of
from llm_gym.language_models.chat import PromptFormat, as_prompt_format
from llm_gym.language_models.packing import by_length
from llm_gym.supervised.pairs import InstructionPair, context_of, cut_answer, encode_pair
from llm_gym.text.answer import Answer, pack_answers

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

    from llm_gym.policy.trunk import Trunk


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
    too_long: str = "error",
    bad_rows: str = "error",
) -> list[EncodedPreference]:
    """Encodes prompts and answers apart, as at generation time; conversations keep their turns.

    The end of the model's turn ends every answer.

    Args:
        tokenizer: Adds its own special tokens (a BOS, say) to the prompt only. It needs an EOS
            token, and no padding token.
        preferences: The rows.
        prompt_template: As for `llm_gym.supervised.pairs.encode_pair`.
        context: Longest sequence the model can read; None if it has no limit.
        too_long: What becomes of longer ones: "error", "drop", or "truncate": the prompt loses its
            beginning, before both answers alike; answers that are longer still, their end.
        bad_rows: What becomes of rows that say nothing once they are encoded: "error" or "skip".

    Raises:
        ValueError: No EOS token; a row is too long, or all are; a prompt becomes no token at all;
            two answers become the same tokens. The message has the row's place.
    """
    prompt_format = as_prompt_format(tokenizer, prompt_template)
    rows = [Row(row.place or f"preferences[{index}]", row) for index, row in enumerate(preferences)]
    encoded = parse_rows(
        rows,
        lambda row, note: _encoded(row, prompt_format),
        None,
        "preferences",
        bad_rows=bad_rows,
    )
    kept = short_enough(
        [(place, Row(place, pair), pair.length) for place, pair in encoded],
        context,
        context_of(context),
        "preferences",
        too_long=too_long,
        truncate=lambda row, limit: Row(row.place, _cut(row.value, limit)),
    )
    different = parse_rows(kept, _different, None, "preferences", bad_rows=bad_rows)
    return [pair for _, pair in different]


def _encoded(row: Preference, prompt_format: PromptFormat) -> EncodedPreference:
    messages = row.columns.get(MESSAGES)
    turns = None if messages is None else tuple(messages)
    chosen, rejected = (
        encode_pair(
            prompt_format.tokenizer, InstructionPair(row.prompt, answer, turns), prompt_format
        )
        for answer in (row.chosen, row.rejected)
    )
    if not chosen.prompt_ids:
        raise ValueError(
            f"the prompt format {prompt_format} and the prompt {row.prompt!r:.60} become no "
            "token, so nothing predicts the answer's first one"
        )
    return EncodedPreference(chosen, rejected, 0.5 if row.columns.get("tie") is True else 1.0)


def _different(pair: EncodedPreference, note: Note) -> EncodedPreference:
    if pair.chosen.ids == pair.rejected.ids:
        raise ValueError(
            "the two answers become the same tokens; they differ only in what the tokenizer cannot "
            "read, or beyond where they are cut. Leave the row out"
        )
    return pair


def _cut(pair: EncodedPreference, limit: int) -> EncodedPreference:
    longest = max(len(pair.chosen.completion_ids), len(pair.rejected.completion_ids))
    return pair._replace(
        chosen=cut_answer(pair.chosen, limit, longest),
        rejected=cut_answer(pair.rejected, limit, longest),
    )


def trunk_of(model: PreTrainedModel, shared_prompts: bool | str) -> Trunk | None:
    """What reads the two answers of a pair with one prompt; `None` if nothing is to be shared.

    Args:
        model: A causal language model, on its device.
        shared_prompts: See `llm_gym.policy.shared_prompts.SharedPrompts`.

    Raises:
        ValueError: It is true, and the model's head needs more than hidden states.
    """
    from llm_gym.policy.chunked_likelihood import head_of
    from llm_gym.policy.trunk import Trunk

    if shared_prompts is False:
        return None
    try:
        head_of(model)
    except ValueError:  # which a policy refuses, and this loss needs no policy
        if shared_prompts is True:
            raise
        return None
    return Trunk(decoder_of(model), shared_prompts=shared_prompts)


def answer_log_probs(
    model: PreTrainedModel, answers: Sequence[Answer], trunk: Trunk | None = None
) -> torch.Tensor:
    """Log-probabilities of answers given their prompts, EOS included.

    Args:
        model: A causal language model.
        answers: B encoded answers.
        trunk: Reads what they share once, where that pays; `None` reads every answer whole.

    Returns:
        float `(B,)` in nats, float32 or wider, with gradients: the sums over each answer's tokens.
    """
    from llm_gym.learning.losses import answer_sums
    from llm_gym.policy.chunked_likelihood import answer_token_log_probs, shared_token_log_probs

    batch = pack_answers(answers, device=model.device)
    log_probs = None if trunk is None else shared_token_log_probs(model, batch, trunk)
    if log_probs is None:
        log_probs = answer_token_log_probs(model, batch)
    return answer_sums(log_probs, batch.answer_rows)


def reference_log_probs(
    model: PreTrainedModel,
    preferences: Sequence[EncodedPreference],
    batch_size: int,
    trunk: Trunk | None = None,
) -> torch.Tensor:
    """Log-probabilities of all answers, without gradients: float32 `(N, 2)`, chosen first."""
    import torch

    log_probs = torch.empty(len(preferences), 2)
    model.eval()
    with torch.inference_mode():
        for members in by_length([row.length for row in preferences], batch_size):
            sides = _sides([preferences[index] for index in members])
            log_probs[members] = answer_log_probs(model, sides, trunk).view(2, -1).T.cpu()
    return log_probs


def pair_log_probs(
    model: PreTrainedModel,
    preferences: Sequence[EncodedPreference],
    trunk: Trunk | None = None,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Log-probabilities of chosen and rejected answers in one pass: float `(B,)` each."""
    both = answer_log_probs(model, _sides(preferences), trunk)
    return both[: len(preferences)], both[len(preferences) :]


def _sides(preferences: Sequence[EncodedPreference]) -> list[Answer]:
    return [row.chosen for row in preferences] + [row.rejected for row in preferences]
