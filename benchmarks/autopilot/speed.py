"""What does a step cost? All environments in one process, in turns, in CPU seconds.

Turns matter because other work on the machine comes and goes: it then hits all alike. CPU seconds
are those of this process; every contender computes in one thread.
"""

from __future__ import annotations

import importlib.util
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import gymnasium as gym
import numpy as np

from benchmarks.autopilot.entries import CONTENDERS, RATIOS, Contender
from benchmarks.autopilot.gap import MISSING
from benchmarks.common import median_with_interval
from llm_gym.statistics.resampling import bootstrap

ACTIONS = 64  # drawn before the clock runs


def measure_speed(*, rounds: int, seconds: float, say: Callable[[str], None]) -> dict[str, Any]:
    """Part "speed".

    Args:
        rounds: Turns of each contender.
        seconds: CPU seconds of a turn, about.
        say: Is called with a line of progress now and then.

    Returns:
        `contenders`: by key, `steps_per_second` (median with interval) and those of each turn;
        `ratios`: by name, see `ratio_figures`; `skipped`: reasons by key.
    """
    skipped = {}
    if importlib.util.find_spec("jsbsim") is None:
        skipped["jsbsim"] = MISSING
        say(f"speed: JSBSim skipped, {MISSING}")
    timers = {key: Timer(contender) for key, contender in CONTENDERS.items() if key not in skipped}
    counts = {key: timer.calibrated(seconds) for key, timer in timers.items()}
    turns: dict[str, list[float]] = {key: [] for key in timers}
    keys = list(timers)
    for index in range(rounds):
        start = index % len(keys)
        for key in keys[start:] + keys[:start]:
            turns[key].append(timers[key].steps_per_second(counts[key]))
        say(f"speed: round {index + 1} of {rounds}")
    for timer in timers.values():
        timer.env.close()
    return {
        "contenders": {
            key: {
                "label": CONTENDERS[key].label,
                "steps_per_second": median_with_interval(values),
                "turns": values,
            }
            for key, values in turns.items()
        },
        "ratios": ratio_figures(turns),
        "skipped": skipped,
    }


class Timer:
    """An environment under random actions."""

    def __init__(self, contender: Contender) -> None:
        self.env: Any
        if contender.num_envs is None:
            self.env = gym.make(contender.env, **contender.options)
            self._turn = self._single
        else:
            self.env = gym.make_vec(
                contender.env,
                num_envs=contender.num_envs,
                vectorization_mode="vector_entry_point",
                **contender.options,
            )
            self._turn = self._vector
        self._rows = contender.num_envs or 1
        self.env.action_space.seed(0)
        self._actions = [self.env.action_space.sample() for _ in range(ACTIONS)]
        self.env.reset(seed=0)

    def calibrated(self, seconds: float) -> int:
        """How many calls of `step` take about so long; warms up by the way."""
        count = ACTIONS
        while True:
            started = time.process_time()
            self._turn(count)
            spent = time.process_time() - started
            if spent > seconds / 4:
                return max(round(count * seconds / spent), 1)
            count *= 2

    def steps_per_second(self, count: int) -> float:
        """Steps of all rows per CPU second over `count` calls."""
        started = time.process_time()
        self._turn(count)
        return self._rows * count / (time.process_time() - started)

    def _single(self, count: int) -> None:
        env, actions = self.env, self._actions
        for index in range(count):
            _, _, terminated, truncated, _ = env.step(actions[index % ACTIONS])
            if terminated or truncated:
                env.reset()

    def _vector(self, count: int) -> None:
        env, actions = self.env, self._actions
        for index in range(count):
            env.step(actions[index % ACTIONS])


def ratio_figures(turns: Mapping[str, Sequence[float]]) -> dict[str, dict[str, float | None]]:
    """Every ratio whose two contenders were timed.

    Args:
        turns: Steps per second by contender, one a round.

    Returns:
        By name: `median` of the rounds' ratios with its interval, and `goal`.
    """
    ratios: dict[str, dict[str, float | None]] = {}
    for name, ratio in RATIOS.items():
        if ratio.of not in turns or ratio.over not in turns:
            continue
        by_round = np.asarray(turns[ratio.of]) / np.asarray(turns[ratio.over])
        low, high = bootstrap([by_round], lambda drawn: np.median(drawn, 1))
        ratios[name] = {
            "median": float(np.median(by_round)), "low": low, "high": high, "goal": ratio.goal,
        }  # fmt: skip
    return ratios
