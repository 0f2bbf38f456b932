"""DAPO on a language model: GRPO with a higher upper clip and a mean over tokens.

    A_i = (R_i - mean_j R_j) / std_j R_j
    loss = mean over all tokens of -min(rho A, clip(rho, 1 - low, 1 + high) A)

With high > low improbable tokens have room to grow, against the collapse of entropy; the mean over
tokens lets long answers count by their length; no penalty (Yu et al., 2503.14476). It is meant for
several gradient steps a rollout. The paper's dynamic sampling and length shaping are not here.

    python agents/dapo_text.py --output runs/dapo
    python agents/dapo_text.py --clip-high 0.4
    python agents/dapo_text.py --output runs/dapo --resume  # after Ctrl-C
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
        clip_range=(0.2, options.clip_high),
        aggregation="token_mean",
        kl_coef=0.0,
        **policy_settings(options),
    )


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the script; returns the exit code."""
    parser = text_agent_parser(__doc__, output="runs/dapo_text", n_epochs=2)
    add = parser.add_argument
    add("--clip-high", type=float, default=0.28, help="how far a ratio may rise above 1 [0.28]")
    return run_text_agent(parser.parse_args(argv), make_algorithm)


if __name__ == "__main__":
    try:
        sys.exit(main())
    except (ValueError, TypeError, OSError) as error:
        sys.exit(f"error: {error}")
