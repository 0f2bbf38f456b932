"""What the small training scripts in `agents/` have in common: their options, and the run.

A script says which algorithm it is about and adds the options that belong to it alone:

    parser = text_agent_parser(__doc__)
    parser.add_argument("--top-share", type=float, help="...")
    run_text_agent(parser.parse_args(), make_algorithm)
"""

from __future__ import annotations

import argparse
import functools
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from llm_gym.files.ranges import POSITIVE
from llm_gym.files.settings import argument_parser, config_from, setting
from llm_gym.parallel import world
from llm_gym.stages.by_name import PromptsConfig
from llm_gym.supervised.lora import LoraSettings, check_base

if TYPE_CHECKING:
    from gymnasium.vector import VectorEnv
    from stable_baselines3.common.on_policy_algorithm import OnPolicyAlgorithm

    from llm_gym.runs.directory import RunDirectory
    from llm_gym.runs.evaluation import Evaluation
    from llm_gym.stages.training_run import TrainingRun

INTERRUPTED = "interrupted; add --resume to go on from the last checkpoint, if there is one"


@dataclass(frozen=True)
class TaskConfig:
    """What to learn."""

    env: str = setting("llm_gym/PoliteEmail-v0", "id of a text environment")
    model: str = setting("llm_gym/email-sft", "language model: embedded or hub name, or directory")
    scorer: str | None = setting(
        None,
        "what an answer is worth: politeness, length:WORDS, regex:PATTERN, URL or path.py:function",
    )
    eval_prompts: str | None = setting(None, "file of prompts to evaluate on (default: the task's)")
    max_new_tokens: int | None = setting(None, "most tokens of an answer")
    num_envs: int = setting(32, "answers written at the same time")
    temperature: float = setting(1.0, "temperature of the policy")
    seed: int = setting(0, "seed of everything random")
    device: str = setting("cpu", "where the model runs: cpu, cuda or auto")


@dataclass(frozen=True)
class LearningConfig(PromptsConfig):
    """How to learn it."""

    prompts: str | None = setting(None, "file to train on: .txt, .jsonl, .json, .csv or .parquet")
    total_tokens: int = setting(200_000, "tokens to generate in all")
    group_size: int = setting(8, "answers to the same prompt; divides --num-envs")
    learning_rate: float = setting(1e-4, "step size of AdamW", POSITIVE)
    batch_size: int = setting(512, "tokens per gradient step")
    n_epochs: int = setting(1, "passes over what is learnt from")
    output: str = setting("runs/text_agent", "directory for checkpoints, curves and samples")
    checkpoint_every: int = setting(10, "iterations between checkpoints")
    eval_every: int = setting(
        0, "iterations between evaluations on held-out prompts; 0: before and after only"
    )
    keep_best: bool = setting(
        False, "keep the checkpoint of the best evaluation, too, in OUTPUT/best"
    )
    resume: bool = setting(False, "continue the newest checkpoint in the output directory")


def text_agent_parser(documentation: str | None, **defaults: Any) -> argparse.ArgumentParser:
    """A parser with the options that every script has.

    Args:
        documentation: The script's docstring, which is shown by `--help`.
        **defaults: Other defaults than the dataclasses'.

    Returns:
        The parser, to which a script adds its own options.
    """
    return argument_parser(documentation, TaskConfig, LearningConfig, LoraSettings, **defaults)


def policy_settings(options: argparse.Namespace) -> dict[str, Any]:
    """The arguments that every algorithm takes, from a script's options.

    Raises:
        ValueError: Of a LoRA adapter something does not fit.
    """
    adapter = config_from(LoraSettings, vars(options))
    check_base(adapter, options.model)
    lora = {} if adapter.lora is None else {"lora": adapter.lora}
    return {
        "learning_rate": options.learning_rate,
        "batch_size": options.batch_size,
        "n_epochs": options.n_epochs,
        "seed": options.seed,
        "device": options.device,
        "policy_kwargs": {"model": options.model, "temperature": options.temperature, **lora},
    }


