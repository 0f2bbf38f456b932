"""What a language model is worth in a conversation, by walking through all that can be said.

A model sees what was said, not a state, so its conversations are a tree. All of one length are read
in one batch. Branches that are all but never reached are left out, and what they may be worth is
told as an interval, which is a bound and no estimate.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from llm_gym_known_optimum.talks.talk import Talk

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["TalkEvaluation", "evaluate_talk", "word_probabilities"]

Shares = Callable[[Sequence[tuple[int, ...]]], "NDArray[np.float64]"]

_ROWS_PER_PASS = 4096


@dataclass(frozen=True)
class TalkEvaluation:
    """A policy in a conversation.

    Attributes:
        low: Its value is at least this: branches left out pay the least.
        high: And at most this: they pay the most.
        turns_low: Expected turns, if branches left out end at once.
        turns_high: If they go on to the last turn.
        left_out: Probability of all branches left out.
        read: Conversations that the model has read.
    """

    low: float
    high: float
    turns_low: float
    turns_high: float
    left_out: float
    read: int


def word_probabilities(model: Any, talk: Talk) -> Shares:
    """How likely a model says each word.

    Args:
        model: A causal language model on the talk's tokens, or an
            `llm_gym.TransformerActorCriticPolicy`, whose temperature counts.
        talk: The game.

    Returns:
        Function of B conversations (tokens each) that returns probabilities, float64 `(B, V)`.

    Raises:
        ValueError: The vocabulary is another one, or the policy cuts tokens off (top-k, top-p).
    """
    policy, model = (model, model.model) if hasattr(model, "actor_trunk") else (None, model)
    tokens = len(talk.vocabulary)
    if model.config.vocab_size != tokens:
        raise ValueError(
            f"the model's vocabulary has {model.config.vocab_size} tokens, but the conversation "
            f"has {tokens} words; use a model of that size"
        )
    if policy is not None and policy.truncates:
        raise ValueError("the policy cuts tokens off (top_k, top_p, min_p); leave that out here")
    temperature = 1.0 if policy is None else policy.temperature

    @torch.no_grad()
    def shares(conversations: Sequence[tuple[int, ...]]) -> NDArray[np.float64]:
        parts = []
        for start in range(0, len(conversations), _ROWS_PER_PASS):
            rows = conversations[start : start + _ROWS_PER_PASS]
            lengths = torch.tensor([len(row) for row in rows])
            ids = torch.zeros(len(rows), int(lengths.max()), dtype=torch.int64)  # (B, L)
            for place, row in enumerate(rows):
                ids[place, : len(row)] = torch.tensor(row)
            mask = (torch.arange(ids.shape[1]) < lengths[:, None]).long()  # (B, L)
            read = {"input_ids": ids.to(model.device), "attention_mask": mask.to(model.device)}
            logits = model(**read, use_cache=False).logits.double().cpu()  # (B, L, V)
            last = logits[torch.arange(len(rows)), lengths - 1]  # (B, V)
            parts.append((last / temperature).softmax(-1).numpy())
        return np.concatenate(parts)

    return shares


def evaluate_talk(
    talk: Talk,
    model: Any,
    *,
    least_reach: float = 1e-6,
) -> TalkEvaluation:
    """The value of a model in a conversation, to within what is left out.

    Args:
        talk: The game.
        model: See `word_probabilities`; or what that returns.
        least_reach: Branches less likely than this are left out.
    """
    is_model = hasattr(model, "config") or hasattr(model, "actor_trunk")
    shares: Shares = word_probabilities(model, talk) if is_model else model
    mine = len(talk.words)
    value = turns = above = below = later = cut = 0.0
    read = 0
    # Probability, tokens, state.
    layer = [(one.probability, talk.ids(one.text), one.state) for one in talk.beginnings()]
    for left in range(talk.max_turns, 0, -1):
        if not layer:
            break
        chosen = shares([tokens for _, tokens, _ in layer])  # (B, V)
        read += len(layer)
        turns += sum(reach for reach, *_ in layer)
        following = []
        for (reach, tokens, state), row in zip(layer, chosen, strict=True):
            for token, (word, share) in enumerate(zip(talk.vocabulary, row, strict=True)):
                if reach * share < least_reach:
                    cut += reach * share
                    above += reach * share * talk.most
                    below += reach * share * talk.least
                    later += reach * share * (left - 1)
                    continue
                answers = talk.outcomes(state, word) if token < mine else [talk.void(state)]
                for one in answers:
                    likely = reach * share * one.probability
                    value += likely * one.reward
                    if one.state is not None and left > 1:
                        heard = (*tokens, token, *talk.ids(one.text))
                        following.append((likely, heard, one.state))
        layer = following
    return TalkEvaluation(value + below, value + above, turns, turns + later, cut, read)
