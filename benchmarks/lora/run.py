"""Is rank 1 enough for RL? LoRA of ranks 1, 4 and 16 and all weights, against a known optimum.

RLOO learns on the five families of `llm_gym/KnownOptimum-v0` with a transformer as the reference,
where J* is a number, so "enough" is a difference in J/J*. The same learning rates are tried for
every rank and for all weights, on problems of their own; the best of each is used. Claims held
against it ("LoRA Without Regret", Thinking Machines, 2025): rank 1 suffices in RL, and the best
rate of an adapter is about ten times that of all weights.

    python benchmarks/lora/run.py --quick --output runs/lora-quick
    python benchmarks/lora/run.py --output runs/lora

A run that was interrupted goes on with the same command.
"""

from __future__ import annotations

import argparse
import sys
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from benchmarks.algorithms.jobs import do_jobs
from benchmarks.algorithms.known_optimum.plan import rated_jobs
from benchmarks.algorithms.known_optimum.settings import TASKS, Budget, Task
from benchmarks.algorithms.known_optimum.tuning import TUNING_SEED
from benchmarks.algorithms.settings import ENTRIES, Entry
from benchmarks.algorithms.store import RunStore
from benchmarks.common import columns, mean_with_interval, record
from llm_gym.files.atomic import write_json
from llm_gym.files.provenance import versions

RANKS = (1, 4, 16)
LEARNING_RATES = (0.0003, 0.001, 0.003, 0.01, 0.03, 0.1, 0.3)
WITHIN = 0.005
ALL = "all weights"


def entries() -> dict[str, Entry]:
    """RLOO on all weights, and on an adapter of each rank."""
    rloo = replace(ENTRIES["rloo"], learning_rate=0.0)
    adapters = {
        f"rank {rank}": replace(
            rloo,
            label=f"LoRA, rank {rank}",
            # A scale that does not depend on the rank, so that one grid of rates serves them all.
            policy={"lora": {"r": rank, "lora_alpha": rank, "target_modules": "all-linear"}},
        )
        for rank in RANKS
    }
    return {ALL: replace(rloo, label=ALL), **adapters}


def tasks(names: list[str]) -> dict[str, Task]:
    """The families of problems, with a transformer as the reference."""
    return {name: replace(TASKS[name], reference="transformer") for name in names}


def best_rates(runs: list[dict[str, Any]]) -> dict[str, dict[str, float]]:
    """Mean J/J* by entry and rate; a rate with which a run has crashed is none to choose."""
    table: dict[str, dict[str, list[float]]] = {}
    for run in runs:
        end = run["end"]["j_over_jstar"] if run["status"] == "done" else np.nan
        by_rate = table.setdefault(run["algorithm"], {})
        by_rate.setdefault(str(run["learning_rate"]), []).append(end)
    return {
        name: {
            rate: float(np.mean(ends)) for rate, ends in by_rate.items() if np.isfinite(ends).all()
        }
        for name, by_rate in table.items()
    }


