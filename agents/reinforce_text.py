"""REINFORCE on a language model: the answers' scores times the gradient of their log-probability.

    A_t = G_t - b        loss = -A_t log pi(a_t|s_t), summed over each answer

G_t is the reward from token t on (Williams, 1992). The baseline b takes out noise, not signal: the
mean score of the batch, a moving average of the batches before, or none. Where to begin, and what
everything else is measured against.

    python agents/reinforce_text.py --output runs/reinforce
    python agents/reinforce_text.py --baseline none
    python agents/reinforce_text.py --output runs/reinforce --resume  # after Ctrl-C
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from gymnasium.vector import VectorEnv

from llm_gym import PolicyGradient
from llm_gym.stages.text_agent import policy_settings, run_text_agent, text_agent_parser

BASELINES = {"batch": "batch_mean", "average": "moving_average", "none": "reinforce"}


def make_algorithm(options: argparse.Namespace, env: VectorEnv) -> PolicyGradient:
    """The algorithm, choice by choice."""
    return PolicyGradient(
        "TransformerPolicy",
        env,
        advantage=BASELINES[options.baseline],
        loss="policy_gradient",  # -A log pi; one step a rollout, so nothing needs clipping
        aggregation="constant",  # the sum over an answer's tokens: the gradient of its score
        kl_in="reward",  # r_t - beta (log pi - log pi_ref): the estimate with the right gradient
        kl_coef=options.kl_coef,
        **policy_settings(options),
    )


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the script; returns the exit code."""
    parser = text_agent_parser(__doc__, output="runs/reinforce_text", group_size=1, batch_size=None)
    add = parser.add_argument
    add("--kl-coef", type=float, default=1.0, help="score taken off per nat of divergence [1]")
    add("--baseline", default="batch", choices=BASELINES, help="what is subtracted [batch]")
    return run_text_agent(parser.parse_args(argv), make_algorithm)


if __name__ == "__main__":
    try:
        sys.exit(main())
    except (ValueError, TypeError, OSError) as error:
        sys.exit(f"error: {error}")
