"""Group-relative policy optimisation (GRPO) on a language model: a group's scores, standardised.

    A_i = (R_i - mean_j R_j) / std_j R_j
    loss = mean_i mean_t [ -min(rho A, clip(rho, 1 - eps, 1 + eps) A) + beta k3 ]
    k3 = pi_ref / pi - 1 - log(pi_ref / pi)

(Shao et al., 2402.03300.) The standard deviation makes it deaf to the scores' units, so beta weighs
against advantages of size one. Its two divisions, by deviation and by length, bias the gradient,
and k3 in the loss has that of KL(pi_ref || pi): agents/dr_grpo_text.py is without all three.

    python agents/grpo_text.py --output runs/grpo
    python agents/grpo_text.py --n-epochs 2
    python agents/grpo_text.py --output runs/grpo --resume  # after Ctrl-C
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
        advantage="grpo",
        loss="clipped",
        clip_range=0.2,
        aggregation="sequence_mean",  # a token of a long answer counts less
        kl_in="loss",
        kl_estimator="k3",
        kl_coef=options.kl_coef,
        **policy_settings(options),
    )


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the script; returns the exit code."""
    parser = text_agent_parser(__doc__, output="runs/grpo_text")
    add = parser.add_argument
    add("--kl-coef", type=float, default=0.04, help="weight of the penalty, beta [0.04]")
    return run_text_agent(parser.parse_args(argv), make_algorithm)


if __name__ == "__main__":
    try:
        sys.exit(main())
    except (ValueError, TypeError, OSError) as error:
        sys.exit(f"error: {error}")
