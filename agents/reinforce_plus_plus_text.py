"""REINFORCE++ on a language model: token rewards, whitened over the whole batch, clipped as in PPO.

    A_t = r(x, y) - beta sum_{u >= t} log(pi / pi_ref),  A = (A - mean) / std over all tokens
    loss = -min(rho A, clip(rho, 1 - eps, 1 + eps) A),   rho = pi / pi_old

No critic and no groups (Hu, 2501.03262): one answer to each prompt is enough, which suits many
different prompts. The whitening is over the batch, so no prompt is louder for being easy.

    python agents/reinforce_plus_plus_text.py --output runs/reinforce_plus_plus
    python agents/reinforce_plus_plus_text.py --n-epochs 2
    python agents/reinforce_plus_plus_text.py --output runs/reinforce_plus_plus --resume
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
        advantage="reinforce_plus_plus",
        loss="clipped",
        clip_range=0.2,
        aggregation="token_mean",
        kl_in="reward",  # r_t - beta (log pi - log pi_ref): the estimate with the right gradient
        kl_coef=options.kl_coef,
        **policy_settings(options),
    )


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the script; returns the exit code."""
    parser = text_agent_parser(__doc__, output="runs/reinforce_plus_plus_text", group_size=1)
    add = parser.add_argument
    add("--kl-coef", type=float, default=1.0, help="score taken off per nat of divergence [1]")
    return run_text_agent(parser.parse_args(argv), make_algorithm)


if __name__ == "__main__":
    try:
        sys.exit(main())
    except (ValueError, TypeError, OSError) as error:
        sys.exit(f"error: {error}")
