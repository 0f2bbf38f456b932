"""What looking for divergence costs: the same rollouts and updates with and without it.

Two learners of one seed play and learn the same, in turns in one process, and only the CPU time of
the process is counted. One has all checks, the other none: no hook on the optimizer, no callback,
and functions that do nothing in place of those that look. On a machine that does other things as
well pairs differ by several per cent, so the share of the time that is spent inside the checks is
counted, too.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from pkgutil import resolve_name
from typing import Any
from unittest import mock

import gymnasium as gym
import numpy as np
import stable_baselines3
import torch

import llm_gym
from benchmarks.faults.rows import Row
from llm_gym.language_models.divergence import check_gradients
from llm_gym.runs.divergence import DivergenceCallback

ALLOWED = 0.01
"""Share of the time that the checks may cost."""

_CONVERSION = "llm_gym.learning.vec_env._as_float32"
_CHECKS = (
    "llm_gym.learning.policy_gradient.check_step",
    "llm_gym.learning.ppo.check_losses",
    "llm_gym.learning.shaping._check_finite",
    "llm_gym.policy.sampling._check_numbers",
)


@contextmanager
def unchecked() -> Iterator[None]:
    """Has nobody look, as long as the block lasts."""
    with ExitStack() as stack:
        for name in _CHECKS:
            stack.enter_context(mock.patch(name, _nothing))
        stack.enter_context(mock.patch(_CONVERSION, _converted))
        yield


def _nothing(*_: Any) -> None:
    pass


def _converted(rewards: np.ndarray) -> np.ndarray:
    return rewards.astype(np.float32)


def _env() -> gym.vector.VectorEnv:
    return gym.make_vec(
        "llm_gym/PoliteEmail-v0", num_envs=32, max_new_tokens=24, group_size=4,
        autoreset_mode="SameStep",
    )  # fmt: skip


def _learner(name: str) -> Any:
    settings: dict[str, Any] = {
        "seed": 0, "device": "cpu", "policy_kwargs": {"model": "llm_gym/email-sft"},
    }  # fmt: skip
    if name == "stock PPO":
        return stable_baselines3.PPO(
            llm_gym.TransformerActorCriticPolicy, llm_gym.GymVecEnv(_env()), n_steps=24, gamma=1.0,
            rollout_buffer_class=llm_gym.EpisodeBuffer, batch_size=512, n_epochs=4,
            learning_rate=1e-5, **settings,
        )  # fmt: skip
    kind = getattr(llm_gym, name)
    return kind("TransformerPolicy", _env(), learning_rate=1e-5, **settings)


def _iteration(learner: Any, callback: DivergenceCallback | None) -> float:
    """CPU seconds of a rollout and what is learnt from it."""
    start = time.process_time()
    learner.learn(1, callback=callback, reset_num_timesteps=False)
    return time.process_time() - start


def pairs(name: str, number: int) -> tuple[np.ndarray, bool]:
    """CPU seconds of iterations with and without checks, `(number, 2)`, and whether both agree."""
    checked, plain = _learner(name), _learner(name)
    plain.policy.optimizer._optimizer_step_pre_hooks.clear()
    callback = DivergenceCallback()

    def without() -> float:
        with unchecked():
            return _iteration(plain, None)

    def with_checks() -> float:
        return _iteration(checked, callback)

    seconds = np.empty((number + 1, 2))
    order: list[tuple[int, Callable[[], float]]] = [(0, with_checks), (1, without)]
    for row in seconds:
        for column, run in order:
            row[column] = run()
        order.reverse()
    both = zip(checked.policy.parameters(), plain.policy.parameters(), strict=True)
    return seconds[1:], all(torch.equal(one, other) for one, other in both)


def share_inside(name: str, number: int) -> float:
    """Share of the CPU time of iterations that is spent inside the checks."""
    learner, callback, spent = _learner(name), DivergenceCallback(), [0.0]

    def timed(check: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any) -> Any:
            start = time.process_time()
            result = check(*args)
            spent[0] += time.process_time() - start
            return result

        return call

    learner.policy.optimizer._optimizer_step_pre_hooks.clear()
    learner.policy.optimizer.register_step_pre_hook(timed(check_gradients))
    callback._on_rollout_start = timed(callback._on_rollout_start)  # type: ignore[method-assign]
    with ExitStack() as stack:
        for place in (*_CHECKS, _CONVERSION):
            stack.enter_context(mock.patch(place, timed(resolve_name(place))))
        _iteration(learner, callback)  # warms caches up
        spent[0] = 0.0
        total = sum(_iteration(learner, callback) for _ in range(number))
    return spent[0] / total


def measure(output: Path, quick: bool) -> list[Row]:
    """Times three algorithms.

    Args:
        output: Directory for `cost.json`.
        quick: Few pairs, whose median says little.

    Returns:
        A row an algorithm.
    """
    rows, figures = [], {}
    for name in ("PPO", "stock PPO", "RLOO"):
        seconds, same = pairs(name, 3 if quick else 40)
        costs = seconds[:, 0] / seconds[:, 1] - 1
        low, median, high = (100 * np.percentile(costs, (25, 50, 75))).tolist()
        inside = 100 * share_inside(name, 2 if quick else 20)
        figures[name] = {
            "median_percent": median, "quartiles_percent": [low, high], "pairs": len(costs),
            "inside_percent": inside, "same_weights": same, "cpu_seconds": seconds.tolist(),
        }  # fmt: skip
        what = (
            f"cost of looking for divergence, {name}: {inside:.2f} % of CPU time is inside the "
            f"checks; {len(costs)} pairs with and without differ by {median:+.2f} % in the median "
            f"(quartiles {low:+.2f} and {high:+.2f} %)"
        )
        failures = [f"more than {100 * ALLOWED:g} %"] if inside > 100 * ALLOWED else []
        failures += [] if same else ["the weights differ"]
        rows.append(Row(what, int(not failures), 1, failures))
    output.mkdir(parents=True, exist_ok=True)
    (output / "cost.json").write_text(json.dumps(figures, indent=1) + "\n")
    return rows
