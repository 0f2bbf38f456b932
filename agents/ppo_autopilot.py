"""PPO flies an aeroplane, as one script to read, run and copy. A minute or two on two cores.

How this differs from the textbook algorithm:

- An action says how far to move stick and throttle, not where to put them. Movements add up, like
  the integral of a PID loop. And every episode shows the controls off by constants of its own
  (`rigging`): what is learnt is to move until on target, not where the controls of this aeroplane
  belong. That carries over to an aeroplane that was never seen.
- 128 aeroplanes fly in one process, as one set of arrays, so a rollout is 64 steps of 128
  aeroplanes, and learning takes the time, not the simulator.
- An episode that is cut off after 60 s has not failed: Stable-Baselines3 adds the critic's value of
  the last observation there, so the aeroplane is flown as if it went on.
- The step size falls to zero.
- It learns in no, light and moderate turbulence. Severe is kept for the test.

Commands:

    python agents/ppo_autopilot.py --output runs/ppo

    # nine clicks instead of stick and throttle
    python agents/ppo_autopilot.py --discrete --learning-rate 1e-3 --batch-size 1024 --n-epochs 8 \
        --output runs/ppo-discrete

    # a glance
    python agents/ppo_autopilot.py --total-steps 200000 --output runs/glance

    # watch it fly
    llm-gym fly --agent runs/ppo/pilot.npz

    # see it learn: flights and the critic's value, on a page
    llm-gym watch runs/ppo

    # what it could do when, side by side
    llm-gym fly --checkpoints runs/ppo --record learning.gif

Ctrl-C, SIGTERM or a closed terminal ends the training with a checkpoint, and keeps what was learnt;
the same command with `--resume` goes on as if nothing had happened, after `kill -9`, too. The
output: `pilot.npz` (flies with NumPy alone), `model.zip` (Stable-Baselines3), `metrics.jsonl`,
`evaluation.json`, `config.json`, `checkpoints/`, `trace/` (pilot and flights at every evaluation).
"""

from __future__ import annotations

import io
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import gymnasium as gym
import torch
from llm_gym_autopilot.evaluation import FlightEvaluation, evaluate_pilot, flight_table
from llm_gym_autopilot.movement import MovementActions
from llm_gym_autopilot.pilots.network import NetworkPilot, network_of
from llm_gym_autopilot.training import TrainingWatch
from llm_gym_autopilot.turbulence import LEVELS
from stable_baselines3 import PPO

import llm_gym
from llm_gym.files import atomic
from llm_gym.files.settings import argument_parser, defaults_of, setting
from llm_gym.runs.directory import RunDirectory
from llm_gym.runs.stock import learn_to

# ---------------------------------------------------------------------------------- settings


@dataclass(frozen=True)
class Config:
    """Everything that determines a run."""

    # What to learn
    discrete: bool = setting(False, "nine clicks instead of stick and throttle")
    stick_move: float = setting(
        0.5, "largest move of the stick in a step; 1 is from the middle to its stop"
    )
    throttle_move: float = setting(0.6, "the same of the throttle lever; 2 is from idle to full")
    rigging: float = setting(
        0.3, "largest shift of the controls in what an episode's observations show"
    )
    turbulence: str = setting("mixed", "none, light, moderate, or mixed: one of them an episode")
    # How
    total_steps: int = setting(1_000_000, "of all aeroplanes together, 0.2 s each")
    num_envs: int = setting(128, "aeroplanes side by side")
    n_steps: int = setting(64, "steps of each aeroplane between two updates")
    batch_size: int = setting(4096, "steps per gradient step")
    n_epochs: int = setting(10, "passes over each rollout")
    learning_rate: float = setting(3e-3, "at the start; falls to zero in a straight line")
    gamma: float = setting(0.985, "discount factor: 67 steps or 13 s ahead")
    gae_lambda: float = setting(0.95, "bias and variance of the advantages")
    clip_range: float = setting(0.2, "of the probability ratio")
    ent_coef: float = setting(0.0, "weight of the entropy bonus")
    log_std_init: float = setting(-1.0, "log standard deviation of the moves at the start")
    hidden: int = setting(64, "width of the two hidden layers, of actor and critic each")
    # The run
    seed: int = setting(0, "of everything random")
    threads: int = setting(1, "of torch; more are slower for networks this small")
    eval_every: int = setting(100_000, "steps between two held-out evaluations while learning")
    eval_episodes: int = setting(100, "of such an evaluation, for each turbulence level")
    checkpoint_every: int = setting(100_000, "steps between two checkpoints")
    test_episodes: int = setting(
        300, "of each pilot at each turbulence level in the table at the end"
    )
    output: str = setting(
        "runs/ppo_autopilot", "directory for the pilot, the model and the figures"
    )
    resume: bool = setting(False, "go on from the newest checkpoint in the output")


# What may change when a run goes on.
FREE = ("total_steps", "threads", "checkpoint_every", "test_episodes", "output")


def parse_config(argv: Sequence[str] | None = None) -> Config:
    """Reads the command line; each field of `Config` is an option."""
    return Config(**vars(argument_parser(__doc__, Config).parse_args(argv)))


