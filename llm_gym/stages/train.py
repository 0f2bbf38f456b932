"""Training by PPO, from settings to a directory with checkpoints, curves and samples."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from llm_gym.files.settings import setting
from llm_gym.runs.directory import CHECKPOINTS, SETTINGS, RunDirectory
from llm_gym.stages.by_name import PromptsConfig

if TYPE_CHECKING:
    from rich.console import Console
    from stable_baselines3.common.callbacks import BaseCallback
    from stable_baselines3.common.logger import Logger
    from stable_baselines3.common.on_policy_algorithm import OnPolicyAlgorithm

    from llm_gym.learning.ppo import PPO
    from llm_gym.runs.callbacks import History

PROMPT_FORMAT = "prompt_format"
"""What the file of the settings calls the format in which prompts were shown."""


PREFIX_CACHE: dict[str, bool | str] = {"auto": "auto", "on": True, "off": False}
"""Values of the setting, and what the policy calls them."""


@dataclass(frozen=True)
class TrainConfig(PromptsConfig):
    """Everything that determines a training run."""

    env: str = setting("llm_gym/TextGeneration-v0", "id of a text environment (see `llm-gym envs`)")
    model: str = setting("llm_gym/email-sft", "name or path of the language model to train")
    scorer: str | None = setting(None, "what an answer is worth: name, or path.py:function")
    prompts: str | None = setting(None, "file of prompts: .txt, .jsonl, .json, .csv or .parquet")
    max_new_tokens: int | None = setting(None, "most tokens of an answer")
    prompt_template: str | None = setting(
        None, "text around {prompt}; default: the task's or the chat's"
    )
    on_max_length: str | None = setting(
        None, "what an answer without an end is: terminate (scored), truncate or penalise"
    )
    missing_eos_penalty: float | None = setting(
        None, 'reward of an unfinished answer under "penalise"'
    )
    total_tokens: int = setting(200_000, "tokens to generate in all")
    num_envs: int = setting(32, "answers written at the same time")
    n_steps: int | None = setting(
        None, "tokens per answer slot and rollout (default: one whole answer)"
    )
    batch_size: int = setting(512, "tokens per gradient step")
    n_epochs: int = setting(4, "passes over each rollout")
    learning_rate: float = setting(1e-4, "step size of AdamW")
    anneal_learning_rate: bool = setting(False, "let it fall linearly to 0")
    clip_range: float = setting(0.2, "PPO's clipping of the probability ratio")
    gamma: float = setting(1.0, "discount factor")
    gae_lambda: float = setting(0.95, "bias and variance of the advantages")
    vf_coef: float = setting(0.5, "weight of the value loss")
    ent_coef: float = setting(0.0, "weight of the entropy bonus")
    max_grad_norm: float = setting(1.0, "clipping of the gradient")
    kl_coef: float = setting(
        1.0, "penalty per nat of divergence; fits scores of 0 to 100, scale it"
    )
    kl_target: float | None = setting(None, "nats per answer that an adaptive penalty steers to")
    temperature: float = setting(1.0, "temperature of the policy, in training as in sampling")
    top_k: int = setting(0, "sample among the k most probable tokens (0: all)")
    top_p: float = setting(1.0, "sample from the nucleus of this probability (1: all)")
    mixed_precision: str = setting("no", "arithmetic of the model: no (float32) or bf16")
    prefix_cache: str = setting("auto", "decode from a cache: auto (where it is right), on or off")
    seed: int = setting(0, "seed of everything random")
    device: str = setting("auto", "where the model runs: cpu, cuda or auto")
    checkpoint_every: int = setting(10, "iterations between two checkpoints")
    keep_last: int = setting(2, "checkpoints to keep")


@dataclass(frozen=True)
class TrainingRun:
    """What `run` leaves behind.

    Attributes:
        stopped: Whether it was interrupted before its end.
        checkpoint: The newest checkpoint.
        history: The logged figures.
        command: A command that tries the final model; empty where there is none.
    """

    stopped: bool
    checkpoint: Path
    history: History
    command: str = ""


def load_config(directory: str | Path) -> TrainConfig:
    """Reads the settings that `train` wrote into its output directory.

    Raises:
        ValueError: There are none, or they cannot be read.
    """
    path = Path(directory) / SETTINGS
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
        values.pop(PROMPT_FORMAT, None)  # what came of the settings, not one of them
        return TrainConfig(**values)
    except FileNotFoundError as error:
        raise ValueError(f"{path} does not exist, so {directory} holds no run to resume") from error
    except (ValueError, TypeError) as error:
        known = ", ".join(field.name for field in fields(TrainConfig))
        raise ValueError(f"{path} is corrupt: {error} (known settings: {known})") from error


def train(
    output: str | Path,
    config: TrainConfig,
    *,
    resume: bool = False,
    console: Console | None = None,
) -> TrainingRun:
    """Trains a language model by PPO.

    Args:
        output: Directory for `settings.json`, `metrics.jsonl`, `samples.jsonl`, `checkpoints/`,
            TensorBoard's files and, when all is done, `model/` and `report.html`.
        config: Settings of the run.
        resume: Continue the newest checkpoint there.
        console: Where the live display goes; None is standard error.

    Returns:
        How it ended.

    Raises:
        ValueError: A setting does not fit, or the directory already holds a run and `resume` is
            false.
    """
    from rich.console import Console

    from llm_gym.runs.checkpoint import load_checkpoint, save_model
    from llm_gym.runs.training_state import environment_attribute
    from llm_gym.stages.pages import MODEL, command_to_try, training_page

    directory = RunDirectory(output, asdict(config))
    checkpoint = directory.checkpoint(
        resume=resume, advice=f"continue it with --resume {output}, or choose another --output"
    )
    algorithm = build_ppo(config)
    if checkpoint is not None:
        load_checkpoint(algorithm, checkpoint)
    prompt_format = environment_attribute(algorithm, PROMPT_FORMAT)
    directory.settings = {**asdict(config), PROMPT_FORMAT: prompt_format.shown}
    directory.write_settings()
    (console or Console(stderr=True)).print(
        f"prompts are shown as {prompt_format}", markup=False, highlight=False
    )
    training = run(
        algorithm,
        config.total_tokens,
        directory.root,
        checkpoint_every=config.checkpoint_every,
        keep_last=config.keep_last,
        console=console,
    )
    if training.stopped:
        return training
    model = save_model(algorithm, directory.root / MODEL)
    training_page(directory.root, directory.settings, training.history, {})
    assert algorithm.env is not None
    prompts = [info["prompt"] for info in algorithm.env.reset_infos if "prompt" in info]
    return replace(training, command=command_to_try(model, prompts[0] if prompts else ""))


def build_ppo(config: TrainConfig) -> PPO:
    """Makes environment, policy and algorithm; raises `ValueError` for a setting that is wrong."""
    from llm_gym.learning.ppo import PPO
    from llm_gym.stages.by_name import environment_kwargs, make_vector_env

    if config.prefix_cache not in PREFIX_CACHE:
        raise ValueError(
            f"prefix_cache={config.prefix_cache!r} must be one of {', '.join(PREFIX_CACHE)}"
        )
    kwargs = environment_kwargs(
        config.env,
        config.model,
        scorer=config.scorer,
        prompts=config.prompts,
        **config.prompt_options(),
        max_new_tokens=config.max_new_tokens,
        prompt_template=config.prompt_template,
        on_max_length=config.on_max_length,
        missing_eos_penalty=config.missing_eos_penalty,
        device=config.device,
    )
    rate = config.learning_rate
    return PPO(
        "TransformerPolicy",
        make_vector_env(config.env, config.num_envs, kwargs),
        learning_rate=(lambda left: rate * left) if config.anneal_learning_rate else rate,
        n_steps=config.n_steps,
        batch_size=config.batch_size,
        n_epochs=config.n_epochs,
        clip_range=config.clip_range,
        gamma=config.gamma,
        gae_lambda=config.gae_lambda,
        vf_coef=config.vf_coef,
        ent_coef=config.ent_coef,
        max_grad_norm=config.max_grad_norm,
        kl_coef=config.kl_coef,
        kl_target=config.kl_target,
        seed=config.seed,
        device=config.device,
        policy_kwargs={
            "model": config.model,
            "temperature": config.temperature,
            "top_k": config.top_k,
            "top_p": config.top_p,
            "mixed_precision": config.mixed_precision,
            "prefix_cache": PREFIX_CACHE[config.prefix_cache],
        },
    )


def run(
    algorithm: OnPolicyAlgorithm,
    total_tokens: int,
    output: Path,
    *,
    checkpoint_every: int,
    keep_last: int,
    console: Console | None = None,
    callbacks: Sequence[BaseCallback] = (),
) -> TrainingRun:
    """Runs an algorithm to `total_tokens`, from wherever it stands, with everything a person needs.

    Live display, `metrics.jsonl`, `samples.jsonl`, TensorBoard if it is installed, checkpoints, and
    a first Ctrl-C that stops after the iteration with a checkpoint.

    Args:
        algorithm: New, or restored from a checkpoint; its policy a `TransformerActorCriticPolicy`.
        total_tokens: Where to stop, counted from the very beginning of the run.
        output: Directory for all of that.
        checkpoint_every: Iterations between checkpoints.
        keep_last: Checkpoints to keep.
        console: Where the live display goes; None is standard error.
        callbacks: Further ones; what they write at the start of a rollout is on the disk before the
            checkpoint of that moment.

    Returns:
        How it ended.
    """
    from llm_gym.runs.callbacks import (
        CheckpointCallback,
        History,
        ProgressCallback,
        SampleCallback,
        ThroughputCallback,
        stop_on_signals,
    )

    start = algorithm.num_timesteps
    output.mkdir(parents=True, exist_ok=True)
    history = History(output / "metrics.jsonl", resume_at=start or None)
    algorithm.set_logger(_logger(output, history))
    samples = SampleCallback(path=output / "samples.jsonl")
    checkpoints = CheckpointCallback(
        output / CHECKPOINTS, every=checkpoint_every, keep_last=keep_last
    )
    with (
        ProgressCallback(samples, console) as progress,
        stop_on_signals(checkpoints, progress.note),
    ):
        algorithm.learn(
            max(total_tokens - start, 0),
            callback=[ThroughputCallback(), samples, progress, *callbacks, checkpoints],
            reset_num_timesteps=start == 0,
        )
    algorithm.logger.dump(algorithm.num_timesteps)  # the last update's figures
    algorithm.logger.close()
    assert checkpoints.saved is not None
    return TrainingRun(checkpoints.stopped, checkpoints.saved, history)


def _logger(output: Path, history: History) -> Logger:
    """Figures to memory and `metrics.jsonl`, and to TensorBoard where that is installed."""
    from stable_baselines3.common import logger

    formats: list[Any] = [history]
    if logger.SummaryWriter is not None:
        formats.append(logger.TensorBoardOutputFormat(str(output / "tensorboard")))
    return logger.Logger(folder=str(output), output_formats=formats)
