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

    # see it learn: flights and the critic's value, on a page
    llm-gym watch runs/dqn

    # what it could do when, side by side
    llm-gym fly --checkpoints runs/dqn --record learning.gif

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

import gymnasium as gym
import torch
from llm_gym_autopilot.evaluation import FlightEvaluation, evaluate_pilot, flight_table
from llm_gym_autopilot.pilots.network import NetworkPilot, network_of
from llm_gym_autopilot.training import TrainingWatch
from llm_gym_autopilot.turbulence import LEVELS
from stable_baselines3 import DQN

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
    checkpoint_every: int = setting(50_000, "steps between two checkpoints")
    test_episodes: int = setting(
        300, "of each pilot at each turbulence level in the table at the end"
    )
    output: str = setting(
        "runs/dqn_autopilot", "directory for the pilot, the model and the figures"
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


def train(config: Config, output: Path, checkpoint: Path | None = None) -> DQN:
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
    provenance = {"script": "agents/dqn_autopilot.py", "seed": config.seed}
    return partial(network_of, turbulence=config.turbulence, **provenance)


def save(config: Config, model: DQN, output: Path) -> None:
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
