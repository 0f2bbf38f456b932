"""rl-zoo3 trains on text by a YAML file, `agents/hyperparams/ppo.yml`.

No glue. What its command does (`python -m rl_zoo3.train --algo ppo --env llm_gym/PoliteEmail-v0
--gym-packages llm_gym --conf-file agents/hyperparams/ppo.yml`), with a meter around it: read the
settings, make environments one by one in a `DummyVecEnv`, train the stock PPO.

    pip install rl_zoo3
    python agents/interop/rl_zoo.py
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from rl_zoo3.exp_manager import ExperimentManager
from rl_zoo3.utils import ALGOS
from shared import MeasuredAlgorithm, parse_config
from stable_baselines3 import PPO

import llm_gym  # noqa: F401 -- as --gym-packages llm_gym does

YAML = Path(__file__).parents[1] / "hyperparams" / "ppo.yml"


class MeasuredPPO(MeasuredAlgorithm, PPO):
    """Stable-Baselines3's PPO."""


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the script; returns the exit code."""
    config = parse_config(__doc__, argv)
    tokens = config.num_envs * config.max_new_tokens  # of a rollout
    ALGOS["ppo"] = MeasuredPPO
    with tempfile.TemporaryDirectory() as folder:
        experiment = ExperimentManager(
            argparse.Namespace(),
            "ppo",
            config.env,
            folder,
            n_timesteps=max(config.total_tokens // tokens, 1) * tokens,
            eval_freq=-1,
            log_interval=-1,
            hyperparams={  # as --hyperparams on the command line; the rest is the file's
                "policy_kwargs": {"model": config.model},
                "n_envs": config.num_envs,
                "n_steps": config.max_new_tokens,
                "env_kwargs": {"max_new_tokens": config.max_new_tokens},
                "batch_size": tokens // 2,
                "n_epochs": config.n_epochs,
                "learning_rate": config.learning_rate,
            },
            seed=config.seed,
            config=str(YAML),
            device="cpu",
        )
        found = experiment.setup_experiment()
        assert found is not None  # None only where hyperparameters are searched
        agent = found[0]
        experiment.learn(agent)
    assert isinstance(agent, MeasuredPPO)
    print(agent.meter.report("rl-zoo3"))
    return 0


if __name__ == "__main__":
    sys.exit(main())
