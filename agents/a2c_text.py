"""Advantage actor-critic (A2C) on a language model: one step a rollout, a critic for a baseline.

    A_t = sum_k lambda^k (r_{t+k} + V(s_{t+k+1}) - V(s_{t+k}))     loss = -A_t log pi(a_t|s_t)

The critic is a second head on the transformer (Mnih et al., 1602.01783). With lambda = 1 it is
REINFORCE with a learnt baseline that knows the prompt and the tokens so far. Needs no groups, and
no episode has to be complete: it may learn in the middle of long answers.

    python agents/a2c_text.py --output runs/a2c
    python agents/a2c_text.py --critic separate --gae-lambda 0.95
    python agents/a2c_text.py --output runs/a2c --resume  # after Ctrl-C
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from gymnasium.vector import VectorEnv

from llm_gym import PolicyGradient
from llm_gym.stages.text_agent import policy_settings, run_text_agent, text_agent_parser


def make_algorithm(options: argparse.Namespace, env: VectorEnv) -> PolicyGradient:
    """The algorithm, choice by choice."""
    return PolicyGradient(
        "TransformerPolicy",
        env,
        advantage="gae",
        gae_lambda=options.gae_lambda,
        loss="policy_gradient",  # -A log pi: PPO with one epoch and one minibatch
        critic=options.critic,
        kl_in="reward",  # r_t - beta (log pi - log pi_ref): the estimate with the right gradient
        kl_coef=options.kl_coef,
        **policy_settings(options),
    )


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the script; returns the exit code."""
    parser = text_agent_parser(__doc__, output="runs/a2c_text", group_size=1, batch_size=None)
    add = parser.add_argument
    add("--kl-coef", type=float, default=1.0, help="score taken off per nat of divergence [1]")
    add("--gae-lambda", type=float, default=1.0, help="bias against variance [1]")
    add("--critic", default="shared", choices=("shared", "separate", "detached"), help="[shared]")
    return run_text_agent(parser.parse_args(argv), make_algorithm)


if __name__ == "__main__":
    try:
        sys.exit(main())
    except (ValueError, TypeError, OSError) as error:
        sys.exit(f"error: {error}")
