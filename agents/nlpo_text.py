"""NLPO on a language model: PPO among the tokens that an earlier policy finds probable.

    pi(a|s) is zero outside the top-p nucleus of a mask policy, and renormalised
    loss = -min(rho A, clip(rho, 1 - eps, 1 + eps) A) + the critic's,  A from GAE

The mask policy is a copy of the policy, refreshed every --mask-interval rollouts (Ramamurthy et
al., 2210.01241). For large vocabularies in which most tokens are never right. Decoding costs twice
as much, and what the mask policy finds improbable now cannot be discovered before the next refresh.

    python agents/nlpo_text.py --output runs/nlpo
    python agents/nlpo_text.py --mask-top-p 0.8
    python agents/nlpo_text.py --output runs/nlpo --resume  # after Ctrl-C
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from gymnasium.vector import VectorEnv

from llm_gym import NLPO
from llm_gym.stages.text_agent import policy_settings, run_text_agent, text_agent_parser


def make_algorithm(options: argparse.Namespace, env: VectorEnv) -> NLPO:
    """The algorithm, choice by choice."""
    return NLPO(
        "TransformerPolicy",
        env,
        mask_top_p=options.mask_top_p,
        mask_interval=options.mask_interval,
        advantage="gae",
        gae_lambda=0.95,
        loss="clipped",
        normalize_advantage=True,
        kl_in="reward",  # r_t - beta (log pi - log pi_ref): the estimate with the right gradient
        kl_coef=options.kl_coef,
        **policy_settings(options),
    )


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the script; returns the exit code."""
    parser = text_agent_parser(__doc__, output="runs/nlpo_text", group_size=1, n_epochs=4)
    add = parser.add_argument
    add("--kl-coef", type=float, default=1.0, help="score taken off per nat of divergence [1]")
    add("--mask-top-p", type=float, default=0.9, help="probability of the nucleus [0.9]")
    add("--mask-interval", type=int, default=10, help="rollouts between refreshments [10]")
    return run_text_agent(parser.parse_args(argv), make_algorithm)


if __name__ == "__main__":
    try:
        sys.exit(main())
    except (ValueError, TypeError, OSError) as error:
        sys.exit(f"error: {error}")
