"""What is a critic worth? Its errors against the exact V, and answers against RLOO's.

First, by sums over all answers and without any sampling: how many answers a policy gradient with a
critic needs for as little noise as RLOO(16) has, if the critic errs by so many standard deviations
of the returns. Then by learning: how many answers RLOO(16), PPO, and PPO whose critic was trained
before the policy need to J/J* = 0.99. The claim that is judged: with a critic that was pre-trained,
PPO needs at most half of RLOO(16)'s answers where rewards are sparse or lie far away, and loses
nothing elsewhere.

    python benchmarks/critic/run.py --quick --output runs/critic-quick
    python benchmarks/critic/run.py --output runs/critic

A run that was interrupted goes on with the same command.
"""

from __future__ import annotations

import argparse
import math
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from benchmarks.algorithms.jobs import do_jobs
from benchmarks.algorithms.known_optimum.plan import rated_jobs
from benchmarks.algorithms.known_optimum.settings import TASKS, Budget
from benchmarks.algorithms.known_optimum.training import make_problem
from benchmarks.algorithms.known_optimum.tuning import TUNING_SEED
from benchmarks.algorithms.settings import ENTRIES, Entry
from benchmarks.algorithms.store import RunStore
from benchmarks.common import columns, mean_with_interval, record, told
from benchmarks.critic import exact
from benchmarks.critic.picture import draw
from llm_gym.files.atomic import write_json
from llm_gym.files.provenance import versions

ROWS, WARMUP = 128, 20
ENOUGH = 0.99
LEARNING_RATES = (0.03, 0.1, 0.3)
"""Tried for every entry on the hard families; of 0.01 nothing came in shorter runs."""
RLOO, WARM = "rloo", "ppo_warm"
HARD = ("sparse", "unique")
"""The families that the claim is about."""
PROBLEMS = 20
"""Of each family, in the part that samples nothing."""


def entries() -> dict[str, Entry]:
    """RLOO, with one step a rollout and with PPO's; PPO on single answers, and with a critic first.

    Rates fall linearly to zero over a run, and the price of a nat from five times its value in the
    first half, for all alike.
    """
    ppo, rloo = replace(ENTRIES["ppo"], group_size=1), ENTRIES["rloo"]
    passes = {name: ppo.arguments[name] for name in ("n_epochs", "batch_size")}
    often = {**rloo.arguments, **passes, "loss": "clipped"}
    warm = {**ppo.arguments, "critic_warmup": WARMUP}
    return {
        RLOO: rloo,
        "rloo_epochs": replace(rloo, label="RLOO(16), PPO's epochs and clip", arguments=often),
        "ppo": ppo,
        WARM: replace(ppo, label="PPO, critic first", arguments=warm),
    }


# ------------------------------------------------------------------ without sampling


def worth(problems: int) -> dict[str, Any]:
    """The table of a critic's errors, by family."""
    return {
        family: exact.summary(
            [
                exact.measure({"problem": make_problem(task, seed), "seed": seed})
                for seed in range(problems)
            ]
        )
        for family, task in TASKS.items()
    }


def table_of_errors(found: dict[str, Any], lam: float, share: float) -> str:
    """Answers needed, RLOO's being 1: a row for each error, a column for each family."""
    names = [f"error {error:g}" for error in exact.ERRORS] + ["constant", "zero"]
    rows = [["lambda " + f"{lam:g}", *found]]
    for name in names:
        cells = [found[family][f"{share:g}"][f"{name}, lambda {lam:g}"] for family in found]
        rows.append([name, *(_answers_and_bias(cell) for cell in cells)])
    return columns(rows)


def _answers_and_bias(cell: dict[str, Any]) -> str:
    bias = cell["bias"]["mean"]
    return f"{cell['answers']['mean']:.2f}" + (f" (bias {bias:.2f})" if bias >= 0.005 else "")


# ------------------------------------------------------------------ by learning


def answers_needed(run: dict[str, Any]) -> float:
    """Answers until J/J* is high enough for the first time, by linear interpolation; or inf."""
    before = None
    for point in run["points"]:
        if point["j_over_jstar"] >= ENOUGH:
            if before is None:
                return float(point["episodes"])
            way = (ENOUGH - before["j_over_jstar"]) / (
                point["j_over_jstar"] - before["j_over_jstar"]
            )
            return float(before["episodes"] + way * (point["episodes"] - before["episodes"]))
        before = point
    return math.inf


def best_rates(runs: list[dict[str, Any]], budget: Budget) -> dict[str, float]:
    """The rate of each entry that needs the fewest answers, as a geometric mean over problems.

    A run that does not arrive counts as twice its length.
    """
    logs: dict[str, dict[float, list[float]]] = {}
    for run in runs:
        if run["status"] == "done":
            needed = min(answers_needed(run), 2.0 * budget.episodes)
            by_rate = logs.setdefault(run["algorithm"], {})
            by_rate.setdefault(run["learning_rate"], []).append(math.log(max(needed, 1.0)))
    return {
        name: min(by_rate, key=lambda rate: float(np.mean(by_rate[rate])))
        for name, by_rate in logs.items()
    }


