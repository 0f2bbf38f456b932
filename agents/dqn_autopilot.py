"""DQN flies an aeroplane by clicks, as one script to read, run and copy. Minutes on two cores.

How this differs from the textbook algorithm:

- Nine actions: a click of stick and throttle each, down, none or up, on top of where they are. What
  is learnt is which way to move the hands, and holding still is one of the choices.
- 64 aeroplanes fly side by side, and after each of their steps come a few gradient steps on what
  all have seen.
- The target network follows in small steps (`tau`) instead of being copied now and then.
- An episode that is cut off after 60 s has not failed: Stable-Baselines3 takes the target's value
  of the last observation there, so the aeroplane is flown as if it went on.
- The step size falls towards zero.
- It learns in no, light and moderate turbulence. Severe is kept for the test.

Commands:

    python agents/dqn_autopilot.py --output runs/dqn

    # a glance
    python agents/dqn_autopilot.py --total-steps 60000 --output runs/glance

    # watch it fly
    llm-gym fly --agent runs/dqn/pilot.npz

Ctrl-C ends the training and keeps what was learnt. The output: `pilot.npz` (flies with NumPy
alone), `model.zip` (Stable-Baselines3), `metrics.jsonl`, `evaluation.json`, `config.json`.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

import gymnasium as gym
import torch
from llm_gym_autopilot.evaluation import FlightEvaluation, evaluate_pilot, flight_table
from llm_gym_autopilot.pilots.network import NetworkPilot, network_of
from llm_gym_autopilot.training import TrainingWatch
from llm_gym_autopilot.turbulence import LEVELS
from stable_baselines3 import DQN
from stable_baselines3.common.logger import Logger

import llm_gym
from llm_gym.files import atomic
from llm_gym.files.settings import argument_parser, setting
from llm_gym.runs.callbacks import History
from llm_gym.runs.directory import refuse_existing_run

# ---------------------------------------------------------------------------------- settings


@dataclass(frozen=True)
class Config:
    """Everything that determines a run."""

    # What to learn
    turbulence: str = setting("mixed", "none, light, moderate, or mixed: one of them an episode")
    # How
    total_steps: int = setting(400_000, "of all aeroplanes together, 0.2 s each")
    num_envs: int = setting(64, "aeroplanes side by side")
    gradient_steps: int = setting(8, "after each step of all aeroplanes")
    batch_size: int = setting(256, "steps per gradient step")
    buffer_size: int = setting(200_000, "steps that are remembered")
    learning_starts: int = setting(5_000, "steps of random flight at the beginning")
    learning_rate: float = setting(1e-3, "at the start; falls to a fiftieth in a straight line")
    gamma: float = setting(0.97, "discount factor: 33 steps or 7 s ahead")
    tau: float = setting(
        0.01, "share of the network that its target takes over after each step of all"
    )
    exploration_fraction: float = setting(
        0.3, "of the training, in which random clicks become rare"
    )
    exploration_final_eps: float = setting(0.02, "share of random clicks from then on")
    hidden: int = setting(128, "width of the two hidden layers")
    # The run
    seed: int = setting(0, "of everything random")
    threads: int = setting(1, "of torch; more are slower for networks this small")
    eval_every: int = setting(25_000, "steps between two held-out evaluations while learning")
    eval_episodes: int = setting(100, "of such an evaluation, for each turbulence level")
    test_episodes: int = setting(
        300, "of each pilot at each turbulence level in the table at the end"
    )
    output: str = setting(
        "runs/dqn_autopilot", "directory for the pilot, the model and the figures"
    )


def parse_config(argv: Sequence[str] | None = None) -> Config:
    """Reads the command line; each field of `Config` is an option."""
    return Config(**vars(argument_parser(__doc__, Config).parse_args(argv)))


# ---------------------------------------------------------------------------------- the parts


def make_env(config: Config) -> llm_gym.GymVecEnv:
    """All aeroplanes in one set of arrays; rows start anew in the step that ends them."""
    env = gym.make_vec(
        "llm_gym/AutopilotDiscrete-v0",
        num_envs=config.num_envs,
        turbulence=config.turbulence,
        autoreset_mode="SameStep",
    )
    return llm_gym.GymVecEnv(env)


def make_algorithm(config: Config, env: llm_gym.GymVecEnv) -> DQN:
    """Stable-Baselines3's own DQN, with a network of two layers."""
    return DQN(
        "MlpPolicy",
        env,
        learning_rate=lambda left: config.learning_rate * max(left, 0.02),
        train_freq=1,
        gradient_steps=config.gradient_steps,
        batch_size=config.batch_size,
        buffer_size=config.buffer_size,
        learning_starts=config.learning_starts,
        gamma=config.gamma,
        tau=config.tau,
        target_update_interval=config.num_envs,  # after each step of all
        exploration_fraction=config.exploration_fraction,
        exploration_final_eps=config.exploration_final_eps,
        policy_kwargs={"net_arch": [config.hidden, config.hidden]},
        seed=config.seed,
        device="cpu",
    )


# ---------------------------------------------------------------------------------- the run


def train(config: Config, output: Path) -> DQN:
    """Learns, with figures in `metrics.jsonl`; Ctrl-C ends it with what was learnt so far."""
    torch.set_num_threads(config.threads)
    model = make_algorithm(config, make_env(config))
    model.set_logger(Logger(str(output), [History(output / "metrics.jsonl")]))
    with TrainingWatch(
        pilot_of(config), every=config.eval_every, episodes=config.eval_episodes
    ) as watch:
        try:
            model.learn(config.total_steps, callback=watch, log_interval=None)
        except KeyboardInterrupt:
            print(f"stopped after {model.num_timesteps:,} steps", file=sys.stderr)
    model.logger.close()
    return model


def pilot_of(config: Config) -> Callable[..., NetworkPilot]:
    """Makes a pilot of the algorithm: its network, flown by NumPy alone."""
    provenance = {"script": "agents/dqn_autopilot.py", "seed": config.seed}
    return partial(network_of, turbulence=config.turbulence, **provenance)


def save(config: Config, model: DQN, output: Path) -> None:
    """The model for Stable-Baselines3, and the pilot."""
    model.save(output / "model.zip")
    pilot_of(config)(model, steps=model.num_timesteps).save(output / "pilot.npz")


def compare(pilot: Path, episodes: int) -> list[FlightEvaluation]:
    """The pilot beside those that were not learnt, on held-out seeds, severe turbulence too."""
    pilots: dict[str, str | Path] = {"trained": pilot, "pid": "pid", "lqr": "lqr", "rule": "rule"}
    return [
        evaluate_pilot(candidate, turbulence=level, episodes=episodes, name=name)
        for level in LEVELS
        for name, candidate in pilots.items()
    ]


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the script; returns the exit code."""
    config = parse_config(argv)
    output = Path(config.output)
    refuse_existing_run(output, "choose another --output", shown_by="model.zip")
    atomic.write_json(output / "config.json", asdict(config))
    model = train(config, output)
    save(config, model, output)
    flown = compare(output / "pilot.npz", config.test_episodes)
    atomic.write_json(
        output / "evaluation.json", [flight.to_dict(per_episode=False) for flight in flown]
    )
    print(flight_table(flown))
    print(f"pilot: {output / 'pilot.npz'}")
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except (ValueError, TypeError, OSError) as error:
        sys.exit(f"error: {error}")
