"""PPO with forbidden tokens: sb3-contrib's MaskablePPO, unmodified (pip install llm-gym[contrib]).

    pi(a|s) is zero where the environment's action mask is, and renormalised;  then PPO

In sampling and in updates alike (Huang and Ontañón, 2006.14171). There is no KL penalty.

    python agents/maskable_ppo_text.py --forbidden-token-ids 17 18 --output runs/maskable
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from llm_gym import GymVecEnv
from llm_gym.learning import MaskableEpisodeBuffer, MaskableTransformerPolicy
from llm_gym.runs.checkpoint import latest_checkpoint, load_checkpoint
from llm_gym.stages.names import environment_kwargs, make_vector_env
from llm_gym.stages.text_agent import policy_settings, text_agent_parser
from llm_gym.stages.train import run_ppo


def make_algorithm(options: argparse.Namespace) -> Any:
    """Only the environment, the policy and the buffer are ours."""
    from sb3_contrib import MaskablePPO

    names = ("scorer", "prompts", "max_new_tokens", "min_new_tokens", "forbidden_token_ids")
    given = {name: getattr(options, name) for name in names}
    kwargs = environment_kwargs(options.env, options.model, device=options.device, **given)
    env = GymVecEnv(make_vector_env(options.env, options.num_envs, kwargs))
    settings = policy_settings(options) | {"rollout_buffer_class": MaskableEpisodeBuffer}
    return MaskablePPO(MaskableTransformerPolicy, env, n_steps=32, gamma=1.0, **settings)


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the script; returns the exit code."""
    parser = text_agent_parser(__doc__, output="runs/maskable_ppo_text", n_epochs=4)
    add = parser.add_argument
    add("--forbidden-token-ids", type=int, nargs="+", help="tokens that are never written")
    add("--min-new-tokens", type=int, help="no end before so many tokens")
    options = parser.parse_args(argv)
    output, every = Path(options.output), options.checkpoint_every
    algorithm = make_algorithm(options)
    if options.resume:
        load_checkpoint(algorithm, latest_checkpoint(output))
    elif output.exists():
        raise ValueError(f"{output} already holds a run: add --resume, or choose another --output")
    run = run_ppo(algorithm, options.total_tokens, output, checkpoint_every=every, keep_last=2)
    print(f"model: {run.checkpoint}/model")
    return 130 if run.stopped else 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except (ValueError, TypeError, OSError, ImportError) as error:
        sys.exit(f"error: {error}")