def shares(runs: list[dict[str, Any]], name: str, family: str, spared: int = 0) -> list[float]:
    """Answers of an entry over RLOO's on the same problems, those where both arrive.

    Args:
        runs: All runs.
        name: The entry.
        family: The family.
        spared: Answers of the entry that are not counted.
    """
    needed = {
        (run["algorithm"], run["seed"]): answers_needed(run)
        for run in runs
        if run["status"] == "done" and run["task"] == family
    }
    seeds = sorted(seed for algorithm, seed in needed if algorithm == RLOO)
    pairs = [(needed.get((name, s), math.inf), needed[RLOO, s]) for s in seeds]
    return [
        max(mine - spared, 0.0) / theirs
        for mine, theirs in pairs
        if math.isfinite(mine) and math.isfinite(theirs)
    ]


def learnt(runs: list[dict[str, Any]], families: list[str]) -> dict[str, Any]:
    """By family and entry: runs that arrived, answers over RLOO's, J/J* at the end."""
    found: dict[str, Any] = {}
    for family in families:
        for name in entries():
            mine = [
                r
                for r in runs
                if r["status"] == "done" and (r["task"], r["algorithm"]) == (family, name)
            ]
            spared = WARMUP * ROWS if name == WARM else 0
            found.setdefault(family, {})[name] = {
                "arrived": sum(math.isfinite(answers_needed(run)) for run in mine),
                "runs": len(mine),
                "end": mean_with_interval([run["end"]["j_over_jstar"] for run in mine]),
                "share": _mean(shares(runs, name, family)),
                "share_without_warmup": _mean(shares(runs, name, family, spared)),
            }
    return found


def _mean(values: list[float]) -> dict[str, Any] | None:
    return mean_with_interval(values) if values else None


def verdict(found: dict[str, Any], key: str) -> str:
    """What the intervals say of the claim: holds, refuted or undecided.

    Args:
        found: Of `learnt`.
        key: Which count of answers.
    """
    said = []
    for family in found:
        share, limit = found[family][WARM][key], 0.5 if family in HARD else 1.0
        if share is None or share["low"] is None:
            said.append("undecided")
        elif share["low"] > limit:
            return "refuted"
        else:
            said.append("holds" if share["high"] <= limit else "undecided")
    return "undecided" if "undecided" in said else "holds"


def table_of_learning(found: dict[str, Any]) -> str:
    """A row for each family and entry."""
    labels = {name: entry.label for name, entry in entries().items()}
    rows = [["", "", "arrived", "answers / RLOO's", "without the critic's", "J/J* at the end"]]
    for family, of_family in found.items():
        for name, figures in of_family.items():
            rows.append(
                [
                    family,
                    labels[name],
                    f"{figures['arrived']} of {figures['runs']}",
                    *(
                        "" if figures[key] is None else told(figures[key], 2)
                        for key in ("share", "share_without_warmup")
                    ),
                    told(figures["end"], 4),
                ]
            )
    return columns(rows)


def main() -> None:
    """Computes, tunes, trains, prints the tables, writes `results.json`."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--output", type=Path, required=True, metavar="DIR")
    parser.add_argument("--quick", action="store_true", help="two problems, short runs")
    parser.add_argument("--exact-only", action="store_true", help="what samples nothing")
    parser.add_argument("--seeds", type=int, default=5, help="problems of each family (5)")
    parser.add_argument("--episodes", type=int, default=38_400, help="answers of a run (38400)")
    parser.add_argument("--workers", type=int, default=2, help="processes at a time (2)")
    options = parser.parse_args()
    errors = worth(2 if options.quick else PROBLEMS)
    for share in exact.SHARES:
        place = "at the reference" if share == 0 else f"{share:g} of the way to the optimum"
        for lam in exact.LAMBDAS:
            print(f"answers needed, RLOO({exact.GROUP})'s being 1, {place}")
            print(table_of_errors(errors, lam, share) + "\n")
    results = record({"rows": ROWS, "warmup": WARMUP, "enough": ENOUGH}) | {"errors": errors}
    if not options.exact_only:
        budget = replace(Budget(), rows=ROWS, episodes=options.episodes, evaluations=100)
        families, seeds = list(TASKS), range(options.seeds)
        rates: dict[str, Any] = dict.fromkeys(entries(), LEARNING_RATES)
        if options.quick:
            budget, families = replace(budget, episodes=1_024, evaluations=4), list(HARD)
            rates, seeds = dict.fromkeys(entries(), (0.1,)), range(2)
        store = RunStore(options.output / "runs.jsonl", versions())
        tuning = range(TUNING_SEED, TUNING_SEED + 1)
        hard = {family: TASKS[family] for family in HARD}
        todo = rated_jobs("tune", tuning, entries(), hard, budget, rates)
        tried = do_jobs(store, todo, options.workers)
        best = best_rates(tried, budget)
        chosen = {name: (rate,) for name, rate in best.items()}
        tasks = {family: TASKS[family] for family in families}
        todo = rated_jobs("train", seeds, entries(), tasks, budget, chosen)
        runs = do_jobs(store, todo, options.workers)
        found = learnt(runs, families)
        verdicts = {key: verdict(found, key) for key in ("share", "share_without_warmup")}
        print(f"{table_of_learning(found)}\n\nlearning rates: {best}")
        print(f"half of RLOO's answers, the critic's own counted: {verdicts['share']}")
        print(f"those of a critic that was there already: {verdicts['share_without_warmup']}")
        results |= {"learning": found, "rates": best, "verdicts": verdicts}
    write_json(options.output / "results.json", results)
    picture = draw(errors, options.output / "errors.png")
    print(f"\nwrote {options.output / 'results.json'} and {picture}")


if __name__ == "__main__":
    main()
