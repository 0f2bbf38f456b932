"""TRPO on a language model: sb3-contrib's, unmodified (pip install llm-gym[contrib]).

    maximise mean(rho A)  subject to  mean KL(pi_old || pi) <= target

A natural gradient and a line search instead of a learning rate and clipping (Schulman et al.,
1502.05477). Each update solves with the divergence's Hessian by conjugate gradients, which costs
--cg-steps more passes: for small models, and where a step must never be too large. No KL penalty.

    python agents/trpo_text.py --output runs/trpo
    python agents/trpo_text.py --target-kl 0.02 --cg-steps 15
    python agents/trpo_text.py --output runs/trpo --resume  # after Ctrl-C
"""

from __future__ import annotations

import argparse
import sys
import warnings
from collections.abc import Sequence
from typing import Any

from gymnasium.vector import VectorEnv

from llm_gym import EpisodeBuffer, GymVecEnv
from llm_gym.policy import TwiceDifferentiablePolicy
from llm_gym.stages.text_agent import policy_settings, run_text_agent, text_agent_parser


def make_algorithm(options: argparse.Namespace, env: VectorEnv) -> Any:
    """Only the policy and the buffer are ours."""
    from sb3_contrib import TRPO

    settings = policy_settings(options)
    del settings["n_epochs"]  # one natural step a rollout
    warnings.filterwarnings("ignore", "You have specified a mini-batch size of")  # whole answers
    return TRPO(
        TwiceDifferentiablePolicy,  # plain attention: PyTorch's fused one has no second derivative
        GymVecEnv(env),
        rollout_buffer_class=EpisodeBuffer,
        n_steps=env.unwrapped.max_new_tokens,  # type: ignore[attr-defined]
        gamma=1.0,
        target_kl=options.target_kl,
        cg_max_steps=options.cg_steps,
        **settings,
    )


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the script; returns the exit code."""
    parser = text_agent_parser(__doc__, output="runs/trpo_text", group_size=1)
    parser.add_argument("--target-kl", type=float, default=0.01, help="nats a token [0.01]")
    parser.add_argument("--cg-steps", type=int, default=10, help="conjugate gradients [10]")
    return run_text_agent(parser.parse_args(argv), make_algorithm)


if __name__ == "__main__":
    try:
        sys.exit(main())
    except (ValueError, TypeError, OSError, ImportError) as error:
        sys.exit(f"error: {error}")
