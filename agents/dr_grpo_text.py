"""Dr. GRPO on a language model: GRPO without its two biases.

    A_i = R_i - mean_j R_j,  R = score - beta sum_t log(pi / pi_ref)
    loss = sum_i sum_t -min(rho A, clip(rho, 1 - eps, 1 + eps) A) / constant

No division by the group's deviation, none by the answer's length (Liu et al., 2503.20783): long
wrong answers are blamed as much as short ones. The expected gradient is the true one times 1 - 1/G.

    python agents/dr_grpo_text.py --output runs/dr_grpo
    python agents/dr_grpo_text.py --n-epochs 2
    python agents/dr_grpo_text.py --output runs/dr_grpo --resume  # after Ctrl-C
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
        advantage="dr_grpo",
        loss="clipped",
        clip_range=0.2,
        aggregation="constant",  # the same constant for every answer, whatever its length
        kl_in="reward",  # r_t - beta (log pi - log pi_ref): the estimate with the right gradient
        kl_coef=options.kl_coef,
        **policy_settings(options),
    )


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the script; returns the exit code."""
    parser = text_agent_parser(__doc__, output="runs/dr_grpo_text")
    add = parser.add_argument
    add("--kl-coef", type=float, default=1.0, help="score taken off per nat of divergence [1]")
    return run_text_agent(parser.parse_args(argv), make_algorithm)


if __name__ == "__main__":
    try:
        sys.exit(main())
    except (ValueError, TypeError, OSError) as error:
        sys.exit(f"error: {error}")
