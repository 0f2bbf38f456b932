"""RLlib's PPO (new API stack) on text, in one process.

Glue: an `RLModule` around the policy, and `register_env`. RLlib has no default encoder for a Dict
of token ids. Env runner and learner each have a module of their own, as everywhere in RLlib, and
hand weights over. RLlib calls `eval()` and `train()` around every forward pass; neither changes
anything in a policy whose dropout is always off, so they stop at the module here.

    pip install "ray[rllib]"    # pins its own Gymnasium, older than llm_gym's constraints
    python agents/interop/rllib_ppo.py
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any

import gymnasium as gym
import ray
import torch
from ray.rllib.algorithms.ppo import PPOConfig
from ray.rllib.core.columns import Columns
from ray.rllib.core.rl_module.apis.value_function_api import ValueFunctionAPI
from ray.rllib.core.rl_module.rl_module import RLModuleSpec
from ray.rllib.core.rl_module.torch import TorchRLModule
from ray.tune.registry import register_env
from shared import Config, Meter, make_policy, parse_config


class TextModule(TorchRLModule, ValueFunctionAPI):
    """Logits and values of the policy."""

    def setup(self) -> None:
        """Makes the policy."""
        config: Config = self.model_config["text"]
        self.policy = make_policy(config, self.observation_space, self.action_space)

    def train(self, mode: bool = True) -> TextModule:
        """Nothing: dropout is off always, and what was read may be kept."""
        return self

    def _forward(self, batch: dict[str, Any], **kwargs: Any) -> dict[str, torch.Tensor]:
        with torch.no_grad():  # one new token a row is read
            return self._forward_train(batch)

    def _forward_train(self, batch: dict[str, Any], **kwargs: Any) -> dict[str, torch.Tensor]:
        _, logits = self.policy.values_and_logits(batch[Columns.OBS])
        return {Columns.ACTION_DIST_INPUTS: logits}

    def compute_values(self, batch: dict[str, Any], embeddings: Any = None) -> torch.Tensor:
        """Values `(N,)`."""
        return self.policy.values_and_logits(batch[Columns.OBS])[0].squeeze(-1)


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the script; returns the exit code."""
    config = parse_config(__doc__, argv)
    tokens = config.num_envs * config.max_new_tokens  # of a rollout

    def make(context: Any) -> gym.Env:
        import llm_gym  # noqa: F401 -- registers the environments, in a worker too

        return gym.make(config.env, max_new_tokens=config.max_new_tokens)

    register_env("text", make)
    ray.init(num_cpus=1, include_dashboard=False, log_to_driver=False, logging_level="error")
    algorithm = (
        PPOConfig()
        .environment("text")
        .env_runners(
            num_env_runners=0,
            num_envs_per_env_runner=config.num_envs,
            rollout_fragment_length=config.max_new_tokens,
        )
        .training(
            train_batch_size_per_learner=tokens,
            minibatch_size=tokens // 2,
            num_epochs=config.n_epochs,
            gamma=1.0,
            lambda_=0.95,
            lr=config.learning_rate,
            use_kl_loss=False,
            grad_clip=1.0,
        )
        .rl_module(
            rl_module_spec=RLModuleSpec(module_class=TextModule, model_config={"text": config})
        )
        .debugging(seed=config.seed, log_level="ERROR")
        .build_algo()
    )
    runner: Any = algorithm.env_runner
    meter, sample = Meter(runner.module.policy, config.num_envs), runner.sample

    def measured(*args: Any, **kwargs: Any) -> Any:
        with meter.measure("rollout", tokens):
            return sample(*args, **kwargs)

    runner.sample = measured
    for _ in range(max(config.total_tokens // tokens, 1)):
        with meter.measure("update", tokens * config.n_epochs):
            result = algorithm.train()
        print(f"score {result['env_runners'].get('episode_return_mean', float('nan')):.2f}")
    print(meter.report("RLlib"))
    algorithm.stop()
    ray.shutdown()
    return 0


if __name__ == "__main__":
    sys.exit(main())
