"""REINFORCE leave-one-out (RLOO) on a language model: the other answers are the baseline.

    A_i = R_i - mean_{j != i} R_j,  R = score - beta sum_t log(pi / pi_ref)
    loss = -A_i log pi(y_i|x)

Every prompt gets --group-size answers, each judged against the others (Ahmadian et al.,
2402.14740). Unbiased, no critic, no clipping, nothing to tune but the learning rate: the first to
try.

    python agents/rloo_text.py --output runs/rloo
    python agents/rloo_text.py --group-size 2
    python agents/rloo_text.py --output runs/rloo --resume  # after Ctrl-C
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
        advantage="rloo",
        loss="policy_gradient",
        aggregation="constant",  # the sum over an answer's tokens: log pi(y|x)
        kl_in="reward",  # r_t - beta (log pi - log pi_ref): the estimate with the right gradient
        kl_coef=options.kl_coef,
        **policy_settings(options),
    )


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the script; returns the exit code."""
    parser = text_agent_parser(__doc__, output="runs/rloo_text", group_size=4, batch_size=None)
    add = parser.add_argument
    add("--kl-coef", type=float, default=1.0, help="score taken off per nat of divergence [1]")
    return run_text_agent(parser.parse_args(argv), make_algorithm)


if __name__ == "__main__":
    try:
        sys.exit(main())
    except (ValueError, TypeError, OSError) as error:
        sys.exit(f"error: {error}")
