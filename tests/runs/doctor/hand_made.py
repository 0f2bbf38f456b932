"""A healthy run made by hand, and what has to be changed of it for a fault to show."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from llm_gym.runs.doctor import RunRecord

ITERATIONS, TOKENS = 16, 600
Values = Callable[[int], Any]

SENTENCE = "thank you for the note I would like to ask whether we could meet on Monday at noon"
WORDS = SENTENCE.split()


def noisy(start: float, end: float, noise: float) -> Values:
    """A line from start to end with noise of its own."""
    shakes = np.random.default_rng(0).normal(size=ITERATIONS)
    return lambda i: start + (end - start) * i / (ITERATIONS - 1) + noise * shakes[i]


def of_rollouts() -> dict[str, Values]:
    """Figures of rollouts by iteration."""
    worth = noisy(35, 60, 2)
    return {
        "ep_rew_mean": worth,
        "ep_len_mean": noisy(40, 44, 0.5),
        "return_mean": worth,
        "return_std": noisy(16, 16, 1),
        "kl_coef": lambda i: 1.0,
        "kl_per_sequence": noisy(0, 5, 0),
        "kl_per_token": noisy(0, 0.12, 0),
        "kl_k3_per_token": noisy(0, 0.12, 0),
        "equal_groups": noisy(0.1, 0.2, 0.02),
        "cut_share": noisy(0.05, 0.05, 0.01),
        "sampled_entropy": noisy(0.6, 0.45, 0.02),
        "different_share": lambda i: 1.0,
    }


def of_updates() -> dict[str, Values]:
    """Figures of the update after each rollout, which the next row has."""
    return {
        "first_ratio_deviation": lambda i: 1e-5,
        "approx_kl": noisy(0.01, 0.01, 0.002),
        "clip_fraction": noisy(0.05, 0.05, 0.01),
        "entropy": noisy(0.6, 0.45, 0.005),
        "explained_variance": noisy(0.2, 0.8, 0.05),
        "value_loss": noisy(0.9, 0.3, 0.05),
        "value_head_step": lambda i: 0.1,
        "grad_norm": noisy(3, 3, 0.5),
        "grad_clip_fraction": lambda i: 1.0,
        "learning_rate": lambda i: 1e-4,
        "loss": noisy(0.1, 0.1, 0.05),
        "n_updates": lambda i: 4.0 * (i + 1),
    }


def samples(**changes: Callable[[int], Any]) -> tuple[dict[str, Any], ...]:
    """Four answers an iteration; changes are functions of the number of an answer."""
    rng = np.random.default_rng(1)
    rows = []
    for number in range(4 * ITERATIONS):
        length = int(rng.integers(10, len(WORDS)))
        row = {
            "step": TOKENS * (number // 4 + 1),
            "prompt": f"prompt {number}",
            "completion": " ".join(WORDS[:length]),
            "score": float(rng.normal(50, 16)),
            "stop_reason": "eos",
        }
        rows.append(row | {name: value(number) for name, value in changes.items()})
    return tuple(rows)


SETTINGS = {
    "gamma": 1.0,
    "max_grad_norm": 1.0,
    "prompt_format": "<user>{prompt}",
    "chat_format": "<user>{prompt}",
    "kl_in": "reward",
}


def record(
    settings: dict[str, Any] | None = None,
    answers: tuple[dict[str, Any], ...] | None = None,
    looks: tuple[Any, ...] = (),
    without: tuple[str, ...] = (),
    **changes: Values,
) -> RunRecord:
    """A run of 16 iterations; changes are figures by name, "rollout/" and "train/" left out."""
    played, learnt = of_rollouts(), of_updates()
    for name, value in changes.items():
        (learnt if name in learnt else played)[name] = value
    played.setdefault("penalised_return_mean", lambda i: _penalised(played, i))
    rows = []
    for i in range(ITERATIONS):
        row = {"step": TOKENS * (i + 1)}
        for name, value in played.items():
            if name not in without:
                row[name if "/" in name else f"rollout/{name}"] = value(i)
        if i:
            row |= {f"train/{n}": value(i - 1) for n, value in learnt.items() if n not in without}
        rows.append(row)
    given = SETTINGS | (settings or {})
    return RunRecord(rows, given, looks, samples() if answers is None else answers)


def _penalised(played: dict[str, Values], i: int) -> float:
    price: float = played["kl_coef"](i) * played["kl_per_sequence"](i)
    return played["return_mean"](i) - price
