"""PPO with TorchRL's parts: `GymWrapper`, `Collector`, `GAE`, `ClipPPOLoss`.

Glue: two modules, one that samples through the policy's cache, one that gives logits and value with
gradients. What TorchRL needs to be told:

- rows are reset by the collector: `autoreset_mode="Disabled"` (its default, "NextStep", is refused
  by TorchRL, and "SameStep" infos come and go, which its `GymWrapper` does not take);
- `GAE(deactivate_vmap=True, shifted=False)`: a cache is data-dependent control flow.

The update reads one padded prefix a token, TorchRL's minibatches being transitions.

    pip install torchrl
    python agents/interop/torchrl_ppo.py
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

import gymnasium as gym
import torch
from shared import Meter, make_policy, parse_config
from tensordict import TensorDict
from tensordict.nn import TensorDictModule
from torch import nn
from torchrl.collectors import Collector
from torchrl.envs import GymWrapper
from torchrl.modules import ProbabilisticActor
from torchrl.objectives import ClipPPOLoss
from torchrl.objectives.value import GAE

from llm_gym import TransformerActorCriticPolicy

KEYS = ["input_ids", "attention_mask", "completion_mask"]


class Sampler(nn.Module):
    """Samples as the policy does: one new token is read a step."""

    def __init__(self, policy: TransformerActorCriticPolicy) -> None:
        super().__init__()
        self.policy = policy

    def forward(self, *tensors: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Observations of any batch shape to actions and their log-probabilities."""
        shape = tensors[0].shape[:-1]
        obs = {key: t.reshape(-1, t.shape[-1]) for key, t in zip(KEYS, tensors, strict=True)}
        with torch.no_grad():
            action, _, log_prob = self.policy(obs)
        return action.reshape(shape), log_prob.reshape(shape)


class Logits(nn.Module):
    """Logits, or the value, with gradients."""

    def __init__(self, policy: TransformerActorCriticPolicy, *, value: bool) -> None:
        super().__init__()
        self.policy, self.value = policy, value

    def forward(self, *tensors: torch.Tensor) -> torch.Tensor:
        """Observations of any batch shape to `(..., V)` logits or `(..., 1)` values."""
        shape = tensors[0].shape[:-1]
        obs = {key: t.reshape(-1, t.shape[-1]) for key, t in zip(KEYS, tensors, strict=True)}
        values, logits = self.policy.values_and_logits(obs)
        return (values if self.value else logits).reshape(*shape, -1)


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the script; returns the exit code."""
    config = parse_config(__doc__, argv)
    torch.manual_seed(config.seed)
    vector_env = gym.make_vec(
        config.env,
        num_envs=config.num_envs,
        autoreset_mode="Disabled",
        max_new_tokens=config.max_new_tokens,
    )
    policy = make_policy(
        config, vector_env.single_observation_space, vector_env.single_action_space
    )
    env = GymWrapper(vector_env, categorical_action_encoding=True)
    env.set_seed(config.seed)
    tokens = config.num_envs * config.max_new_tokens  # of a rollout

    sampler = TensorDictModule(Sampler(policy), KEYS, ["action", "action_log_prob"])
    actor = ProbabilisticActor(
        TensorDictModule(Logits(policy, value=False), KEYS, ["logits"]),
        in_keys=["logits"],
        distribution_class=torch.distributions.Categorical,
        return_log_prob=True,
    )
    critic = TensorDictModule(Logits(policy, value=True), KEYS, ["state_value"])
    advantage = GAE(
        gamma=1.0, lmbda=0.95, value_network=critic, deactivate_vmap=True, shifted=False
    )
    loss_module = ClipPPOLoss(actor, critic, clip_epsilon=0.2, entropy_coeff=0.0)
    optimizer = torch.optim.AdamW(policy.parameters(), lr=config.learning_rate, weight_decay=0.0)
    meter = Meter(policy, config.num_envs)
    collector = Collector(
        env,
        sampler,
        frames_per_batch=tokens,
        total_frames=max(config.total_tokens // tokens, 1) * tokens,
    )
    batches = iter(collector)
    while True:
        with meter.measure("rollout", tokens):
            batch: TensorDict | None = next(batches, None)
        if batch is None:
            meter.tokens["rollout"] -= tokens
            break
        with meter.measure("update", tokens * config.n_epochs):
            with torch.no_grad():
                advantage(batch)
            flat = batch.reshape(-1)
            for _ in range(config.n_epochs):
                for rows in torch.randperm(len(flat)).chunk(2):
                    losses = loss_module(flat[rows])
                    optimizer.zero_grad()
                    (losses["loss_objective"] + losses["loss_critic"]).backward()
                    torch.nn.utils.clip_grad_norm_(policy.parameters(), 1.0)
                    optimizer.step()
        done = batch["next", "done"].flatten()
        print(f"score {batch['next', 'reward'].flatten()[done].mean():.2f}")
    print(meter.report("TorchRL"))
    collector.shutdown()
    return 0


if __name__ == "__main__":
    sys.exit(main())
