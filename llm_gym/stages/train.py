"""Reinforcement learning, from settings to a directory with checkpoints, curves and samples."""

from __future__ import annotations

import functools
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from llm_gym.files.ranges import check_choice
from llm_gym.files.settings import AUTO_ON_OFF, setting
from llm_gym.language_models.adapter_files import is_adapter
from llm_gym.language_models.embedded import resolve
from llm_gym.language_models.loading import PRECISIONS, torch_device
from llm_gym.language_models.memory import REFERENCE_COPIES, check_training
from llm_gym.language_models.model_objects import named
from llm_gym.language_models.trained_types import refuse_training
from llm_gym.parallel import world
from llm_gym.runs.directory import SETTINGS, RunDirectory, read_object
from llm_gym.stages.algorithms import AlgorithmConfig, build, parameters_of, resolved
from llm_gym.stages.by_name import TEXT_GENERATION, TURNS, has_turns
from llm_gym.stages.environment import (
    EpisodeConfig,
    LoadingConfig,
    SamplingConfig,
    TurnConfig,
    check_conversations,
)
from llm_gym.stages.training_run import TrainingRun, learn
from llm_gym.supervised.lora import LoraSettings, check_base, told_adapter

if TYPE_CHECKING:
    from rich.console import Console
    from stable_baselines3.common.logger import KVWriter
    from stable_baselines3.common.on_policy_algorithm import OnPolicyAlgorithm

    from llm_gym.runs.evaluation import Evaluation

_NOT_ADAM = ("a2c", "trpo")  # whose optimizers may keep less for each weight

PROMPT_FORMAT = "prompt_format"
"""What the file of the settings calls the format in which prompts were shown."""

CHAT_FORMAT = "chat_format"
"""What it calls the format that the model's own chat template has; None if it has none."""


@dataclass(frozen=True)
class TrainConfig(
    AlgorithmConfig, EpisodeConfig, TurnConfig, SamplingConfig, LoadingConfig, LoraSettings
):
    """Everything that determines a training run."""

    env: str = setting(TEXT_GENERATION, "id of a text environment (see `llm-gym envs`)")
    model: str = setting("llm_gym/email-sft", "name or path of the language model to train")
    scorer: str | None = setting(None, "what an answer is worth: name, or path.py:function")
    prompts: str | None = setting(None, "file of prompts: .txt, .jsonl, .json, .csv or .parquet")
    eval_prompts: str | None = setting(
        None, "prompts to measure on, before and after; default: the task's held-out ones"
    )
    eval_conversations: int | None = setting(
        None, "conversations with the world to measure, before and after; default: 100; 0: none"
    )
    total_tokens: int = setting(200_000, "tokens to generate in all")
    num_envs: int = setting(32, "answers written at the same time")
    anneal_learning_rate: bool = setting(False, "let the learning rate fall linearly to 0")
    mixed_precision: str = setting(
        "no", "arithmetic of the model: no (as the weights), bf16, or auto, the faster"
    )
    shared_prompts: str = setting(
        "auto", "read a prompt once for all its answers: auto (where it is right and pays), on, off"
    )
    micro_batch_size: int | None = setting(
        None, "answers of an update in memory at a time; default: all; the result is the same"
    )
    gradient_checkpointing: bool = setting(
        False, "keep less of an update in memory, and compute the model's layers twice"
    )
    seed: int = setting(0, "seed of everything random")
    device: str = setting("auto", "where the model runs: cpu, cuda or auto")
    checkpoint_every: int = setting(10, "iterations between two checkpoints")
    keep_last: int = setting(2, "checkpoints to keep")
    eval_every: int = setting(
        0, "iterations between evaluations on held-out prompts; 0: before and after only"
    )
    keep_best: bool = setting(
        False, "keep the checkpoint of the best evaluation, too, in OUTPUT/best"
    )
    trace_every: int | None = setting(
        None,
        "iterations between looks at single tokens, for `llm-gym watch`; 0 takes none, default: "
        "32 over the passes of an update",
    )
    wandb: str | None = setting(None, "project of Weights & Biases to log to (extra wandb)")
    mlflow: str | None = setting(None, "experiment of MLflow to log to (extra mlflow)")

    def __post_init__(self) -> None:
        object.__setattr__(self, "model", named(self.model))
        AlgorithmConfig.__post_init__(self)
        EpisodeConfig.__post_init__(self)
        SamplingConfig.__post_init__(self)
        if self.world is not None and self.env == TEXT_GENERATION:
            object.__setattr__(self, "env", TURNS)
        check_conversations(self.env, self, vars(self), has_world=has_turns(self.env))
        LoraSettings.__post_init__(self)
        check_choice("mixed_precision", self.mixed_precision, PRECISIONS)
        LoadingConfig.__post_init__(self)
        check_choice("shared_prompts", self.shared_prompts, AUTO_ON_OFF)
        refuse_training(self.model, self.dtype)

    def policy_options(self) -> dict[str, Any]:
        """As the parent's, and how the model is loaded and read."""
        return {
            **super().policy_options(),
            **self.loading_options(),
            "shared_prompts": AUTO_ON_OFF[self.shared_prompts],
            "micro_batch_size": self.micro_batch_size,
            "gradient_checkpointing": self.gradient_checkpointing,
        }

    def environment_options(self) -> dict[str, Any]:
        """Arguments of the environment, but prompts and scorer."""
        return self.episode_options() | self.turn_options()

    @property
    def trains_adapter(self) -> bool:
        """Whether the model itself stays as it is."""
        return bool(self.lora_rank) or is_adapter(resolve(self.model))

    def resolved(self) -> TrainConfig:
        """The same with the algorithm's own defaults in the places that were left to it.

        Raises:
            ValueError: A setting is none of the algorithm's.
        """
        return replace(self, **resolved(self))


