"""Supervised fine-tuning on the best of many samples: expert iteration with a single round.

All --total-tokens are sampled from the model as it starts; then the best answer of each group is
imitated, --n-epochs times. The contrast to raft_text.py at equal samples: this cannot become better
than best-of-n of the first model, because nothing better is ever sampled.

    python agents/sft_on_best_text.py --group-size 8 --n-epochs 3 --output runs/sft-on-best
    python agents/sft_on_best_text.py --output runs/sft-on-best --resume        # after Ctrl-C
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from gymnasium.vector import VectorEnv

from llm_gym.learning.expert_iteration import SFTOnBest
from llm_gym.stages.text_agent import policy_settings, run_text_agent, text_agent_parser


def make_algorithm(options: argparse.Namespace, env: VectorEnv) -> SFTOnBest:
    """The algorithm with the script's options; the learning rate falls over the gradient steps."""
    settings = policy_settings(options)
    settings["learning_rate"] = lambda left: options.learning_rate * left
    return SFTOnBest("TransformerPolicy", env, **settings)


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the script; returns the exit code."""
    parser = text_agent_parser(__doc__, n_epochs=3, output="runs/sft_on_best_text")
    return run_text_agent(parser.parse_args(argv), make_algorithm)


if __name__ == "__main__":
    try:
        sys.exit(main())
    except (ValueError, TypeError, OSError) as error:
        sys.exit(f"error: {error}")
