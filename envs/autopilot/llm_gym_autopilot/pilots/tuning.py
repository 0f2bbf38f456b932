"""Finds a pilot's numbers by flying: the cross-entropy method on the vector environment.

A generation of candidates flies the same episodes side by side, as rows of one environment. The
numbers of the next generation are drawn around those that earned most (Rubinstein and Kroese, *The
Cross-Entropy Method*, 2004), and it flies other episodes, so that no set of episodes is learnt by
heart.

    python -m llm_gym_autopilot tune pid
"""

from __future__ import annotations

import argparse
import math
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from llm_gym_autopilot.pilots.protocol import ArrayPilot
from llm_gym_autopilot.pilots.searches import SEARCHES, Numbers, Search
from llm_gym_autopilot.turbulence import MIXED, TRAINING_LEVELS
from llm_gym_autopilot.vector import AutopilotVectorEnv

__all__ = ["SEARCHES", "Generation", "Tuning", "fly_candidates", "main", "tune"]

Array = NDArray[np.float64]

_ELITE = 8  # one of so many candidates shapes the next generation
_FIRST_SPREAD = 0.5  # standard deviation of the logarithm of each number
_LAST_SPREAD = 0.02
_INTERRUPTED = 130  # exit status of a shell's command ended by Ctrl-C
_COUNTS = ("candidates", "episodes", "generations")
_MEMORY = 0.3  # share of the last generation's distribution that is kept


class Generation(NamedTuple):
    """One generation of a search.

    Attributes:
        number: Its number, from 1 on.
        best: Return of its best candidate.
        centre: Return of the candidate in the middle of the distribution.
        spread: Spread of the logarithms of the numbers, the mean over the numbers.
    """

    number: int
    best: float
    centre: float
    spread: float


@dataclass(frozen=True)
class Tuning:
    """What a search found.

    Attributes:
        pilot: The pilot with the best numbers.
        numbers: These numbers, by name.
        score: Mean return of the pilot on episodes that the search did not see.
        start_score: The same of the pilot that it began with, on the same episodes.
        episodes: Episodes that the search flew.
        generations: What each generation came to.
    """

    pilot: ArrayPilot
    numbers: dict[str, float]
    score: float
    start_score: float
    episodes: int
    generations: tuple[Generation, ...]


def fly_candidates(
    pilot: ArrayPilot, candidates: int, episodes: int, turbulence: str, seed: int
) -> Array:
    """Mean return of candidates that all fly the same episodes.

    Args:
        pilot: Pilot of candidates * episodes rows: all episodes of the first candidate, then the
            second's.
        candidates: Number of candidates.
        episodes: Episodes that each of them flies.
        turbulence: Level, or "mixed".
        seed: Episode i has the start and gusts of seed + i.

    Returns:
        `(candidates,)`.
    """
    starts = AutopilotVectorEnv(episodes, turbulence=turbulence)
    starts.reset(seed=seed)
    env = AutopilotVectorEnv(candidates * episodes, turbulence=turbulence)
    observation, _ = env.reset(options={"state": _repeated(starts.get_state(), candidates)})
    returns = np.zeros(env.num_envs)
    flying = np.ones(env.num_envs, dtype=np.bool_)
    memory = None
    for _ in range(env.max_episode_steps):
        action, memory = pilot.predict(observation, memory)
        observation, reward, terminated, truncated, _ = env.step(action)
        returns += reward * flying
        flying &= ~(terminated | truncated)
    return returns.reshape(candidates, episodes).mean(axis=1)


