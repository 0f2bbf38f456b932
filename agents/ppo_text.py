"""Token-level PPO (or A2C) on a language model, as one script to read, run and copy.

How this differs from the textbook algorithm:

- An action is a token, a state is the prompt and the tokens so far, an episode is one answer. Only
  its last token is rewarded, by a scorer; hence gamma is 1, not 0.99.
- Actor and critic are one pretrained transformer with two heads. The value head starts at zero.
- A minibatch is made of whole answers, because one forward pass over an answer gives the
  distributions and values at all of its tokens; a minibatch of single transitions would read every
  prefix again.
- The reward of each token is lowered by kl_coef * (log pi - log pi_ref): the policy pays for moving
  away from the model it started from, which keeps its answers language. (Only --algorithm ppo;
  Stable-Baselines3's own PPO and A2C have no such penalty.)

Commands:

    # the built-in task with the built-in model, offline
    python agents/ppo_text.py --total-tokens 200000 --output runs/polite

    # your model, your prompts, your scorer: f(prompts, completions, **columns) -> floats
    python agents/ppo_text.py --env llm_gym/TextGeneration-v0 --model gpt2 \
        --prompts prompts.txt --scorer my_scorer.py:score --kl-coef 0.02 --max-new-tokens 48 \
        --output runs/mine

    # Stable-Baselines3's own algorithms, unmodified
    python agents/ppo_text.py --algorithm sb3-ppo --output runs/sb3-ppo
    python agents/ppo_text.py --algorithm sb3-a2c --n-steps 16 --output runs/sb3-a2c

    # in two processes; --num-envs and --batch-size are of both together
    torchrun --nproc-per-node 2 agents/ppo_text.py --output runs/polite

    # after Ctrl-C
    python agents/ppo_text.py --output runs/polite --resume

    tensorboard --logdir runs
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import gymnasium as gym
import stable_baselines3
from rich.console import Console
from stable_baselines3.common import logger as sb3_logger
from stable_baselines3.common.on_policy_algorithm import OnPolicyAlgorithm

import llm_gym
from llm_gym.files import atomic
from llm_gym.files.settings import argument_parser, setting
from llm_gym.language_models.loading import quiet_libraries
from llm_gym.learning.joined import joined
from llm_gym.parallel import world
from llm_gym.runs.callbacks import (
    CheckpointCallback,
    DivergenceCallback,
    History,
    ProgressCallback,
    SampleCallback,
    ThroughputCallback,
    stop_on_signals,
)
from llm_gym.runs.checkpoint import load_checkpoint
from llm_gym.runs.directory import RunDirectory
from llm_gym.runs.evaluation import Evaluation, evaluate
from llm_gym.runs.logs import LOGS, cut_back
from llm_gym.stages.by_name import PromptsConfig, environment_kwargs, make_vector_env

# ---------------------------------------------------------------------------------- settings


@dataclass(frozen=True)
class Config(PromptsConfig):
    """Everything that determines a run."""

    # What to learn
    env: str = setting("llm_gym/PoliteEmail-v0", "id of a text environment")
    model: str = setting(
        "llm_gym/email-sft", "language model to train: embedded or hub name, or directory"
    )
    scorer: str | None = setting(
        None, "politeness, length:WORDS, regex:PATTERN, URL or path.py:function"
    )
    prompts: str | None = setting(None, "file to train on: .txt, .jsonl, .json, .csv or .parquet")
    eval_prompts: str | None = setting(
        None, "the same to evaluate on (default: the task's held-out ones)"
    )
    max_new_tokens: int | None = setting(None, "most tokens of an answer")
    # How
    algorithm: str = setting("ppo", "ppo (llm_gym.PPO), sb3-ppo or sb3-a2c")
    total_tokens: int = setting(200_000, "tokens to generate in all")
    num_envs: int = setting(32, "answers written at the same time")
    n_steps: int | None = setting(
        None, "tokens per answer slot and rollout (default: a whole answer; ppo cuts none)"
    )
    learning_rate: float = setting(1e-4, "step size of AdamW")
    batch_size: int = setting(512, "tokens per gradient step (not A2C: one step per rollout)")
    n_epochs: int = setting(4, "passes over each rollout (not A2C)")
    clip_range: float = setting(0.2, "clipping of the probability ratio (not A2C)")
    gamma: float = setting(1.0, "discount factor")
    gae_lambda: float = setting(0.95, "bias and variance of the advantages")
    vf_coef: float = setting(0.1, "weight of the value loss")
    ent_coef: float = setting(0.0, "weight of the entropy bonus")
    max_grad_norm: float = setting(1.0, "clipping of the gradient")
    kl_coef: float = setting(
        1.0, "penalty per nat of divergence; fits scores of 0 to 100 (ppo only)"
    )
    kl_target: float | None = setting(
        None, "nats per answer that an adaptive penalty steers to (ppo only)"
    )
    temperature: float = setting(1.0, "temperature of the policy")
    # The run
    seed: int = setting(0, "seed of everything random")
    device: str = setting("auto", "cpu, cuda or auto")
    output: str = setting("runs/ppo_text", "directory for checkpoints, curves and samples")
    checkpoint_every: int = setting(10, "iterations between checkpoints")
    resume: bool = setting(False, "continue the newest checkpoint in the output directory")


def parse_config(argv: Sequence[str] | None = None) -> Config:
    """Reads the command line; each field of `Config` is an option."""
    return Config(**vars(argument_parser(__doc__, Config).parse_args(argv)))


# ---------------------------------------------------------------------------------- the parts


def make_env(config: Config) -> gym.vector.VectorEnv:
    """N answers side by side, in one set of arrays."""
    kwargs = environment_kwargs(
        config.env,
        config.model,
        scorer=config.scorer,
        device=config.device,
        prompts=config.prompts,
        **config.prompt_options(),
        max_new_tokens=config.max_new_tokens,
    )
    return make_vector_env(config.env, config.num_envs, kwargs)


def make_algorithm(config: Config, env: gym.vector.VectorEnv) -> OnPolicyAlgorithm:
    """Policy and algorithm. What all three have in common is Stable-Baselines3's own names."""
    common: dict[str, Any] = {
        "learning_rate": config.learning_rate,
        "n_steps": config.n_steps,
        "gamma": config.gamma,
        "gae_lambda": config.gae_lambda,
        "vf_coef": config.vf_coef,
        "ent_coef": config.ent_coef,
        "max_grad_norm": config.max_grad_norm,
        "policy_kwargs": {"model": config.model, "temperature": config.temperature},
        "seed": config.seed,
        "device": config.device,
    }
    epochs: dict[str, Any] = {
        "batch_size": config.batch_size,
        "n_epochs": config.n_epochs,
        "clip_range": config.clip_range,
    }
    if config.algorithm == "ppo":
        return llm_gym.PPO(
            "TransformerPolicy",
            env,
            kl_coef=config.kl_coef,
            kl_target=config.kl_target,
            **epochs,
            **common,
        )
    # Unmodified algorithms: the policy and the buffer are what makes them fit for text.
    policy, vec_env = llm_gym.TransformerActorCriticPolicy, llm_gym.GymVecEnv(env)
    common["rollout_buffer_class"] = llm_gym.EpisodeBuffer
    common["n_steps"] = config.n_steps or env.unwrapped.max_new_tokens  # type: ignore[attr-defined]
    if config.algorithm == "sb3-ppo":
        return stable_baselines3.PPO(policy, vec_env, **epochs, **common)
    if config.algorithm == "sb3-a2c":
        return stable_baselines3.A2C(policy, vec_env, use_rms_prop=False, **common)
    raise ValueError(f"--algorithm {config.algorithm!r} must be one of ppo, sb3-ppo, sb3-a2c")


