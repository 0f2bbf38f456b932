"""A critic that starts at the level of the returns instead of at nothing."""

from __future__ import annotations

import numpy as np
import torch
from stable_baselines3.common.callbacks import BaseCallback

from llm_gym.learning.advantages import gae
from llm_gym.learning.base import AnswerLearner
from llm_gym.learning.buffer import EpisodeBuffer
from llm_gym.parallel import world
from llm_gym.policy import TransformerActorCriticPolicy


class CriticStart(BaseCallback):
    """Sets the bias of a value head that is still zero to the mean return of the first rollout.

    A value head starts at zero, and returns do not. Until the critic has found their level, two
    things go wrong. Its loss is large, and a transformer that actor and critic share is moved by
    it, away from the model it was. And with `gae_lambda` below 1 an advantage tells where in the
    answer a token stands, `lambda^(T - t) R`, more than whether the answer was good: of positive
    scores the last tokens get more, and an answer that the rollout's end cut off gets nothing.

    The level is the constant that fits best, in squared error: the mean over the tokens of complete
    episodes of what was still to come, penalties and scaling included. The first rollout's
    advantages are computed again with it.

    Algorithms without a critic and value heads that were loaded or have learnt are left alone, so
    a resumed run goes on as it would have.

    Attributes:
        level: What the critic started from, in the units of the scaled returns; `None` before
            that, or if there was nothing to do.
    """

    def __init__(self) -> None:
        super().__init__()
        self.level: float | None = None

    def _on_step(self) -> bool:
        return True

    def _on_rollout_end(self) -> None:
        buffer = getattr(self.model, "rollout_buffer", None)
        policy = self.model.policy
        no_critic = isinstance(self.model, AnswerLearner) and not self.model.has_critic
        if no_critic or not isinstance(buffer, EpisodeBuffer):
            return
        assert isinstance(policy, TransformerActorCriticPolicy)
        if any(bool(p.any()) for p in policy.value_head.parameters()):
            return
        complete = [segment for segment in buffer.segments() if buffer.complete(segment)]
        dones = np.asarray(self.locals["dones"])
        nothing = np.zeros_like(buffer.rewards)
        to_come = self._gae(buffer, nothing, nothing[0], dones, gae_lambda=1.0)
        own = to_come[buffer.places(complete)] if complete else to_come[:0, 0]
        of_tokens = world().union(own)
        if not len(of_tokens):
            return
        self.level = float(of_tokens.mean())
        with torch.no_grad():
            policy.value_head.bias.fill_(self.level / policy.value_scale)
        buffer.values = np.full_like(buffer.values, self.level)
        buffer.advantages = self._gae(
            buffer, buffer.values, buffer.values[-1], dones, gae_lambda=buffer.gae_lambda
        )
        buffer.returns = buffer.advantages + buffer.values

    @staticmethod
    def _gae(
        buffer: EpisodeBuffer,
        values: np.ndarray,
        last_values: np.ndarray,
        dones: np.ndarray,
        *,
        gae_lambda: float,
    ) -> np.ndarray:
        return gae(
            buffer.rewards,
            values,
            buffer.episode_starts,
            last_values,
            dones,
            gamma=buffer.gamma,
            gae_lambda=gae_lambda,
        ).astype(np.float32)
