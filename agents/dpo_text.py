"""DPO on a language model: pairs of its own answers, labelled by the scorer.

Each pair of answers to a prompt gets the probability that a rater would prefer the one to the
other, sigmoid(difference of scores / --label-scale), and the model is fitted to it through its own
likelihoods (Rafailov et al., 2305.18290). No critic, no reward model, no sampling while learning.
The optimum is that of reinforcement learning with kl_coef = beta * label_scale.

    python agents/dpo_text.py --output runs/dpo                    # sample first, then learn
    python agents/dpo_text.py --online --output runs/online-dpo    # fresh pairs each iteration
    python agents/dpo_text.py --output runs/dpo --resume           # after Ctrl-C
    llm-gym dpo votes.db --output runs/dpo-votes                   # from people's stored votes
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from gymnasium.vector import VectorEnv

from llm_gym.learning.dpo import DPO
from llm_gym.stages.text_agent import policy_settings, run_text_agent, text_agent_parser


def make_algorithm(options: argparse.Namespace, env: VectorEnv) -> DPO:
    """The algorithm with the script's options."""
    names = ("beta", "label_smoothing", "loss", "labels", "label_scale", "online")
    chosen = {name: getattr(options, name) for name in names}
    return DPO("TransformerPolicy", env, **chosen, **policy_settings(options))


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the script; returns the exit code."""
    parser = text_agent_parser(__doc__, group_size=2, batch_size=2048, output="runs/dpo_text")
    add = parser.add_argument
    add("--beta", type=float, default=0.1, help="price of a nat of divergence [0.1]")
    add("--label-smoothing", type=float, default=0.0, help="share of labels taken to be wrong [0]")
    add("--loss", default="sigmoid", help="sigmoid or ipo [sigmoid]")
    add("--labels", default="soft", help="soft, bradley_terry or deterministic [soft]")
    add("--label-scale", type=float, default=10.0, help="score that makes a nat of log-odds [10]")
    add("--online", action="store_true", help="sample fresh pairs each iteration")
    return run_text_agent(parser.parse_args(argv), make_algorithm)


if __name__ == "__main__":
    try:
        sys.exit(main())
    except (ValueError, TypeError, OSError) as error:
        sys.exit(f"error: {error}")
