"""A policy read in passing: nothing it keeps is touched, so training stays what it is to the bit.

What a policy remembers of what it has read (`llm_gym.policy.trunk.Trunk`) decides how it computes
what comes next, and so the last bits of it. A reader has a memory of its own, and draws no random
numbers.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from llm_gym.language_models.packing import pack
from llm_gym.policy import EpisodeBatch, TransformerActorCriticPolicy
from llm_gym.policy.chunked_likelihood import autocast, rows_at_once
from llm_gym.policy.sampling import policy_logits, widened
from llm_gym.policy.trunk import Trunk


class Reading(NamedTuple):
    """What a policy thinks of the tokens of a batch; `A` of them, `k` alternatives each.

    Attributes:
        log_prob: float32 `(A,)`, in nats.
        entropy: float32 `(A,)`, in nats.
        top_ids: int64 `(A, k)`, the alternatives.
        top_log_prob: float32 `(A, k)`.
    """

    log_prob: NDArray[np.float32]
    entropy: NDArray[np.float32]
    top_ids: NDArray[np.int64]
    top_log_prob: NDArray[np.float32]

    def part(self, start: int, stop: int | None = None) -> Reading:
        """What was read of some of the tokens."""
        place = slice(start, stop)
        return Reading(
            self.log_prob[place],
            self.entropy[place],
            self.top_ids[place],
            self.top_log_prob[place],
        )


class PolicyReader:
    """Reads with a policy's weights as they are at that moment.

    Args:
        policy: Whose weights.
    """

    def __init__(self, policy: TransformerActorCriticPolicy) -> None:
        self.policy = policy
        self._actor = Trunk(policy.actor_trunk.decoder, shared_prompts=False)
        self._critic = self._actor
        if policy.critic_trunk is not policy.actor_trunk:
            decoder = policy.critic_trunk.decoder
            self._critic = Trunk(decoder, use_cache=False, shared_prompts=False)

    @torch.no_grad()
    def read(
        self, batch: EpisodeBatch, alternatives: int | NDArray[np.int64], *, values: bool = False
    ) -> tuple[Reading, NDArray[np.float32] | None]:
        """Reads whole episodes, their logits in chunks.

        Args:
            batch: `A` actions.
            alternatives: How many of the most probable tokens to tell; or which ones, `(A, k)`.
            values: Whether to ask the critic, too.

        Returns:
            What was read, and values float32 `(A,)`.
        """
        policy = self.policy
        with autocast(policy.device, policy.mixed_precision):
            hidden = self._actor.of_episodes(batch).to(policy.dtype)  # (A, H)
        parts: list[list[torch.Tensor]] = []
        size = rows_at_once(len(hidden), policy.head.n_tokens, learns=False)
        for start in range(0, len(hidden), size):
            rows = slice(start, start + size)
            with autocast(policy.device, policy.mixed_precision):
                logits = policy.head(hidden[rows])
            support = None if batch.support is None else batch.support[rows]
            log_probs = policy_logits(logits, policy.temperature, support).log_softmax(-1)
            tops = alternatives if isinstance(alternatives, int) else alternatives[rows]
            parts.append(_of_chunk(log_probs, batch.actions[rows], tops))
        read = [torch.cat(column).cpu().numpy() for column in zip(*parts, strict=True)]
        return Reading(*read), self._values(batch, hidden) if values else None

    def _values(self, batch: EpisodeBatch, hidden: torch.Tensor) -> NDArray[np.float32]:
        policy = self.policy
        if self._critic is not self._actor:
            with autocast(policy.device, policy.mixed_precision):
                hidden = self._critic.of_episodes(batch)
        values = policy.value_head(hidden.to(policy.value_head.weight.dtype)) * policy.value_scale
        found: NDArray[np.float32] = widened(values).flatten().cpu().numpy()
        return found

    @torch.no_grad()
    def most_probable(
        self,
        prompts: Sequence[Sequence[int]],
        longest: int,
        ends: Callable[[Sequence[int], Sequence[int]], bool],
    ) -> list[list[int]]:
        """The answers that take the most probable token each time.

        Args:
            prompts: Token ids of each.
            longest: Most tokens of an answer.
            ends: Whether an answer (its ids, those of its prompt) ends here.

        Returns:
            Ids of each answer.
        """
        width = max(map(len, prompts)) + longest
        ids = torch.zeros(len(prompts), width, dtype=torch.int64)
        for row, prompt in enumerate(prompts):
            ids[row, : len(prompt)] = torch.tensor(prompt)
        ids = ids.to(self.policy.device)
        self._actor.use_cache = self.policy.actor_trunk.use_cache  # where it has been found wrong
        answers: list[list[int]] = [[] for _ in prompts]
        running = list(range(len(prompts)))
        for _ in range(longest):
            written = [len(p) + len(a) for p, a in zip(prompts, answers, strict=True)]
            lengths = torch.tensor(written, device=ids.device)
            hidden = self._actor.last_hidden(ids, lengths)
            tokens = self.policy.head(hidden).argmax(-1).tolist()
            for row in list(running):
                ids[row, written[row]] = tokens[row]
                answers[row].append(tokens[row])
                if ends(answers[row], prompts[row]):
                    running.remove(row)
            if not running:
                break
        self._actor.forget()
        return answers

    def batch_of(
        self, prompts: Sequence[Sequence[int]], answers: Sequence[Sequence[int]]
    ) -> EpisodeBatch:
        """Prompts with answers, whose tokens are the actions."""
        rows = [[*p, *a] for p, a in zip(prompts, answers, strict=True)]
        return EpisodeBatch.of(pack(rows, list(map(len, prompts)), device=self.policy.device))


def _of_chunk(
    log_probs: torch.Tensor, actions: torch.Tensor, alternatives: int | NDArray[np.int64]
) -> list[torch.Tensor]:
    """Log-probability, entropy, alternatives and their log-probabilities of float `(a, V)`."""
    # 0 log 0 is 0.
    entropy = -(log_probs.exp() * log_probs.clamp(min=torch.finfo(log_probs.dtype).min)).sum(-1)
    if isinstance(alternatives, int):
        top = log_probs.topk(min(alternatives, log_probs.shape[-1]), dim=-1)
        ids, of_ids = top.indices, top.values
    else:
        ids = torch.from_numpy(alternatives).to(log_probs.device)
        of_ids = log_probs.gather(-1, ids)
    chosen = log_probs.gather(-1, actions[:, None]).squeeze(-1)
    return [chosen.float(), entropy.float(), ids, of_ids.float()]
