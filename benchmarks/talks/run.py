"""How near do algorithms come to the optimum of a conversation, and what makes them quick?

Small transformers learn games of turns from random weights, and are judged exactly: what they are
worth is computed over all that can be said, and bounded where branches are all but never reached.
Every run is a line in `DIR/runs.jsonl`, so that the same command goes on after an interruption.

    python benchmarks/talks/run.py --output runs/talks
    python benchmarks/talks/run.py --output runs/talks --only guess wordle --seeds 3
    python benchmarks/talks/run.py --output runs/talks-quick --quick
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import torch
from transformers.utils.logging import disable_progress_bar

from benchmarks.algorithms.store import OtherRunsError, RunStore
from benchmarks.claims.claim import Claim, figure_of
from benchmarks.common import columns, of_seeds, record, told
from benchmarks.talks.settings import DISCOUNTS, OPTIMA, Recipe
from benchmarks.talks.training import train
from llm_gym.files.atomic import write_json
from llm_gym.files.provenance import versions

RECIPES = OPTIMA | DISCOUNTS
QUICK_TOKENS = 1_000

CLAIM = {
    "name": "discount per turn: what makes an agent quick",
    "says": "Only a discount below 1 per turn makes an agent take few turns",
    "source": "arXiv 2510.01051, GEM",
    "test": "turns of PPO without a discount, less those with 0.9, of the policies as they sample, "
    "{by}; mean over seeds",
}
TURNS_SAVED = 0.1  # from so much the claim says something
_WITHOUT, _WITH = "PPO, turn_gamma 1", "PPO, turn_gamma 0.9"


def jobs(names: Sequence[str], seeds: Sequence[int], quick: bool) -> list[dict[str, Any]]:
    """All runs, those of one seed side by side."""
    found = []
    for seed in seeds:
        for name in names:
            recipe = RECIPES[name]
            if quick:
                recipe = replace(recipe, tokens=QUICK_TOKENS, rows=32)
            found.append({"key": f"{name}/{seed}", "settings": recipe.as_dict(), "seed": seed})
    return found


def figures_of(store: RunStore, todo: Sequence[dict[str, Any]]) -> dict[str, list[dict[str, Any]]]:
    """Finished runs by their recipe's name."""
    by_name: dict[str, list[dict[str, Any]]] = {}
    for run in store.of(todo):
        if run["status"] == "done":
            by_name.setdefault(run["key"].rpartition("/")[0], []).append(run)
    return by_name


def share(figures: Mapping[str, float], policy: str) -> float:
    """How much of the optimum a policy has at least; in blackjack, of what is not lost.

    J is negative there, so 1 + J is compared: what is left of the stake.
    """
    stake = 1.0 if figures["optimum"] < 0 else 0.0
    return (stake + figures[f"{policy}_low"]) / (stake + figures["optimum"])


def optimum_table(by_name: Mapping[str, list[dict[str, Any]]]) -> str:
    """A row a game: J / J* as sampled and greedily, its least, and how many reach 0.99."""
    rows = [["game", "seeds", "J / J*, sampled", "least", ">= 0.99", "greedy", "least", ">= 0.99",
             "turns, sampled", "best", "CPU s"]]  # fmt: skip
    for name in OPTIMA:
        runs = by_name.get(name, [])
        if not runs or "optimum" not in runs[0]["figures"]:
            continue
        figures, row = [run["figures"] for run in runs], [name, str(len(runs))]
        for policy in ("sampled", "greedy"):
            shares = [share(one, policy) for one in figures]
            row += [told(of_seeds(shares), 4), f"{min(shares):.4f}"]
            row.append(f"{sum(one >= 0.99 for one in shares)} of {len(shares)}")
        row.append(told(of_seeds([one["sampled_turns_high"] for one in figures]), 3))
        rows.append([*row, f"{figures[0]['optimal_turns']:.3f}", _seconds(runs)])
    return columns(rows)


def kuhn_table(runs: Sequence[dict[str, Any]]) -> str:
    """Exploitability after self-play."""
    rows = [["Kuhn poker, exploitability", "seeds", "mean", "most", "<= 0.01", "CPU s"]]
    for key, name in (("exploitability", "mean strategy"), ("exploitability_last", "last policy")):
        values = [run["figures"][key] for run in runs]
        within = f"{sum(value <= 0.01 for value in values)} of {len(values)}"
        mean = told(of_seeds(values), 4)
        rows.append([name, str(len(runs)), mean, f"{max(values):.4f}", within, _seconds(runs)])
    return columns(rows)


