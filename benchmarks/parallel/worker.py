"""One process of a case of `run.py`: trains, and the first writes how fast.

torchrun --nproc-per-node 2 worker.py MODEL ROWS ITERATIONS SEED RESULT
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

import llm_gym
from llm_gym.files.atomic import write_json
from llm_gym.language_models.loading import quiet_libraries
from llm_gym.learning.joined import joined
from llm_gym.parallel import world
from llm_gym.stages.by_name import environment_kwargs, make_vector_env

ENV = "llm_gym/PoliteEmail-v0"
TOKENS_PER_STEP = 16
"""Tokens of a gradient step for each row."""


def main(model: str, rows: str, iterations: str, seed: str, result: str) -> None:
    quiet_libraries()
    processes = world()
    # A new group of lines: rows are of all processes together.
    all_rows = int(rows) * processes.size
    env = make_vector_env(ENV, all_rows, environment_kwargs(ENV, model))
    algorithm = llm_gym.PPO(
        "TransformerPolicy",
        env,
        batch_size=TOKENS_PER_STEP * all_rows,
        policy_kwargs={"model": model},
        seed=int(seed),
        device="cpu",
    )
    waited = _watched(processes)
    with joined(algorithm):
        _iterate(algorithm, 1)
        processes.sums(0)  # all begin together
        waited.clear()
        begun, cpu, before = time.perf_counter(), time.process_time(), algorithm.num_timesteps
        for _ in range(int(iterations)):
            _iterate(algorithm, 1)
        processes.sums(0)
        seconds = time.perf_counter() - begun
    tokens = algorithm.num_timesteps - before
    cpu = processes.sums(time.process_time() - cpu)[0]
    if processes.rank == 0:
        figures = {
            "processes": processes.size,
            "threads": torch.get_num_threads(),
            "tokens": tokens,
            "seconds": seconds,
            "tokens_per_second": tokens / seconds,
            "tokens_per_cpu_second": tokens / cpu,
            "share_waiting": sum(waited) / seconds,
            "parameters": sum(p.numel() for p in algorithm.policy.parameters()),
        }
        write_json(Path(result), figures)


def _iterate(algorithm: Any, tokens: int) -> None:
    algorithm.learn(tokens, reset_num_timesteps=algorithm._last_obs is None)


def _watched(processes: Any) -> list[float]:
    """Seconds of every call that may wait for another process."""
    seconds: list[float] = []
    inside: list[None] = []  # one of these calls another

    def watched(own: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **kwargs: Any) -> Any:
            begun = time.perf_counter()
            inside.append(None)
            try:
                return own(*args, **kwargs)
            finally:
                inside.pop()
                if not inside:
                    seconds.append(time.perf_counter() - begun)

        return call

    for name in ("sums", "gather", "reduce_gradients"):
        setattr(processes, name, watched(getattr(processes, name)))
    return seconds


if __name__ == "__main__":
    main(*sys.argv[1:])
