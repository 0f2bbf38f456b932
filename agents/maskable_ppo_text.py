"""PPO with forbidden tokens: sb3-contrib's MaskablePPO, unmodified (pip install llm-gym[contrib]).

    pi(a|s) is zero where the environment's action mask is, and renormalised;  then PPO

In sampling and in updates alike (Huang and Ontañón, 2006.14171). There is no KL penalty, and the
evaluation is of the model by itself, which no mask stops.

    python agents/maskable_ppo_text.py --forbidden-token-ids 17 18 --output runs/maskable
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from llm_gym import GymVecEnv
from llm_gym.learning.buffer import MaskableEpisodeBuffer
from llm_gym.policy import MaskableTransformerPolicy
from llm_gym.stages.text_agent import policy_settings, run_text_agent, text_agent_parser

if TYPE_CHECKING:
    from gymnasium.vector import VectorEnv


def make_algorithm(options: argparse.Namespace, env: VectorEnv) -> Any:
    """Only the environment, the policy and the buffer are ours."""
    from sb3_contrib import MaskablePPO

    settings = policy_settings(options) | {"rollout_buffer_class": MaskableEpisodeBuffer}
    return MaskablePPO(MaskableTransformerPolicy, GymVecEnv(env), n_steps=32, gamma=1.0, **settings)


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the script; returns the exit code."""
    defaults = {"output": "runs/maskable_ppo_text", "group_size": 1, "n_epochs": 4}
    parser = text_agent_parser(__doc__, **defaults)
    add = parser.add_argument
    add("--forbidden-token-ids", type=int, nargs="+", help="tokens that are never written")
    add("--min-new-tokens", type=int, help="no end before so many tokens")
    masks = ("forbidden_token_ids", "min_new_tokens")
    return run_text_agent(parser.parse_args(argv), make_algorithm, environment_options=masks)


if __name__ == "__main__":
    try:
        sys.exit(main())
    except (ValueError, TypeError, OSError, ImportError) as error:
        sys.exit(f"error: {error}")
