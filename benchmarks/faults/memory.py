"""Memory of long runs: what stays of ten thousand rollouts.

The rows of a run's figures by themselves, as the logger writes them; then a run of PPO on the
smallest model with everything that a command adds to it. Both must be flat.
"""

from __future__ import annotations

import gc
import tempfile
import tracemalloc
from pathlib import Path
from typing import Any

import gymnasium as gym
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.logger import Logger

import llm_gym
from benchmarks.faults.rows import Row
from llm_gym.runs.callbacks import History, SampleCallback, ThroughputCallback
from llm_gym.testing.tiny import save_tiny_model

ROLLOUTS = {True: 300, False: 10_000}  # in the quick form and else
FIGURES = 25  # of a row
MOST_OF_ROWS = {"with a file": 10.0, "in memory": 12.0 * FIGURES}  # bytes a row that may stay
MOST_OF_ROLLOUTS = 300_000  # bytes of all: bounded buffers fill; before, 5,300 stayed of each
WARM = 0.2  # of the rollouts, in which allocators and caches fill


def measure(output: Path, quick: bool) -> list[Row]:
    """Writes rows and trains.

    Args:
        output: Directory for the files of the runs.
        quick: 300 rollouts in place of 10,000; rows are cheap and always 10,000.
    """
    output.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=output) as directory:
        root = Path(directory)
        stays = {
            "with a file": of_rows(History(root / "rows.jsonl"), ROLLOUTS[False]),
            "in memory": of_rows(History(), ROLLOUTS[False]),
        }
        rows = [
            _row(f"rows of figures {where}", ROLLOUTS[False], bytes_each, MOST_OF_ROWS[where])
            for where, bytes_each in stays.items()
        ]
        number = ROLLOUTS[quick]
        most = MOST_OF_ROLLOUTS / number
        rows.append(_row("rollouts of PPO", number, of_rollouts(root, number), most))
    return rows


def of_rows(history: History, number: int) -> float:
    """Bytes that stay of a row of figures.

    Args:
        history: Gets the rows.
        number: How many.
    """
    for step in range(100):
        history.write(_figures(step), {}, step)
    tracemalloc.start()
    for step in range(number):
        history.write(_figures(step), {}, step)
    grown = tracemalloc.get_traced_memory()[0]
    tracemalloc.stop()
    history.close()
    return grown / number


def of_rollouts(root: Path, number: int) -> float:
    """Bytes of Python's memory that stay of a rollout, after the first ones.

    Args:
        root: Directory for the model and the logs.
        number: Rollouts.
    """
    model = str(save_tiny_model(root / "tiny"))
    env = gym.make_vec(
        "llm_gym/TextGeneration-v0",
        num_envs=2,
        tokenizer=model,
        prompts=["w1 w2", "w3"],
        scorer=lambda prompts, completions: [float(len(text)) for text in completions],
        max_new_tokens=2,
        autoreset_mode="SameStep",
    )
    settings: dict[str, Any] = {"n_steps": 2, "batch_size": 4, "n_epochs": 1, "device": "cpu"}
    algorithm = llm_gym.PPO("TransformerPolicy", env, policy_kwargs={"model": model}, **settings)
    algorithm.set_logger(Logger(None, [History(root / "metrics.jsonl")]))
    watch = _Watch(round(WARM * number))
    callbacks = [ThroughputCallback(), SampleCallback(path=root / "samples.jsonl"), watch]
    algorithm.learn(number * 4, callback=callbacks)
    return watch.grown() / (number - watch.after)


class _Watch(BaseCallback):
    """Python's memory from one rollout on."""

    def __init__(self, after: int) -> None:
        super().__init__()
        self.after = after
        self._rollouts = 0

    def _on_rollout_start(self) -> None:
        self._rollouts += 1
        if self._rollouts == self.after:
            gc.collect()
            tracemalloc.start()

    def _on_step(self) -> bool:
        return True

    def grown(self) -> int:
        gc.collect()
        grown = tracemalloc.get_traced_memory()[0]
        tracemalloc.stop()
        return grown


def _figures(step: int) -> dict[str, float]:
    return {f"train/figure_{number}": float(step * number) for number in range(FIGURES - 1)}


def _row(what: str, number: int, stays: float, most: float) -> Row:
    told = f"{number:,} {what}: {stays:.1f} bytes of each stay"
    return Row(told, int(stays <= most), 1, [] if stays <= most else [f"more than {most:g}"])