def make_logger(output: Path, history: History) -> sb3_logger.Logger:
    """Figures go to `metrics.jsonl`, and to TensorBoard if it is installed."""
    formats: list[sb3_logger.KVWriter] = [history]
    if sb3_logger.SummaryWriter is not None:
        formats.append(sb3_logger.TensorBoardOutputFormat(str(output / "tensorboard")))
    return sb3_logger.Logger(str(output), formats)


def evaluate_held_out(config: Config, model: str | OnPolicyAlgorithm) -> Evaluation:
    """Answers every held-out prompt once; a model given by name is the one before training."""
    kwargs = environment_kwargs(
        config.env,
        config.model,
        scorer=config.scorer,
        device=config.device,
        prompts=config.eval_prompts,
        **config.prompt_options(),
        max_new_tokens=config.max_new_tokens,
    )
    sampling = {"temperature": config.temperature} if isinstance(model, str) else {}
    return evaluate(model, config.env, env_kwargs=kwargs, policy_kwargs=sampling, seed=config.seed)


# ---------------------------------------------------------------------------------- the run


def train(config: Config, algorithm: OnPolicyAlgorithm, output: Path) -> CheckpointCallback:
    """Learns up to `total_tokens`, from wherever the algorithm stands."""
    start = algorithm.num_timesteps
    is_first = world().rank == 0  # of the processes of torchrun: it alone writes and draws
    if is_first:
        cut_back(output, LOGS, start)  # what a killed run wrote after its checkpoint
    history = History(output / "metrics.jsonl" if is_first else None, resume_at=start or None)
    algorithm.set_logger(make_logger(output, history) if is_first else sb3_logger.Logger(None, []))
    samples = SampleCallback(path=output / "samples.jsonl" if is_first else None)
    console = None if is_first else Console(quiet=True)
    checkpoints = CheckpointCallback(
        output / "checkpoints", every=config.checkpoint_every, keep_last=2, logs=LOGS
    )
    # The first Ctrl-C stops after the iteration with a checkpoint, the second at once.
    with (
        joined(algorithm),
        ProgressCallback(samples, console) as progress,
        stop_on_signals(checkpoints, progress.note),
    ):
        algorithm.learn(
            config.total_tokens - start,
            callback=[DivergenceCallback(), ThroughputCallback(), samples, progress, checkpoints],
            log_interval=1,
            reset_num_timesteps=start == 0,
        )
    algorithm.logger.dump(algorithm.num_timesteps)  # figures of the last update
    algorithm.logger.close()
    return checkpoints


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the script; returns the exit code."""
    config = parse_config(argv)
    quiet_libraries()
    settings = asdict(config)
    del settings["resume"]  # of this call, not of the run
    directory = RunDirectory(config.output, settings, settings_name="config.json", command="agent")
    try:
        with directory.opened():
            return train_and_evaluate(config, directory)
    except KeyboardInterrupt:  # or SIGTERM or SIGHUP, before learning or after it
        print("interrupted; --resume goes on from the last checkpoint, if any", file=sys.stderr)
        return 130


def train_and_evaluate(config: Config, directory: RunDirectory) -> int:
    """Begins the run or goes on with it; returns the exit code."""
    checkpoint = directory.checkpoint(
        resume=config.resume, advice="add --resume, or choose another --output"
    )
    algorithm = make_algorithm(config, make_env(config))
    if checkpoint is not None:
        load_checkpoint(algorithm, checkpoint)
    directory.write_settings()
    output, is_first = directory.root, world().rank == 0
    can_evaluate = is_first and (config.prompts is None or config.eval_prompts is not None)
    if is_first:
        print(f"{config.algorithm} on {config.env}: {config.model}, {config.total_tokens:,} tokens")
    before = evaluate_held_out(config, config.model) if can_evaluate else None
    checkpoints = train(config, algorithm, output)
    if not is_first:
        return 0
    if checkpoints.stopped:
        directory.state = "stopped"
        print(f"stopped with {checkpoints.saved}; add --resume to the command to go on")
        return 130
    if before is not None:
        after = evaluate_held_out(config, algorithm)
        for name, one in (("before", before), ("after", after)):
            print(f"{name:<7}{one.mean_score:8.2f}   {one.low:.2f} to {one.high:.2f} (95 %)")
        atomic.write_json(
            output / "evaluation.json", {"before": before.to_dict(), "after": after.to_dict()}
        )
    print(f"model: {checkpoints.saved}/model")
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except (ValueError, TypeError, OSError) as error:
        sys.exit(f"error: {error}")
