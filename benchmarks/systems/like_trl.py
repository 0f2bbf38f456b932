"""What llm_gym's RLOO and GRPO need to be TRL's to the letter; neither changes what they are.

TRL 1.16 cuts a batch into minibatches once and goes through the same ones in every epoch, and its
RLOO clips one ratio an answer, where PPO and GRPO clip one a token.
"""

from __future__ import annotations

from typing import Any

import torch

import llm_gym
from llm_gym import losses
from llm_gym.buffer import Segment
from llm_gym.policy import TransformerActorCriticPolicy
from llm_gym.policy.sampling import log_prob_and_entropy


class FixedMinibatches(llm_gym.EpisodeBuffer):
    """Minibatches of equally many episodes, the same ones in every epoch of a rollout."""

    _order: Any = None

    def reset(self) -> None:
        """Empties the buffer."""
        super().reset()
        self._order = None

    def minibatches(self, batch_size: int | None) -> list[list[Segment]]:
        """Splits the episodes, in an order drawn once a rollout.

        Args:
            batch_size: Tokens of a minibatch of the longest episodes.
        """
        segments = self.segments()
        if self._order is None:
            self._order = self.rng.permutation(len(segments))
        members = len(segments) if batch_size is None else batch_size // self.buffer_size
        return [
            [segments[i] for i in self._order[first : first + members]]
            for first in range(0, len(segments), members)
        ]


class SequenceRatioRLOO(llm_gym.RLOO):
    """RLOO with PPO's clipped loss on whole answers: one action is one answer.

    The loss is ``-mean_i min(rho_i A_i, clip(rho_i, 1 - eps, 1 + eps) A_i)`` with
    ``rho_i = pi(answer_i) / pi_old(answer_i)``, the product over all of its tokens; a clipped
    answer's tokens all stop learning together.
    """

    def _loss(
        self,
        policy: TransformerActorCriticPolicy,
        buffer: llm_gym.EpisodeBuffer,
        members: list[Segment],
    ) -> tuple[torch.Tensor, dict[str, float]]:
        batch, places = buffer.episode_batch(members), buffer.places(members)
        _, logits = policy.values_and_logits(batch)
        log_prob, entropy = log_prob_and_entropy(logits, batch.actions)
        log_ratio = answer_sums(
            log_prob - buffer.to_torch(buffer.log_probs[places]), batch.action_rows, len(members)
        )
        advantages = buffer.to_torch(
            buffer.advantages[[s.start for s in members], [s.env for s in members]]
        )  # (B,): all tokens of an answer have the same
        loss = losses.clipped_surrogate_loss(
            log_ratio, torch.zeros_like(log_ratio), advantages, self.clip_low, self.clip_high
        ).mean()
        figures = {"policy_loss": loss.item(), "entropy": entropy.mean().item()}
        return loss, figures | self._ratio_figures(log_ratio.detach())


def answer_sums(per_token: torch.Tensor, rows: torch.Tensor, n_answers: int) -> torch.Tensor:
    """Sums over the tokens of each answer, shape ``(n_answers,)``."""
    return per_token.new_zeros(n_answers).index_add(0, rows, per_token)
