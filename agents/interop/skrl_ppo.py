"""skrl's PPO agent and its `SequentialTrainer` on text.

Glue: one shared `Model` around the policy. skrl flattens Dict observations to float32 rows; ids are
whole numbers there (up to 16 million), and the policy casts them back. Its minibatches are
transitions, so the update reads one padded prefix a token.

    pip install skrl
    python agents/interop/skrl_ppo.py
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any

import gymnasium as gym
import torch
from shared import Meter, make_policy, parse_config
from skrl.agents.torch.ppo import PPO, PPO_CFG
from skrl.envs.wrappers.torch import wrap_env
from skrl.memories.torch import RandomMemory
from skrl.models.torch import CategoricalMixin, DeterministicMixin, Model
from skrl.trainers.torch import SequentialTrainer
from skrl.utils import set_seed
from skrl.utils.spaces.torch import unflatten_tensorized_space

from llm_gym import TransformerActorCriticPolicy


class TextModel(CategoricalMixin, DeterministicMixin, Model):
    """Actor and critic in one, as they are one transformer; without gradients from its cache."""

    def __init__(self, env: Any, policy: TransformerActorCriticPolicy) -> None:
        Model.__init__(
            self,
            observation_space=env.observation_space,
            action_space=env.action_space,
            device=env.device,
        )
        CategoricalMixin.__init__(self, role="policy")
        DeterministicMixin.__init__(self, role="value")
        self.policy = policy

    def act(self, inputs: dict[str, Any], *, role: str = "") -> tuple[torch.Tensor, dict[str, Any]]:
        """Actions, or values."""
        mixin: Any = CategoricalMixin if role == "policy" else DeterministicMixin
        return mixin.act(self, inputs, role=role)

    def compute(self, inputs: dict[str, Any], role: str) -> tuple[torch.Tensor, dict[str, Any]]:
        """Logits `(N, V)`, or values `(N, 1)`."""
        obs = unflatten_tensorized_space(self.observation_space, inputs["observations"])
        values, logits = self.policy.values_and_logits(obs)
        return (logits if role == "policy" else values), {}


class Measured(PPO):
    """skrl's PPO, with the meter around its update."""

    meter: Meter
    update_tokens: int

    def update(self, *, timestep: int, timesteps: int) -> None:
        """As skrl's."""
        ended = self.memory.get_tensor_by_name("terminated").bool()
        print(f"score {self.memory.get_tensor_by_name('rewards')[ended].mean():.2f}")
        with self.meter.measure("update", self.update_tokens):
            super().update(timestep=timestep, timesteps=timesteps)


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the script; returns the exit code."""
    config = parse_config(__doc__, argv)
    set_seed(config.seed)
    env = wrap_env(
        gym.make_vec(
            config.env,
            num_envs=config.num_envs,
            autoreset_mode="SameStep",
            max_new_tokens=config.max_new_tokens,
        )
    )
    policy = make_policy(config, env.observation_space, env.action_space)
    rollouts = config.max_new_tokens
    settings = PPO_CFG(
        rollouts=rollouts,
        learning_epochs=config.n_epochs,
        mini_batches=2,
        discount_factor=1.0,
        learning_rate=config.learning_rate,
        value_loss_scale=0.5,
        grad_norm_clip=1.0,
    )
    settings.experiment.write_interval = settings.experiment.checkpoint_interval = 0
    model = TextModel(env, policy)
    agent = Measured(
        models={"policy": model, "value": model},
        memory=RandomMemory(memory_size=rollouts, num_envs=config.num_envs, device=env.device),
        observation_space=env.observation_space,
        action_space=env.action_space,
        device=env.device,
        cfg=settings,
    )
    agent.meter = Meter(policy, config.num_envs)
    agent.update_tokens = config.num_envs * rollouts * config.n_epochs
    steps = max(config.total_tokens // (config.num_envs * rollouts), 1) * rollouts
    trainer = SequentialTrainer(
        env=env,
        agents=agent,
        cfg={"timesteps": steps, "headless": True, "disable_progressbar": True},
    )
    with agent.meter.measure("rollout", steps * config.num_envs):
        trainer.train()
    print(agent.meter.report("skrl"))
    return 0


if __name__ == "__main__":
    sys.exit(main())