def load_config(directory: str | Path) -> TrainConfig:
    """Reads the settings that `train` wrote into its output directory.

    Raises:
        ValueError: There are none, or they cannot be read.
    """
    path = Path(directory) / SETTINGS
    if not path.exists():
        raise ValueError(f"{path} does not exist, so {directory} holds no run to resume")
    values = read_object(path)
    try:
        for name in (PROMPT_FORMAT, CHAT_FORMAT):  # what came of the settings, not some of them
            values.pop(name, None)
        return TrainConfig(**values)
    except (ValueError, TypeError) as error:
        known = ", ".join(each.name for each in fields(TrainConfig))
        raise ValueError(f"{path} is corrupt: {error} (known settings: {known})") from error


def train(
    output: str | Path,
    config: TrainConfig,
    *,
    resume: bool = False,
    console: Console | None = None,
) -> TrainingRun:
    """Trains a language model against a scorer.

    Args:
        output: Directory for `settings.json`, `metrics.jsonl`, `samples.jsonl`, `checkpoints/`,
            `trace/`, TensorBoard's files and, when all is done, `model/` and `report.html`.
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

    from llm_gym.runs.checkpoint import load_checkpoint
    from llm_gym.runs.training_state import environment_attribute

    config = config.resolved()
    directory = RunDirectory(output, asdict(config))
    with directory.opened():
        checkpoint = directory.checkpoint(
            resume=resume, advice=f"continue it with --resume {output}, or choose another --output"
        )
        algorithm: Any = build_algorithm(config)
        if checkpoint is not None:
            load_checkpoint(algorithm, checkpoint)
        prompt_format = environment_attribute(algorithm, PROMPT_FORMAT)
        formats = {PROMPT_FORMAT: prompt_format.shown, CHAT_FORMAT: prompt_format.of_chat_template}
        directory.settings = {**asdict(config), **formats}
        directory.write_settings()
        default = parameters_of(config.algorithm)["learning_rate"]
        told = told_adapter(algorithm.policy.model, config.learning_rate, default)
        precision = told_precision(config.mixed_precision, algorithm.policy)
        for line in (f"prompts are shown as {prompt_format}", told, precision):
            if line is not None and world().rank == 0:
                (console or Console(stderr=True)).print(line, markup=False, highlight=False)
        return learn(
            algorithm,
            directory,
            config.total_tokens,
            checkpoint_every=config.checkpoint_every,
            keep_last=config.keep_last,
            measure=functools.partial(held_out, config),
            eval_every=config.eval_every,
            keep_best=config.keep_best,
            trace_every=config.trace_every,
            console=console,
            trackers=[]
            if world().rank
            else _trackers(config, directory, resume=checkpoint is not None),
        )


def told_precision(asked: str, policy: Any) -> str | None:
    """What was found of bfloat16 on this machine, if it was asked for."""
    if asked == "no":
        return None
    from llm_gym.language_models.precision import bfloat16_speed

    speed = bfloat16_speed(policy.head.width, policy.device)
    used = "used" if policy.mixed_precision == "bf16" else "not used"
    return f"bfloat16 has {speed:.2g} times the speed of float32 here, and is {used}"


def _trackers(config: TrainConfig, directory: RunDirectory, *, resume: bool) -> list[KVWriter]:
    from llm_gym.runs.callbacks.trackers import MLflowWriter, WandbWriter

    kinds = ((WandbWriter, config.wandb), (MLflowWriter, config.mlflow))
    return [
        kind(name, directory.settings, directory.root, resume=resume)
        for kind, name in kinds
        if name is not None
    ]


def build_algorithm(config: TrainConfig) -> OnPolicyAlgorithm:
    """Makes environment, policy and algorithm; raises `ValueError` for a setting that is wrong."""
    from llm_gym.stages.by_name import environment_kwargs, make_vector_env

    check_base(config, config.model)
    check_memory(config, frozen=bool(config.lora_rank))
    values = resolved(config)
    group = {} if values["group_size"] == 1 else {"group_size": values["group_size"]}
    kwargs = environment_kwargs(
        config.env,
        config.model,
        scorer=config.scorer,
        prompts=config.prompts,
        device=config.device,
        **config.environment_options(),
        **group,
    )
    algorithm = build(
        make_vector_env(config.env, config.num_envs, kwargs),
        values,
        anneal_learning_rate=config.anneal_learning_rate,
        policy_kwargs={
            "model": config.model,
            "mixed_precision": config.mixed_precision,
            **({} if config.lora is None else {"lora": config.lora}),
            **config.policy_options(),
        },
        seed=config.seed,
        device=config.device,
    )
    share_base(kwargs.get("scorer"), algorithm)
    return algorithm


def check_memory(config: TrainConfig, *, frozen: bool) -> None:
    """Refuses a run whose models certainly do not fit into memory.

    Args:
        config: Its settings.
        frozen: Whether an adapter is trained, and the model stays as it is.

    Raises:
        ValueError: With the numbers and what to do.
    """
    values = resolved(config)
    check_training(
        config.model,
        dtype=config.dtype,
        device=torch_device(config.device),
        frozen=frozen,
        moments=0 if config.algorithm in _NOT_ADAM else 2,
        models=2 if values.get("critic") == "separate" else 1,
        copies=REFERENCE_COPIES.get(str(values.get("reference_weights")), 0.0),
    )


def share_base(scorer: Any, algorithm: OnPolicyAlgorithm) -> None:
    """Has a reward model on the base of a policy's adapter read the policy's tensors.

    Args:
        scorer: Any; one that is no such model is left alone.
        algorithm: Its policy keeps its tensors.
    """
    import torch

    from llm_gym.language_models.adapters import adapter_of, share_weights

    policy: Any = algorithm.policy
    reward_model = getattr(scorer, "model", None)
    # Of other scorers it may be a name.
    if isinstance(reward_model, torch.nn.Module) and adapter_of(policy.model):
        share_weights(reward_model, policy.model)


def held_out(
    config: TrainConfig, model: str | OnPolicyAlgorithm, *, progress_bar: bool = False
) -> Evaluation | None:
    """Lets a model answer the held-out prompts.

    Args:
        config: Settings of the run.
        model: The trained one, or the name of another.
        progress_bar: Show on standard error how many it has answered.

    Returns:
        What came of it; None if there are no prompts to measure on: none are given, and the task
        has no split, or not its own prompts.
    """
    import gymnasium as gym

    from llm_gym.runs.evaluation import evaluate
    from llm_gym.stages.by_name import environment_kwargs

    if has_turns(config.env):
        return _conversations(config, model, progress_bar=progress_bar)
    has_split = config.env in gym.registry and gym.spec(config.env).kwargs.get("split") == "train"
    if config.eval_prompts is None and (config.prompts is not None or not has_split):
        return None
    kwargs = environment_kwargs(
        config.env,
        config.model,
        scorer=config.scorer,
        prompts=config.eval_prompts,
        device=config.device,
        **config.episode_options(),
    )
    sampling = config.policy_options() if isinstance(model, str) else {}
    device = torch_device(config.device)
    return evaluate(
        model,
        config.env,
        env_kwargs=kwargs,
        policy_kwargs=sampling,
        seed=config.seed,
        device=device,
        progress_bar=progress_bar,
    )


def _conversations(
    config: TrainConfig, model: str | OnPolicyAlgorithm, *, progress_bar: bool
) -> Evaluation | None:
    """As `held_out`, with a world: it begins with the seeds from 0."""
    from llm_gym.runs.evaluation import evaluate
    from llm_gym.stages.by_name import environment_kwargs

    if config.eval_conversations == 0:
        return None
    return evaluate(
        model,
        config.env,
        env_kwargs=environment_kwargs(config.env, config.model, **config.environment_options()),
        policy_kwargs=config.policy_options() if isinstance(model, str) else {},
        max_prompts=config.eval_conversations,
        seed=config.seed,
        device=torch_device(config.device),
        progress_bar=progress_bar,
    )