# ---------------------------------------------------------------------------------- the parts


def make_env(config: Config) -> llm_gym.GymVecEnv:
    """All aeroplanes in one set of arrays; rows start anew in the step that ends them."""
    name = "llm_gym/AutopilotDiscrete-v0" if config.discrete else "llm_gym/Autopilot-v0"
    env = gym.make_vec(
        name, num_envs=config.num_envs, turbulence=config.turbulence, autoreset_mode="SameStep"
    )
    if not config.discrete:
        moves = config.stick_move, config.throttle_move
        env = MovementActions(env, moves, (config.rigging, config.rigging))
    return llm_gym.GymVecEnv(env)


def make_algorithm(config: Config, env: llm_gym.GymVecEnv) -> PPO:
    """Stable-Baselines3's own PPO, with an actor and a critic of two layers."""
    policy: dict[str, Any] = {"net_arch": [config.hidden, config.hidden]}
    if not config.discrete:
        policy["log_std_init"] = config.log_std_init
    return PPO(
        "MlpPolicy",
        env,
        # The last rollout ends past the last step, where what is left is negative.
        learning_rate=lambda left: config.learning_rate * max(left, 0.0),
        n_steps=config.n_steps,
        batch_size=config.batch_size,
        n_epochs=config.n_epochs,
        gamma=config.gamma,
        gae_lambda=config.gae_lambda,
        clip_range=config.clip_range,
        ent_coef=config.ent_coef,
        policy_kwargs=policy,
        seed=config.seed,
        device="cpu",
    )


# ---------------------------------------------------------------------------------- the run


def train(config: Config, output: Path, checkpoint: Path | None = None) -> PPO:
    """Learns up to `total_steps`, from the beginning or from a checkpoint."""
    torch.set_num_threads(config.threads)
    model = make_algorithm(config, make_env(config))
    with TrainingWatch(
        pilot_of(config), every=config.eval_every, episodes=config.eval_episodes, keep_in=output
    ) as watch:
        learn_to(
            model,
            config.total_steps,
            output,
            checkpoint=checkpoint,
            checkpoint_every=config.checkpoint_every,
            callbacks=[watch],
            announce=watch.note,
        )
    return model


def pilot_of(config: Config) -> Callable[..., NetworkPilot]:
    """Makes a pilot of the algorithm: its network, flown by NumPy alone."""
    moves = None if config.discrete else (config.stick_move, config.throttle_move)
    provenance = {"script": "agents/ppo_autopilot.py", "seed": config.seed}
    return partial(network_of, moves=moves, turbulence=config.turbulence, **provenance)


def save(config: Config, model: PPO, output: Path) -> None:
    """The model for Stable-Baselines3, and the pilot."""
    content = io.BytesIO()
    model.save(content)
    atomic.write_bytes(output / "model.zip", content.getvalue())
    pilot_of(config)(model, steps=model.num_timesteps).save(output / "pilot.npz")


def compare(pilot: Path, episodes: int) -> list[FlightEvaluation]:
    """The pilot beside those that were not learnt, on held-out seeds, severe turbulence too."""
    pilots: dict[str, str | Path] = {"trained": pilot, "pid": "pid", "lqr": "lqr", "rule": "rule"}
    return [
        evaluate_pilot(candidate, turbulence=level, episodes=episodes, name=name)
        for level in LEVELS
        for name, candidate in pilots.items()
    ]


def run(config: Config, directory: RunDirectory) -> int:
    """Begins the run or goes on with it; returns the exit code."""
    checkpoint = directory.checkpoint(
        resume=config.resume, advice="add --resume, or choose another --output"
    )
    if checkpoint is not None:
        directory.go_on("resume it with its own settings")
    make_env(config).close()  # what cannot fly is said before anything is written
    directory.write_settings()
    output = directory.root
    model = train(config, output, checkpoint)
    save(config, model, output)
    if model.num_timesteps < config.total_steps:
        directory.state = "stopped"
        print(f"stopped after {model.num_timesteps:,} steps; add --resume to the command to go on")
        return 130
    flown = compare(output / "pilot.npz", config.test_episodes)
    atomic.write_json(
        output / "evaluation.json", [flight.to_dict(per_episode=False) for flight in flown]
    )
    print(flight_table(flown))
    print(f"pilot: {output / 'pilot.npz'}")
    return 0


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the script; returns the exit code."""
    config = parse_config(argv)
    settings = asdict(config)
    del settings["resume"]  # of this call, not of the run
    directory = RunDirectory(
        config.output,
        settings,
        free=FREE,
        defaults=defaults_of(Config),
        settings_name="config.json",
        command="autopilot",
    )
    try:
        with directory.opened():
            return run(config, directory)
    except KeyboardInterrupt:  # or SIGTERM or SIGHUP, before learning or after it
        print("interrupted; --resume goes on from the last checkpoint, if any", file=sys.stderr)
        return 130


if __name__ == "__main__":
    try:
        sys.exit(main())
    except (ValueError, TypeError, OSError) as error:
        sys.exit(f"error: {error}")
