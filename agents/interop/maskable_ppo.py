"""sb3-contrib's MaskablePPO on text whose environment forbids tokens, as it comes from its package.

No glue: the policy and the buffer are those that know of masks. Answers are at least four tokens
long here, so the token that ends one is masked until then.

    pip install sb3-contrib
    python agents/interop/maskable_ppo.py
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

import gymnasium as gym
from sb3_contrib import MaskablePPO
from shared import MeasuredAlgorithm, parse_config

import llm_gym
from llm_gym.learning.buffer import MaskableEpisodeBuffer
from llm_gym.policy import MaskableTransformerPolicy


class MeasuredMaskablePPO(MeasuredAlgorithm, MaskablePPO):
    """sb3-contrib's MaskablePPO."""


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the script; returns the exit code."""
    config = parse_config(__doc__, argv)
    tokens = config.num_envs * config.max_new_tokens  # of a rollout
    env = gym.make_vec(
        config.env,
        num_envs=config.num_envs,
        autoreset_mode="SameStep",
        max_new_tokens=config.max_new_tokens,
        min_new_tokens=4,
    )
    agent = MeasuredMaskablePPO(
        MaskableTransformerPolicy,
        llm_gym.GymVecEnv(env),
        rollout_buffer_class=MaskableEpisodeBuffer,
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
    print(agent.meter.report("sb3-contrib, MaskablePPO"))
    return 0


if __name__ == "__main__":
    sys.exit(main())
