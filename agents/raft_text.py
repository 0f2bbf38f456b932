"""Expert iteration (RAFT) on a language model: imitate the best of every group of answers.

Each iteration writes --group-size answers to each prompt, keeps the best one and takes supervised
steps on it: -log pi(best answer | prompt). No critic, no advantage, no scale of scores; only their
order counts (Dong et al., 2304.06767).

    python agents/raft_text.py --output runs/raft
    python agents/raft_text.py --top-share 0.1 --output runs/raft-top     # best tenth of all
    python agents/raft_text.py --kl-coef 1 --output runs/raft-kl          # divergence costs score
    python agents/raft_text.py --output runs/raft --resume                # after Ctrl-C
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from gymnasium.vector import VectorEnv

from llm_gym.learning.expert_iteration import ExpertIteration
from llm_gym.stages.text_agent import policy_settings, run_text_agent, text_agent_parser


def make_algorithm(options: argparse.Namespace, env: VectorEnv) -> ExpertIteration:
    """The algorithm with the script's options."""
    return ExpertIteration(
        "TransformerPolicy",
        env,
        top_share=options.top_share,
        threshold=options.threshold,
        kl_coef=options.kl_coef,
        **policy_settings(options),
    )


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the script; returns the exit code."""
    parser = text_agent_parser(__doc__, output="runs/raft_text")
    add = parser.add_argument
    add("--top-share", type=float, help="keep this share of all answers, not one of each group")
    add("--threshold", type=float, help="keep all answers of at least this score instead")
    add("--kl-coef", type=float, default=0.0, help="score taken off per nat of divergence [0]")
    return run_text_agent(parser.parse_args(argv), make_algorithm)


if __name__ == "__main__":
    try:
        sys.exit(main())
    except (ValueError, TypeError, OSError) as error:
        sys.exit(f"error: {error}")