def discount_table(by_name: Mapping[str, list[dict[str, Any]]]) -> str:
    """A row an algorithm: turns to the hit, where a hit pays 1 whenever it comes."""
    head = "hit pays 1|seeds|turns, at least|at most|played|greedy|best|return, at least|CPU s"
    rows = [head.split("|")]
    for name in DISCOUNTS:
        if runs := by_name.get(name, []):
            figures = [run["figures"] for run in runs]
            row = [name, str(len(runs))]
            ends = ("sampled_turns_low", "sampled_turns_high", "sampled_turns_played")
            for end in (*ends, "greedy_turns_high"):
                row.append(told(of_seeds([one[end] for one in figures]), 3))
            worth = told(of_seeds([one["sampled_low"] for one in figures]), 4)
            rows.append([*row, f"{figures[0]['optimal_turns']:.3f}", worth, _seconds(runs)])
    return columns(rows)


def _seconds(runs: Sequence[dict[str, Any]]) -> str:
    return f"{sum(run['cpu_seconds'] for run in runs) / len(runs):.0f}"


def verdicts(by_name: Mapping[str, list[dict[str, Any]]]) -> list[str]:
    """What the runs say of the claim, for each game that has some in pairs."""
    games = [name.removeprefix(_WITHOUT) for name in RECIPES if name.startswith(_WITHOUT)]
    found = [verdict(by_name, game) for game in games]
    return [line for line in found if line is not None]


def verdict(by_name: Mapping[str, list[dict[str, Any]]], game: str = "") -> str | None:
    """What the runs say of the claim in one game; None, if there are none in pairs."""
    without, with_discount = (
        {run["seed"]: run["figures"] for run in by_name.get(name + game, [])}
        for name in (_WITHOUT, _WITH)
    )
    seeds = sorted(without.keys() & with_discount.keys())
    if not seeds:
        return None
    by, more, less = "by the bounds that make it least", "sampled_turns_low", "sampled_turns_high"
    if game:  # so much can be said there that bounds lie far apart
        by, more = "in 8,192 games each", "sampled_turns_played"
        less = more
    saved = [without[seed][more] - with_discount[seed][less] for seed in seeds]
    told_of = CLAIM | {"test": CLAIM["test"].format(by=by)}
    claim = Claim(measure=lambda _: figure_of(of_seeds(saved)), at_least=TURNS_SAVED, **told_of)
    found = claim.judge(None)  # type: ignore[arg-type]
    return (
        f"{claim.name}{game} ({claim.source}): {found.verdict}. {claim.test}: "
        f"{found.figure.told()}, {len(seeds)} seeds; it holds from {claim.threshold}"
    )


def parse(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--output", type=Path, required=True, metavar="DIR")
    parser.add_argument("--only", nargs="+", default=list(RECIPES), choices=RECIPES, metavar="NAME")
    parser.add_argument("--seeds", type=int, default=10, help="number of seeds, from --first-seed")
    parser.add_argument("--first-seed", type=int, default=0, help="1000 and more are for tuning")
    parser.add_argument("--quick", action="store_true", help="in seconds; the figures mean nothing")
    return parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None) -> dict[str, list[dict[str, Any]]]:
    """Trains what is not done yet, writes `results.json`, prints the tables."""
    options = parse(arguments)
    torch.set_num_threads(1)
    disable_progress_bar()
    seeds = range(options.first_seed, options.first_seed + options.seeds)
    todo = jobs(options.only, seeds, options.quick)
    try:
        store = RunStore(options.output / "runs.jsonl", versions())
        for job in store.to_do(todo):
            found = train(Recipe(**job["settings"]), job["seed"])
            store.add({**job, **found, "status": "done"})
            print(job["key"], found["figures"], f"{found['cpu_seconds']:.0f} s", flush=True)
    except OtherRunsError as error:
        raise SystemExit(str(error)) from error
    by_name = figures_of(store, todo)
    settings = {"seeds": options.seeds, "first_seed": options.first_seed, "quick": options.quick}
    write_json(options.output / "results.json", record(settings) | {"runs": by_name})
    tables = [optimum_table(by_name), discount_table(by_name)]
    if by_name.get("kuhn"):
        tables.insert(1, kuhn_table(by_name["kuhn"]))
    print("\n\n".join([*tables, *(verdicts(by_name) or ["no runs for the claim in pairs"])]))
    return by_name


if __name__ == "__main__":
    main()
