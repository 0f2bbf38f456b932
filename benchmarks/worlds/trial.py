"""One world: Gymnasium's checker, random episodes, the same again, and an update of stock PPO."""

from __future__ import annotations

import sys
import time
import warnings
from collections import Counter
from dataclasses import dataclass
from typing import Any

import gymnasium as gym
import numpy as np
import stable_baselines3
import torch
from gymnasium.utils.env_checker import check_env
from transformers.utils.logging import disable_progress_bar

import llm_gym
from benchmarks.worlds.names import FOR_SEVERAL, arguments
from llm_gym.files.untrusted import shortened
from llm_gym.scorers.worker import TimeLimitError, Worker, WorkerDiedError
from llm_gym.turns.worlds import world_maker

_SHOWN = 120  # characters of a reason


@dataclass(frozen=True)
class Settings:
    """How each world is tried."""

    tokenizer: str = "llm_gym/email-sft"  # bytes where it knows no more: any text is encoded
    context_length: int = 4096
    max_turn_tokens: int = 8
    max_turns: int = 10
    world_time_limit: float = 30.0
    episodes: int = 10
    rows: int = 2
    n_steps: int = 32
    most_players: int = 6
    seconds: float = 45.0  # of a trial, after which it is killed


def players(world: str, settings: Settings) -> int:
    """The fewest players with whom it begins.

    Raises:
        Exception: It begins with none of them; that of the fewest.
    """
    first: Exception | None = None
    most = settings.most_players if world.startswith("textarena:") else 1
    for number in range(2 if world in FOR_SEVERAL else 1, most + 1):
        try:
            world_maker(world, 1, arguments(world, number))()
        except Exception as error:
            first = first or error
        else:
            return number
    assert first is not None
    raise first


def tried(world: str, model: str, settings: Settings) -> dict[str, Any]:
    """What came of it: `verdict`, and figures or a reason. JSON-able."""
    torch.set_num_threads(1)
    disable_progress_bar()
    started = time.process_time()
    found: dict[str, Any] = {"verdict": "not made"}
    try:
        number = found["players"] = players(world, settings)
        kwargs = {
            "tokenizer": settings.tokenizer,
            "world": world,
            "world_kwargs": arguments(world, number),
            "max_turn_tokens": settings.max_turn_tokens,
            "max_turns": settings.max_turns,
            "context_length": settings.context_length,
            "world_time_limit": settings.world_time_limit,
            "on_world_error": "truncate",
        }
        _go_through(found, kwargs, model, settings)
    except Exception as error:  # whatever 400 worlds of others raise
        text = f"{type(error).__name__}: {error}".replace(sys.prefix, "...")
        found["reason"] = shortened(text, _SHOWN)
    return found | {"cpu_seconds": time.process_time() - started}


def within_limit(worker: Worker, world: str, model: str, settings: Settings) -> dict[str, Any]:
    """What `tried` returns, in a worker's process, which a world that never ends is killed with."""
    try:
        return worker.call(world, model, settings, time_limit=settings.seconds)
    except (TimeLimitError, WorkerDiedError) as error:
        reason = (
            f"after {settings.seconds:g} s" if isinstance(error, TimeLimitError) else str(error)
        )
        return {"verdict": "never ends", "reason": reason, "cpu_seconds": settings.seconds}


def _go_through(found: dict[str, Any], kwargs: Any, model: str, settings: Settings) -> None:
    """Notes in `found` how far it came."""
    env = gym.make("llm_gym/Turns-v0", **kwargs)
    found["verdict"] = "fails the checker"
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        check_env(env.unwrapped, skip_render_check=True)
    found["verdict"] = "fails random episodes"
    found |= random_episodes(env, settings.episodes)
    found["verdict"] = "is not the same by the same seed"
    if _episode(env, seed=0)["said"] != _episode(env, seed=0)["said"]:
        raise ValueError("the same seed and the same turns gave other texts")
    env.close()
    found["verdict"] = "fails an update"
    update(kwargs, model, settings)
    found["verdict"] = "works"


def _episode(env: gym.Env, seed: int) -> dict[str, Any]:
    """One episode of random tokens."""
    random = np.random.default_rng(seed)
    observation, info = env.reset(seed=seed)
    said, done, total = [info["prompt"]], False, 0.0
    while not done:
        token = int(random.integers(env.action_space.n))
        observation, reward, terminated, truncated, info = env.step(token)
        said += [info["world_text"]] if "world_text" in info else []
        total, done = total + float(reward), terminated or truncated
    return {
        "said": said,
        "turns": info["turn"],
        "tokens": int(observation["attention_mask"].sum()),
        "score": total,
        "end": info["end_reason"],
        "error": info.get("world_error", ""),
    }


def random_episodes(env: gym.Env, number: int) -> dict[str, Any]:
    """Means over episodes of random tokens, how they ended, and an error if a world raised one."""
    episodes = [_episode(env, seed) for seed in range(number)]
    errors = [episode["error"] for episode in episodes if episode["error"]]
    return {
        "turns": float(np.mean([episode["turns"] for episode in episodes])),
        "tokens": float(np.mean([episode["tokens"] for episode in episodes])),
        "score": float(np.mean([episode["score"] for episode in episodes])),
        "ends": dict(Counter(episode["end"] for episode in episodes)),
        "errors": len(errors),
        "error": shortened(errors[0], _SHOWN) if errors else "",
    }


def update(kwargs: Any, model: str, settings: Settings) -> None:
    """One rollout and update of Stable-Baselines3's own PPO; the weights move and stay finite."""
    env = gym.make_vec(
        "llm_gym/Turns-v0", num_envs=settings.rows, autoreset_mode="SameStep", **kwargs
    )
    ppo = stable_baselines3.PPO(
        "TransformerPolicy",
        llm_gym.GymVecEnv(env),
        n_steps=settings.n_steps,
        batch_size=settings.rows * settings.n_steps,
        n_epochs=1,
        ent_coef=0.01,  # a gradient even where no random word is paid for
        rollout_buffer_class=llm_gym.EpisodeBuffer,
        policy_kwargs={"model": model},
        seed=0,
        device="cpu",
    )
    before = [parameter.detach().clone() for parameter in ppo.policy.parameters()]
    ppo.learn(settings.rows * settings.n_steps)
    after = list(ppo.policy.parameters())
    if not all(bool(parameter.isfinite().all()) for parameter in after):
        raise ValueError("weights are not finite after the update")
    if all(bool((a == b).all()) for a, b in zip(before, after, strict=True)):
        raise ValueError("the update moved no weight")
    env.close()
