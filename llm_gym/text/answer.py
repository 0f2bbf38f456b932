"""One answer to one prompt: the record that sampling, scoring, learning and evaluation share."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from llm_gym.language_models.packing import TokenBatch, pack

if TYPE_CHECKING:
    import torch
    from numpy.typing import NDArray

StopReason = Literal["eos", "stop_string", "length"]


@dataclass(frozen=True)
class Answer:
    """One answer to one prompt; what a place does not know keeps its default.

    Attributes:
        prompt: As text.
        completion: As text, without special tokens and stop string.
        prompt_ids: Token ids the model was given.
        completion_ids: Token ids it chose, the one that ended the episode included.
        score: What it is worth; None if nobody has judged it.
        stop_reason: What ended it; None if that is not known.
        prompt_index: Place of the prompt in the environment's list; -1 if it is in none.
        columns: The prompt's further columns, which go to the scorer by name.
        others: Places in `completion_ids` of tokens that are somebody else's: what a world has said
            between the turns of a conversation.
    """

    prompt: str = ""
    completion: str = ""
    prompt_ids: tuple[int, ...] = ()
    completion_ids: tuple[int, ...] = ()
    score: float | None = None
    stop_reason: StopReason | None = None
    prompt_index: int = -1
    columns: Mapping[str, Any] = field(default_factory=dict, hash=False)
    others: tuple[int, ...] = ()

    @property
    def num_tokens(self) -> int:
        """Tokens that were chosen: what there is to learn from."""
        return len(self.completion_ids) - len(self.others)

    @property
    def ids(self) -> tuple[int, ...]:
        """Tokens of prompt and completion."""
        return self.prompt_ids + self.completion_ids


@dataclass(frozen=True)
class Conversation(Answer):
    """What an agent and a world of turns said to each other; its score is the sum of the rewards.

    `prompt` is the world's first text, `prompt_index` the seed it began with, and `completion` all
    that followed, with who said it.

    Attributes:
        messages: All that was said, as `[{"role": "user", "content": ...}, ...]`; the world is the
            user.
        tokens: How many the agent wrote.
        end_reason: Why it ended (see `llm_gym.TurnEnv`).
    """

    messages: tuple[Mapping[str, str], ...] = field(default=(), hash=False)
    tokens: int = 0
    end_reason: str = ""

    @property
    def num_tokens(self) -> int:
        """Tokens that the agent wrote, those of contexts that it has forgotten too."""
        return self.tokens

    @property
    def turns(self) -> int:
        """Turns of the agent."""
        return sum(message["role"] == "assistant" for message in self.messages)


def transcript(messages: Sequence[Mapping[str, str]]) -> str:
    """A conversation as text: who says what, a paragraph each."""
    speakers = {"user": "world", "assistant": "agent"}
    return "\n".join(
        f"{speakers.get(message['role'], message['role'])}: {message['content']}"
        for message in messages
    )


def pack_answers(
    answers: Sequence[Answer],
    *,
    pad_token_id: int = 0,
    device: torch.device | str | None = None,
) -> TokenBatch:
    """Packs the tokens of answers into one batch (`llm_gym.language_models.packing.pack`).

    Args:
        answers: B answers whose token ids are known.
        pad_token_id: Fills the ids behind the shorter ones.
        device: Where the batch goes; None is the CPU.

    Returns:
        The batch; its answer tokens are those of the completions that were chosen, answer after
        answer.

    Raises:
        ValueError: If there are no answers.
    """
    rows = [answer.ids for answer in answers]
    prompt_lengths = [len(answer.prompt_ids) for answer in answers]
    batch = pack(rows, prompt_lengths, pad_token_id=pad_token_id, device=device)
    if not any(answer.others for answer in answers):
        return batch
    ends = np.cumsum([len(answer.completion_ids) for answer in answers])
    chosen = np.ones(ends[-1], dtype=bool)
    for answer, end in zip(answers, ends.tolist(), strict=True):
        chosen[end - len(answer.completion_ids) + np.array(answer.others, dtype=np.int64)] = False
    places = chosen.nonzero()[0].tolist()
    return batch._replace(
        answer_rows=batch.answer_rows[places], answer_slots=batch.answer_slots[places]
    )


def scores_of(answers: Sequence[Answer]) -> NDArray[np.float64]:
    """Scores of answers that all have one: float64 `(B,)`.

    Raises:
        ValueError: If an answer has no score.
    """
    scores = [answer.score for answer in answers]
    if None in scores:
        raise ValueError(f"answers[{scores.index(None)}] has no score: leave it out")
    return np.array(scores, dtype=np.float64)