def tune(
    name: str,
    *,
    start: Numbers | None = None,
    turbulence: str = MIXED,
    candidates: int = 64,
    episodes: int = 24,
    generations: int = 30,
    seed: int = 0,
    progress: Callable[[Generation], None] | None = None,
) -> Tuning:
    """Searches the numbers of a pilot that earn the highest return.

    Args:
        name: One of `SEARCHES`.
        start: Numbers to begin with instead of the search's own.
        turbulence: Turbulence of the episodes flown: a training level or "mixed"; "severe" is kept
            for testing.
        candidates: Pilots in a generation, at least 16.
        episodes: Episodes that each candidate flies.
        generations: Times that candidates are drawn, flown and learnt from.
        seed: Seed of episodes and candidates.
        progress: Is called after each generation.

    Returns:
        The pilot and how it was found.

    Raises:
        ValueError: An unknown name or number, one out of range, or severe turbulence.
    """
    _check(name, turbulence, candidates, episodes, generations)
    search = SEARCHES[name]
    first = _start_numbers(search, start)
    names = list(first)
    random = np.random.default_rng(seed)
    centre = np.log(np.array([first[key] for key in names]))
    spread = np.full(len(names), _FIRST_SPREAD)
    history = []
    for number in range(1, generations + 1):
        drawn = centre + spread * random.standard_normal((candidates, len(names)))
        drawn[0] = centre
        returns = _score(search, names, drawn, episodes, turbulence, seed + number * episodes)
        elite = drawn[np.argsort(-returns, kind="stable")[: candidates // _ELITE]]
        centre = _MEMORY * centre + (1 - _MEMORY) * elite.mean(axis=0)
        spread = _MEMORY * spread + (1 - _MEMORY) * elite.std(axis=0)
        spread = np.maximum(spread, _LAST_SPREAD)
        record = Generation(number, float(returns.max()), float(returns[0]), float(spread.mean()))
        history.append(record)
        if progress is not None:
            progress(record)
    # Three digits are all that the search tells apart, and what one wants to copy into a file.
    numbers = {key: float(f"{math.exp(c):.3g}") for key, c in zip(names, centre, strict=True)}
    fresh = seed + (generations + 1) * episodes
    both = np.log(np.array([[first[key] for key in names], [numbers[key] for key in names]]))
    start_score, score = _score(search, names, both, 4 * episodes, turbulence, fresh)
    return Tuning(
        pilot=search.build(**numbers),
        numbers=numbers,
        score=float(score),
        start_score=float(start_score),
        episodes=generations * candidates * episodes,
        generations=tuple(history),
    )


def _check(name: str, turbulence: str, candidates: int, episodes: int, generations: int) -> None:
    if name not in SEARCHES:
        raise ValueError(f"name={name!r} must be one of {', '.join(SEARCHES)}")
    if turbulence not in (*TRAINING_LEVELS, MIXED):
        raise ValueError(
            f"turbulence={turbulence!r} must be one of {', '.join((*TRAINING_LEVELS, MIXED))}; "
            "severe turbulence is kept for testing"
        )
    for label, value, least in (
        ("candidates", candidates, 2 * _ELITE),
        ("episodes", episodes, 1),
        ("generations", generations, 1),
    ):
        if value < least:
            raise ValueError(f"{label} must be at least {least}, got {value}")


def _repeated(state: Any, times: int) -> Any:
    """The state of M aeroplanes as one of times * M; they are the last axis of its arrays."""
    if isinstance(state, Mapping):
        return {key: _repeated(value, times) for key, value in state.items()}
    return np.tile(state, times) if isinstance(state, np.ndarray) else state


def _start_numbers(search: Search, start: Numbers | None) -> dict[str, float]:
    first = dict(search.start)
    for key, value in (start or {}).items():
        if key not in first:
            raise ValueError(f"start has {key!r}, which is none of {', '.join(first)}")
        if not (math.isfinite(value) and value > 0):
            raise ValueError(f"start[{key!r}]={value!r} must be positive")
        first[key] = float(value)
    return first


def _score(
    search: Search, names: Sequence[str], drawn: Array, episodes: int, turbulence: str, seed: int
) -> Array:
    rows = np.exp(drawn)
    pilot = search.make({key: rows[:, i] for i, key in enumerate(names)})
    return fly_candidates(_spread_rows(pilot, episodes), len(rows), episodes, turbulence, seed)


def _spread_rows(pilot: ArrayPilot, episodes: int) -> ArrayPilot:
    """The pilot of K rows as one of K times episodes."""
    changes: dict[str, Any] = {}
    for field in fields(pilot):  # type: ignore[arg-type]
        value = getattr(pilot, field.name)
        if isinstance(value, np.ndarray):
            changes[field.name] = np.repeat(value, episodes, axis=0)
    return replace(pilot, **changes)  # type: ignore[type-var]


def main(argv: Sequence[str] | None = None) -> int:
    """Command line: `tune pid`.

    Args:
        argv: Arguments behind the command's name; those of the process if None.

    Returns:
        Exit status.
    """
    parser = argparse.ArgumentParser(
        prog="python -m llm_gym_autopilot tune",
        description="Search a pilot's numbers on the return, thousands of flights at once.",
    )
    parser.add_argument("pilot", choices=list(SEARCHES))
    parser.add_argument(
        "--turbulence", choices=(*TRAINING_LEVELS, MIXED), default=MIXED, help="default: mixed"
    )
    parser.add_argument("--candidates", type=int, default=64, help="pilots a generation (64)")
    parser.add_argument("--episodes", type=int, default=24, help="flights of each (24)")
    parser.add_argument("--generations", type=int, default=30, help="default: 30")
    parser.add_argument("--seed", type=int, default=0, help="default: 0")
    options = vars(parser.parse_args(argv))
    name = options.pop("pilot")

    def show(generation: Generation) -> None:
        print(
            f"generation {generation.number:3d}   best {generation.best:6.1f}   "
            f"centre {generation.centre:6.1f}   spread {generation.spread:.3f}",
            flush=True,
        )

    try:
        _check(name, *(options[key] for key in ("turbulence", *_COUNTS)))
    except ValueError as error:
        parser.error(str(error))
    begin = time.perf_counter()
    try:
        result = tune(name, progress=show, **options)
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return _INTERRUPTED
    seconds = time.perf_counter() - begin
    print(f"{result.episodes} episodes in {seconds:.1f} s")
    print(f"return on other episodes: {result.start_score:.1f} before, {result.score:.1f} after")
    numbers = ", ".join(f"{key}={value:g}" for key, value in result.numbers.items())
    print(f"{SEARCHES[name].build.__qualname__}({numbers})")
    return 0