def differences(runs: list[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """J/J* of each rank less that of all weights, on the same problems, with its interval."""
    ends = {
        (run["algorithm"], run["task"], run["seed"]): run["end"]
        for run in runs
        if run["status"] == "done"
    }
    found = {}
    for name in entries():
        mine = {key[1:]: end for key, end in ends.items() if key[0] == name}
        pairs = {
            key: end["j_over_jstar"] - ends[(ALL, *key)]["j_over_jstar"]
            for key, end in mine.items()
            if (ALL, *key) in ends
        }
        if pairs:
            families = sorted({task for task, _ in pairs})
            found[name] = {
                "difference": mean_with_interval(list(pairs.values())),
                "by_family": {
                    family: float(np.mean([d for (task, _), d in pairs.items() if task == family]))
                    for family in families
                },
                "j_over_jstar": mean_with_interval([e["j_over_jstar"] for e in mine.values()]),
                "least": min(end["j_over_jstar"] for end in mine.values()),
                "kl_to_optimum": float(np.mean([e["kl_to_optimum"] for e in mine.values()])),
                "problems": len(pairs),
            }
    return found


def verdict(difference: dict[str, Any]) -> str:
    """What an interval of differences says of the claim."""
    low, high = difference["low"], difference["high"]
    if low is None:
        return "too few problems"
    if low >= -WITHIN:
        return f"within {WITHIN}"
    return "refuted" if high < -WITHIN else "open"


def told(results: dict[str, Any]) -> str:
    """The differences, those by family, and what the rates were chosen by."""
    rows = [["", "rate", "J/J*", "least", "KL to pi*", "less all weights", "verdict"]]
    for name, figures in results["figures"].items():
        ratio, difference = figures["j_over_jstar"], figures["difference"]
        interval = (
            ""
            if difference["low"] is None
            else f" [{difference['low']:+.4f}, {difference['high']:+.4f}]"
        )
        rows.append(
            [
                name,
                f"{results['rates'][name]:g}",
                f"{ratio['mean']:.4f}",
                f"{figures['least']:.4f}",
                f"{figures['kl_to_optimum']:.4f}",
                "" if name == ALL else f"{difference['mean']:+.4f}{interval}",
                "" if name == ALL else verdict(difference),
            ]
        )
    families = list(results["figures"][ALL]["by_family"])
    by_family = [["less all weights", *families]] + [
        [name, *(f"{figures['by_family'][family]:+.4f}" for family in families)]
        for name, figures in results["figures"].items()
        if name != ALL
    ]
    tuning = [["tuning: J/J* at rate", *(f"{rate:g}" for rate in LEARNING_RATES)]] + [
        [name, *(f"{m[str(r)]:.4f}" if str(r) in m else "crashed" for r in LEARNING_RATES)]
        for name, m in results["tunings"].items()
    ]
    return "\n\n".join(map(columns, (rows, by_family, tuning)))


def main() -> None:
    """Tunes, trains, prints the table, writes `results.json`."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--output", type=Path, required=True, metavar="DIR")
    parser.add_argument("--quick", action="store_true", help="two families, short runs")
    parser.add_argument("--seeds", type=int, default=6, help="problems of each family (6)")
    parser.add_argument("--episodes", type=int, default=64_000, help="answers of a run (64000)")
    parser.add_argument("--rows", type=int, default=512, help="answers of a rollout (512)")
    parser.add_argument(
        "--tune-on", nargs="+", choices=TASKS, default=list(TASKS), help="families (all)"
    )
    parser.add_argument("--workers", type=int, default=2, help="processes at a time (2)")
    options = parser.parse_args()
    budget = replace(Budget(), episodes=options.episodes, rows=options.rows, evaluations=10)
    names, tuned_on, seeds = list(TASKS), options.tune_on, range(options.seeds)
    if options.quick:
        budget, names, seeds = budget.quick(), names[:2], range(2)
        tuned_on = names
    store = RunStore(options.output / "runs.jsonl", versions())
    grid = dict.fromkeys(entries(), LEARNING_RATES)
    tuning = range(TUNING_SEED, TUNING_SEED + 1)
    tuning_jobs = rated_jobs("tune", tuning, entries(), tasks(tuned_on), budget, grid)
    tunings = best_rates(do_jobs(store, tuning_jobs, options.workers))
    rates = {
        name: float(max(means, key=lambda rate: means[rate])) for name, means in tunings.items()
    }
    chosen = {name: (rate,) for name, rate in rates.items()}
    runs = do_jobs(
        store, rated_jobs("train", seeds, entries(), tasks(names), budget, chosen), options.workers
    )
    results = record(
        {"budget": asdict(budget), "tasks": names, "tuned_on": tuned_on, "seeds": len(seeds)}
    )
    results |= {"rates": rates, "tunings": tunings, "figures": differences(runs)}
    write_json(options.output / "results.json", results)
    print(f"\n{told(results)}\n\nwrote {options.output / 'results.json'}")


if __name__ == "__main__":
    main()
