"""Trains the agents, flies everybody at every turbulence level, on the same held-out seeds."""

from __future__ import annotations

import importlib
import json
import shutil
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
from llm_gym_autopilot.evaluation import FlightEvaluation, evaluate_pilot
from numpy.typing import NDArray

from benchmarks.autopilot.entries import LEVELS, MEASURES, PILOTS, TRAININGS, Training
from llm_gym.runs.callbacks.history import read_rows
from llm_gym.statistics.resampling import bootstrap
from llm_gym.statistics.shares import share_interval

Say = Callable[[str], None]
WATCHED = ("none", "moderate")  # levels of the learning curves


def measure_agents(output: Path, *, quick: bool, episodes: int, say: Say) -> dict[str, Any]:
    """Part "agents".

    Args:
        output: Folder; trained agents are kept in it and found again.
        quick: Train for a fraction of the steps.
        episodes: Flown by each pilot at each level.
        say: Is called with a line of progress now and then.

    Returns:
        `pilots`: figures by key, see `pilot_figures`; `curves`: by agent, one dict of lists a
        seed, see `learning_curve`.
    """
    pilots: dict[str, Any] = {}
    curves: dict[str, Any] = {}
    for key, training in TRAININGS.items():
        seeds = range(training.quick_seeds if quick else training.seeds)
        folders = [trained(key, training, seed, output, quick, say) for seed in seeds]
        curves[key] = [learning_curve(read_rows(folder / "metrics.jsonl")) for folder in folders]
        flown = [fly_levels(folder / "pilot.npz", episodes) for folder in folders]
        steps = int(curves[key][0]["steps"][-1])
        pilots[key] = {
            "label": training.label,
            "learnt": True,
            "steps": steps,
            "note": f"trained for only {steps:,} steps (--quick)" if quick else None,
            **pilot_figures(flown),
        }
        say(f"{training.label}: {_returns(pilots[key])}")
    for key, label in PILOTS.items():
        figures = pilot_figures([fly_levels(key, episodes)])
        pilots[key] = {"label": label, "learnt": False, **figures}
        say(f"{label}: {_returns(pilots[key])}")
    return {"pilots": pilots, "curves": curves, "episodes": episodes}


def trained(key: str, training: Training, seed: int, output: Path, quick: bool, say: Say) -> Path:
    """The folder of a trained agent; one that is there with the same settings is not trained again.

    Raises:
        KeyboardInterrupt: Training was stopped.
    """
    script = importlib.import_module(f"agents.{training.script}")
    folder = output / "agents" / f"{key}-{seed}"
    options = {**training.options, "seed": seed, "output": str(folder)}
    if quick:
        steps = training.quick_steps
        shorter = {"total_steps": steps, "eval_every": steps // 6, "eval_episodes": 50}
        options = shorter | options
    config = replace(script.Config(), **options)
    done = folder / "config.json"
    if done.is_file() and json.loads(done.read_text(encoding="utf-8")) == asdict(config):
        say(f"{training.label}, seed {seed}: kept, {folder}")
        return folder
    say(f"{training.label}, seed {seed}: training for {config.total_steps:,} steps")
    shutil.rmtree(folder / "checkpoints", ignore_errors=True)  # of one that was stopped
    model = script.train(config, folder)
    if model.num_timesteps < config.total_steps:
        raise KeyboardInterrupt
    script.save(config, model, folder)
    done.write_text(json.dumps(asdict(config)), encoding="utf-8")  # last: marks the folder as whole
    return folder


def learning_curve(rows: Sequence[dict[str, float]]) -> dict[str, list[float]]:
    """Steps, CPU seconds of learning, and held-out returns, from the rows of `metrics.jsonl`."""
    names = {"steps": "step", "cpu_seconds": "time/cpu_seconds"}
    names |= {level: f"return/{level}" for level in WATCHED}
    return {name: [row[key] for row in rows] for name, key in names.items()}


def fly_levels(pilot: str | Path, episodes: int) -> dict[str, FlightEvaluation]:
    """Flies a pilot at every level."""
    return {level: evaluate_pilot(pilot, turbulence=level, episodes=episodes) for level in LEVELS}


def pilot_figures(flown: Sequence[dict[str, FlightEvaluation]]) -> dict[str, Any]:
    """Means with intervals of one pilot, or of one agent's pilots.

    Args:
        flown: Evaluations by level, one dict a training seed.

    Returns:
        `levels`: by level and measure, mean with interval over seeds and episodes; `seeds`: by
        seed and level, the mean return.
    """
    levels = {}
    for level in flown[0]:
        levels[level] = {
            name: crossed_interval(
                np.stack([levels_of_seed[level].measures[name] for levels_of_seed in flown]),
                is_share=name == "success",
            )
            for name in MEASURES
        }
    seeds = [
        {level: levels_of_seed[level].mean_return for level in levels_of_seed}
        for levels_of_seed in flown
    ]
    return {"levels": levels, "seeds": seeds}


def crossed_interval(
    values: NDArray[np.float64], *, is_share: bool = False
) -> dict[str, float | None]:
    """Mean and 95 % bootstrap interval over training seeds and episodes.

    Every seed flies the same episodes, so seeds and episodes are resampled each for itself (Owen,
    2007, "The pigeonhole bootstrap").

    Args:
        values: `(seeds, episodes)`, NaN where an episode lacks the measure.
        is_share: Whether the mean is a share: then the interval is Wilson's.

    Returns:
        `mean`, `low` and `high`; None where no episode has the measure.
    """
    present = ~np.isnan(values)
    if not present.any():
        return {"mean": None, "low": None, "high": None}
    filled = np.where(present, values, 0.0)
    seeds, episodes = values.shape

    def mean(rows: NDArray[np.float64], columns: NDArray[np.float64]) -> NDArray[np.float64]:
        chosen = rows.astype(np.intp)[:, :, None], columns.astype(np.intp)[:, None, :]
        return filled[chosen].sum((1, 2)) / np.maximum(present[chosen].sum((1, 2)), 1)

    drawn: list[NDArray[np.float64]] = []

    def noted(rows: NDArray[np.float64], columns: NDArray[np.float64]) -> NDArray[np.float64]:
        drawn.append(mean(rows, columns))
        return drawn[-1]

    low, high = bootstrap([np.arange(seeds), np.arange(episodes)], noted, resamples=1000)
    value = float(values[present].mean())
    if is_share:
        # As many independent flights as would vary as the resamples do.
        variance = float(np.concatenate(drawn).var())
        trials = value * (1 - value) / variance if variance > 0 else float(episodes)
        low, high = share_interval(value, trials)
    return {"mean": value, "low": low, "high": high}


def _returns(figures: dict[str, Any]) -> str:
    return ", ".join(
        f"{level} {measures['return']['mean']:.1f}" for level, measures in figures["levels"].items()
    )
