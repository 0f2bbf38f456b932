"""Stable-Baselines3's PPO on text, as it comes from its package.

No glue: an environment by its id, a policy by its name, a buffer. The buffer keeps tokens once an
episode, and an update reads each text once. Stable-Baselines3's own buffer keeps a whole text for
each token; the gradient of a batch is the same, and takes several times as long:

    python agents/interop/stable_baselines.py
    python agents/interop/stable_baselines.py --buffer own
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass

import gymnasium as gym
from shared import Config, MeasuredAlgorithm, parse_config
from stable_baselines3 import PPO
from stable_baselines3.common.buffers import DictRolloutBuffer

import llm_gym
from llm_gym.files.settings import setting

BUFFERS = {"EpisodeBuffer": llm_gym.EpisodeBuffer, "own": DictRolloutBuffer}


@dataclass(frozen=True)
class Settings(Config):
    """What this script can be told."""

    buffer: str = setting("EpisodeBuffer", "or own: Stable-Baselines3's, which is slow on text")


class MeasuredPPO(MeasuredAlgorithm, PPO):
    """Stable-Baselines3's PPO."""


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the script; returns the exit code."""
    config = parse_config(__doc__, argv, Settings)
    tokens = config.num_envs * config.max_new_tokens  # of a rollout
    env = gym.make_vec(
        config.env,
        num_envs=config.num_envs,
        autoreset_mode="SameStep",
        max_new_tokens=config.max_new_tokens,
    )
    agent = MeasuredPPO(
        "TransformerPolicy",
        llm_gym.GymVecEnv(env),
        rollout_buffer_class=BUFFERS[config.buffer],
        policy_kwargs={"model": config.model},
        n_steps=config.max_new_tokens,
        batch_size=tokens // 2,
        n_epochs=config.n_epochs,
        learning_rate=config.learning_rate,
        gamma=1.0,
        max_grad_norm=1.0,
        seed=config.seed,
        device="cpu",
    )
    agent.learn(max(config.total_tokens // tokens, 1) * tokens)
    print(agent.meter.report(f"Stable-Baselines3, buffer {config.buffer}"))
    return 0


if __name__ == "__main__":
    sys.exit(main())