def held_out_kwargs(options: argparse.Namespace) -> dict[str, Any]:
    """Arguments of the environment that a script evaluates on.

    Raises:
        ValueError: The task needs prompts or a scorer and there are none.
    """
    from llm_gym.stages.by_name import TEXT_GENERATION, check_task, environment_kwargs

    if options.env == TEXT_GENERATION and options.eval_prompts is None:
        raise ValueError(f"{options.env} has no prompts to evaluate on: give --eval-prompts")
    kwargs = environment_kwargs(
        options.env,
        options.model,
        scorer=options.scorer,
        device=options.device,
        prompts=options.eval_prompts,
        **config_from(PromptsConfig, vars(options)).prompt_options(),
        max_new_tokens=options.max_new_tokens,
    )
    check_task(options.env, kwargs)
    return kwargs


def run_text_agent(
    options: argparse.Namespace,
    make_algorithm: Callable[[argparse.Namespace, VectorEnv], OnPolicyAlgorithm],
    environment_options: Sequence[str] = (),
) -> int:
    """Trains, with curves, samples and checkpoints, and evaluates before and after.

    Args:
        options: Options of `text_agent_parser`, with the script's own.
        make_algorithm: The algorithm for these options on this environment.
        environment_options: Names of the script's own options that are arguments of the environment
            to train on. Evaluation does without them.

    Returns:
        The exit code: 0, or 130 if the run was stopped.

    Raises:
        ValueError: An option does not fit, or the directory already holds a run.
    """
    from llm_gym.files.page import interval
    from llm_gym.language_models.loading import quiet_libraries
    from llm_gym.runs.directory import RunDirectory
    from llm_gym.stages.pages import closing

    quiet_libraries()
    settings = {name: value for name, value in vars(options).items() if name != "resume"}
    directory = RunDirectory(options.output, settings, settings_name="config.json", command="agent")
    try:
        with directory.opened():
            training = _train(options, directory, make_algorithm, environment_options)
    except KeyboardInterrupt:
        print(INTERRUPTED, file=sys.stderr)
        return 130
    if world().rank:  # the first process says it
        return 0
    if training.stopped:
        print(f"stopped with {training.checkpoint}; add --resume to the command to go on")
        return 130
    for name, found in training.evaluations.items():
        print(f"{name:<7}{found.mean_score:8.2f}   {interval(found.low, found.high, '.2f')}")
    if training.best:
        print(training.best)
    print(closing(directory.root, training.command))
    return 0


def _train(
    options: argparse.Namespace,
    directory: RunDirectory,
    make_algorithm: Callable[[argparse.Namespace, VectorEnv], OnPolicyAlgorithm],
    environment_options: Sequence[str],
) -> TrainingRun:
    from llm_gym.runs.checkpoint import load_checkpoint
    from llm_gym.stages.by_name import environment_kwargs, make_vector_env
    from llm_gym.stages.training_run import learn

    checkpoint = directory.checkpoint(
        resume=options.resume, advice="add --resume, or choose another --output"
    )
    kwargs = environment_kwargs(
        options.env,
        options.model,
        scorer=options.scorer,
        device=options.device,
        prompts=options.prompts,
        **config_from(PromptsConfig, vars(options)).prompt_options(),
        max_new_tokens=options.max_new_tokens,
        group_size=options.group_size,
        **{name: getattr(options, name) for name in environment_options},
    )
    environment = make_vector_env(options.env, options.num_envs, kwargs)
    algorithm: Any = make_algorithm(options, environment)
    if checkpoint is not None:
        load_checkpoint(algorithm, checkpoint)
    directory.write_settings()
    return learn(
        algorithm,
        directory,
        options.total_tokens,
        checkpoint_every=options.checkpoint_every,
        keep_last=2,
        measure=functools.partial(_evaluate, options),
        eval_every=options.eval_every,
        keep_best=options.keep_best,
    )


def _evaluate(
    options: argparse.Namespace, model: str | OnPolicyAlgorithm, *, progress_bar: bool = False
) -> Evaluation | None:
    from llm_gym.runs.evaluation import evaluate

    if options.prompts is not None and options.eval_prompts is None:
        return None
    sampling = {"temperature": options.temperature} if isinstance(model, str) else {}
    return evaluate(
        model,
        options.env,
        env_kwargs=held_out_kwargs(options),
        policy_kwargs=sampling,
        seed=options.seed,
        progress_bar=progress_bar,
    )
