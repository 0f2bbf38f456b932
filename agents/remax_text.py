"""ReMax on a language model: the score of the greedy answer is the baseline.

    A_t = G_t - R(greedy answer to the same prompt)     loss = -A_t log pi(a_t|s_t)

(Li et al., 2310.10505.) The baseline knows the prompt and needs no critic. It costs an answer that
is not learnt from: the first row of each group decodes greedily, 1 / group_size of all decoding and
scoring; --group-size 2 is the paper's one greedy answer for each sampled one.

    python agents/remax_text.py --output runs/remax
    python agents/remax_text.py --group-size 2
    python agents/remax_text.py --output runs/remax --resume  # after Ctrl-C
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
        advantage="remax",
        loss="policy_gradient",
        aggregation="constant",  # the sum over an answer's tokens
        kl_in="reward",  # r_t - beta (log pi - log pi_ref): the estimate with the right gradient
        kl_coef=options.kl_coef,
        **policy_settings(options),
    )


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the script; returns the exit code."""
    parser = text_agent_parser(__doc__, output="runs/remax_text", group_size=4, batch_size=None)
    add = parser.add_argument
    add("--kl-coef", type=float, default=1.0, help="score taken off per nat of divergence [1]")
    return run_text_agent(parser.parse_args(argv), make_algorithm)


if __name__ == "__main__":
    try:
        sys.exit(main())
    except (ValueError, TypeError, OSError) as error:
        sys.exit(f"error: {error}")
