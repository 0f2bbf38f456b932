"""One run, from its settings to a directory as `llm-gym train` leaves it."""

from __future__ import annotations

import shutil
import tempfile
import time
import warnings
from pathlib import Path
from typing import Any

import gymnasium as gym
import stable_baselines3
from rich.console import Console
from stable_baselines3.common.logger import configure

import llm_gym
from benchmarks.doctor.patches import patched
from benchmarks.doctor.scorers import scorer_named
from benchmarks.doctor.settings import EMAIL, Run, usual_settings
from llm_gym.feedback.diagnostics import GoldProxyCallback
from llm_gym.files import atomic
from llm_gym.files.schema import read_json
from llm_gym.language_models.chat import PromptFormat
from llm_gym.learning.vec_env import GymVecEnv
from llm_gym.runs.directory import SETTINGS
from llm_gym.runs.divergence import DivergenceError
from llm_gym.stages.algorithms import AlgorithmConfig, build, resolved
from llm_gym.stages.train import CHAT_FORMAT, PROMPT_FORMAT
from llm_gym.stages.training_run import run as run_algorithm

EMAIL_MODEL = "llm_gym/email-sft"
DONE = "done.json"
ROWS = {EMAIL: 16}  # of problems whose optimum is known 64
EMAIL_TOKENS, KNOWN_TOKENS = 9_000, 12_000
LONGEST_EMAIL = 64


def train(run: Run, directory: Path) -> dict[str, Any]:
    """Does a run, unless it is there.

    Args:
        run: Its settings.
        directory: Where it goes.

    Returns:
        CPU seconds, and how it ended if it left the numbers.
    """
    if (directory / DONE).exists():
        return read_json(directory / DONE)
    shutil.rmtree(directory, ignore_errors=True)
    directory.mkdir(parents=True)
    started, ended = time.process_time(), ""
    with tempfile.TemporaryDirectory() as work, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            (_stock if run.is_stock else _ours)(run, directory, Path(work))
        except DivergenceError as error:
            ended = str(error)
    for name in ("checkpoints", "tensorboard"):
        shutil.rmtree(directory / name, ignore_errors=True)
    done = {"cpu_seconds": time.process_time() - started, "ended": ended}
    atomic.write_json(directory / DONE, done)
    return done


def _environment(run: Run, group_size: int, work: Path) -> tuple[Any, str]:
    """The environment of a run, and the model that learns on it."""
    kwargs: dict[str, Any] = {} if group_size == 1 else {"group_size": group_size}
    kwargs |= {"autoreset_mode": "SameStep", "num_envs": ROWS.get(run.task, 64)}
    changes = dict(run.environment)
    scorer, prompts = changes.pop("scorer", None), changes.pop("prompts", None)
    if run.task == EMAIL:
        kwargs["max_new_tokens"] = LONGEST_EMAIL
        if prompts is not None:
            whole = gym.make("llm_gym/PoliteEmail-v0").unwrapped
            kwargs["prompts"] = [whole.reset(seed=i)[1]["prompt"] for i in range(prompts)]
        if scorer is not None:
            kwargs["scorer"] = scorer_named(scorer, None)
        env = gym.make_vec("llm_gym/PoliteEmail-v0", **{**kwargs, **changes})
        return env, EMAIL_MODEL
    from llm_gym_known_optimum import KnownOptimum
    from llm_gym_known_optimum.task import RewardTable

    problem = KnownOptimum.make(run.task, num_prompts=8, problem_seed=run.seed)
    if scorer is not None:
        kwargs["scorer"] = scorer_named(scorer, RewardTable(problem))
    env = gym.make_vec("llm_gym/KnownOptimum-v0", problem=problem, **{**kwargs, **changes})
    return env, str(problem.save_reference(work))


def _ours(run: Run, directory: Path, work: Path) -> None:
    chosen = {**usual_settings(run.task, run.algorithm), **run.settings}
    values = resolved(AlgorithmConfig(algorithm=run.algorithm, **chosen))
    env, model = _environment(run, values["group_size"], work)
    algorithm: Any = build(
        env, values, policy_kwargs={"model": model, **run.policy}, seed=run.seed, device="cpu"
    )
    shown: PromptFormat = env.unwrapped.prompt_format
    tokens = EMAIL_TOKENS if run.task == EMAIL else KNOWN_TOKENS
    settings = {
        "env": "llm_gym/PoliteEmail-v0" if run.task == EMAIL else "llm_gym/KnownOptimum-v0",
        "model": model,
        "total_tokens": tokens,
        **values,
        **{name: value for name, value in run.environment.items() if name != "scorer"},
        PROMPT_FORMAT: shown.shown,
        CHAT_FORMAT: shown.of_chat_template,
    }
    atomic.write_json(directory / SETTINGS, settings)
    gold = "gold" in run.environment.get("scorer", "")
    with patched(run.patch, algorithm):
        run_algorithm(
            algorithm,
            tokens,
            directory,
            checkpoint_every=10**6,
            keep_last=1,
            console=Console(quiet=True),
            callbacks=[GoldProxyCallback(directory)] if gold else [],
        )


def _stock(run: Run, directory: Path, work: Path) -> None:
    """Stable-Baselines3's own algorithm, which logs to its CSV file alone."""
    env, model = _environment(run, 1, work)
    kind = getattr(stable_baselines3, run.algorithm.removeprefix("stock "))
    algorithm = kind(
        llm_gym.TransformerActorCriticPolicy,
        GymVecEnv(env),
        learning_rate=0.03,
        n_steps=4,
        gamma=1.0,
        seed=run.seed,
        device="cpu",
        rollout_buffer_class=llm_gym.EpisodeBuffer,
        policy_kwargs={"model": model},
        **({"batch_size": 64, "n_epochs": 4} if kind is stable_baselines3.PPO else {}),
    )
    algorithm.set_logger(configure(str(directory), ["csv"]))
    algorithm.learn(KNOWN_TOKENS, log_interval=1)
    algorithm.logger.close()
