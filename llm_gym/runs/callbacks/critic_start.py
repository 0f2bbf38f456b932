"""A critic that starts at the level of the returns instead of at nothing."""

from __future__ import annotations

from stable_baselines3.common.callbacks import BaseCallback

from llm_gym.learning.base import AnswerLearner
from llm_gym.learning.buffer import EpisodeBuffer
from llm_gym.learning.critic_start import start_critic
from llm_gym.policy import TransformerActorCriticPolicy


class CriticStart(BaseCallback):
    """Sets the bias of a value head that is still zero to the mean return of the first rollout.

    A value head starts at zero, and returns do not. Until the critic has found their level, two
    things go wrong. Its loss is large, and a transformer that actor and critic share is moved by
    it, away from the model it was. And with `gae_lambda` below 1 an advantage tells where in the
    answer a token stands, `lambda^(T - t) R`, more than whether the answer was good: of positive
    scores the last tokens get more, and an answer that the rollout's end cut off gets nothing.

    The level is the mean return of the first rollout (`llm_gym.learning.critic_start`). Algorithms
    of llm_gym that have a critic start it themselves (`critic_start=True`); this is for
    Stable-Baselines3's.

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
        level = start_critic(buffer, policy)
        self.level = self.level if level is None else level
