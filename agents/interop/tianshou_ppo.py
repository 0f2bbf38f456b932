"""Tianshou's PPO, `Collector` and `VectorReplayBuffer` on text.

Glue: an actor and a critic around the policy, and a wrapper that drops infos. Tianshou's buffer
makes an array of every info, and texts come at the end of an episode only: without the wrapper,
"Encountered NaNs in buffer". It also collects with gradients on, which a policy has to take for an
update; `torch.no_grad()` around `collect` lets it read one new token a step. A Gymnasium vector
environment has no `len()`, so the rows are single environments in a `DummyVectorEnv`.

    pip install tianshou
    python agents/interop/tianshou_ppo.py
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any

import gymnasium as gym
import torch
from shared import Meter, make_policy, parse_config
from tianshou.algorithm import PPO
from tianshou.algorithm.modelfree.reinforce import ProbabilisticActorPolicy
from tianshou.algorithm.optim import AdamOptimizerFactory
from tianshou.data import Collector, VectorReplayBuffer
from tianshou.env import DummyVectorEnv
from torch import nn

from llm_gym import TransformerActorCriticPolicy

KEYS = ("input_ids", "attention_mask", "completion_mask")


class NoInfo(gym.Wrapper):
    """Leaves out infos."""

    def reset(self, **kwargs: Any) -> tuple[Any, dict[str, Any]]:
        """Observation and nothing else."""
        return self.env.reset(**kwargs)[0], {}

    def step(self, action: Any) -> tuple[Any, Any, bool, bool, dict[str, Any]]:
        """As the environment's, without info."""
        return *self.env.step(action)[:4], {}


def tensors(obs: Any) -> dict[str, torch.Tensor]:
    """Tianshou's batch of observations as tensors."""
    return {key: torch.as_tensor(obs[key]) for key in KEYS}


class Actor(nn.Module):
    """Logits of the policy."""

    def __init__(self, policy: TransformerActorCriticPolicy) -> None:
        super().__init__()
        self.policy = policy

    def forward(self, obs: Any, state: Any = None, info: Any = None) -> tuple[torch.Tensor, Any]:
        """Logits `(N, V)`, and no state."""
        return self.policy.values_and_logits(tensors(obs))[1], None


class Critic(nn.Module):
    """Values of the same policy, whose parameters are the actor's."""

    def __init__(self, policy: TransformerActorCriticPolicy) -> None:
        super().__init__()
        self.policy_of = lambda: policy  # a function, so that parameters are counted once

    def forward(self, obs: Any, **kwargs: Any) -> torch.Tensor:
        """Values `(N, 1)`."""
        return self.policy_of().values_and_logits(tensors(obs))[0]


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the script; returns the exit code."""
    config = parse_config(__doc__, argv)
    torch.manual_seed(config.seed)

    def make() -> gym.Env:
        return NoInfo(gym.make(config.env, max_new_tokens=config.max_new_tokens))

    envs = DummyVectorEnv([make for _ in range(config.num_envs)])
    envs.seed(config.seed)
    one = make()
    policy = make_policy(config, one.observation_space, one.action_space)
    algorithm = PPO(
        policy=ProbabilisticActorPolicy(
            actor=Actor(policy),
            dist_fn=lambda logits: torch.distributions.Categorical(
                logits=logits, validate_args=False
            ),
            action_space=one.action_space,
            action_scaling=False,
            action_bound_method=None,
        ),
        critic=Critic(policy),
        optim=AdamOptimizerFactory(lr=config.learning_rate),
        gamma=1.0,
        gae_lambda=0.95,
        ent_coef=0.0,
        max_grad_norm=1.0,
    )
    tokens = config.num_envs * config.max_new_tokens  # of a rollout
    buffer = VectorReplayBuffer(tokens, config.num_envs)
    collector = Collector(algorithm, envs, buffer)
    collector.reset()
    meter = Meter(policy, config.num_envs)
    for _ in range(max(config.total_tokens // tokens, 1)):
        with meter.measure("rollout", tokens), torch.no_grad():
            collector.collect(n_step=tokens)
        ended = buffer.done[: len(buffer)]
        print(f"score {buffer.rew[: len(buffer)][ended].mean():.2f}")
        with meter.measure("update", tokens * config.n_epochs):
            algorithm.policy.is_within_training_step = True
            algorithm.update(buffer, batch_size=tokens // 2, repeat=config.n_epochs)
        collector.reset_buffer(keep_statistics=True)
    print(meter.report("Tianshou"))
    return 0


if __name__ == "__main__":
    sys.exit(main())
