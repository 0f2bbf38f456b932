"""Our RLOO, GRPO and PPO beside TRL's: the same curve, and the same reward in how many seconds?

Same model, prompts, scorer, batch, learning rate and clip; for a seed the same starting weights.
The systems of a task take turns, batch by batch, each in a process of its own. Every finished
system and seed is a line of `runs.jsonl` in the output folder; it is not done again, so an
interrupted run goes on where it stopped, and a second call with more seeds adds them.

    python benchmarks/throughput/install_peers.py trl-group trl-ppo      # once
    python benchmarks/side_by_side/run.py --output runs/side-by-side
    python benchmarks/side_by_side/run.py --quick --output runs/side-by-side-quick
    python benchmarks/side_by_side/run.py --tasks emails --seeds 5 --output runs/side-by-side
"""

from __future__ import annotations

import argparse
import sys
from contextlib import ExitStack
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from benchmarks.common import record
from benchmarks.driver import Worker
from benchmarks.side_by_side.equivalence import Run, compare, seconds
from benchmarks.side_by_side.figures import draw, markdown
from benchmarks.side_by_side.settings import (
    COMPARISONS,
    MARGIN,
    QUICK,
    SYSTEMS,
    TASKS,
    Task,
    systems_of,
)
from benchmarks.side_by_side.store import Store
from llm_gym.files.atomic import write_json

RUNS = "runs.jsonl"


def parse(arguments: list[str] | None = None) -> tuple[dict[str, Task], list[str], Path]:
    """Tasks, systems to train and output folder from the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--output", type=Path, required=True, metavar="DIR")
    parser.add_argument("--quick", action="store_true", help="3 batches, 2 seeds")
    parser.add_argument("--tasks", nargs="+", choices=TASKS, default=list(TASKS))
    parser.add_argument("--systems", nargs="+", choices=SYSTEMS, default=list(SYSTEMS))
    parser.add_argument("--seeds", type=int, help="of each task (small 10, others 3)")
    parser.add_argument("--batches", type=int, help="of each run")
    parser.add_argument(
        "--only-figures", action="store_true", help="train nothing, compare what is done"
    )
    options = parser.parse_args(arguments)
    changes = {}
    for name, least in (("seeds", 2), ("batches", 3)):
        value = getattr(options, name)
        if value is not None and value < least:
            parser.error(f"--{name} {value} must be at least {least}")
        if value is not None:
            changes[name] = value
    tasks = QUICK if options.quick else TASKS
    systems = [] if options.only_figures else options.systems
    return {key: replace(tasks[key], **changes) for key in options.tasks}, systems, options.output


def train(task: Task, seed: int, systems: list[str], store: Store, output: Path) -> None:
    """Train, in turns, the systems that are not done for a seed; one that fails ends alone."""
    workloads = {key: task.of_seed(seed, SYSTEMS[key]) for key in systems}
    missing = [
        key
        for key in systems
        if not SYSTEMS[key].missing
        and store.find(key, SYSTEMS[key], workloads[key], task.batches) is None
    ]
    runs: dict[str, Run] = {key: [] for key in missing}
    with ExitStack() as stack:
        workers: dict[str, Worker] = {}
        for key in missing:
            workload = workloads[key]
            log = output / "logs" / f"{workload.task}-{workload.width}-{key}-{seed}.log"
            try:
                workers[key] = Worker(SYSTEMS[key], workload, threads=1, log=log, seed=seed)
            except RuntimeError as error:
                print(error, flush=True)
                continue
            stack.callback(workers[key].close)
        for _ in range(task.batches):
            for key in list(workers):
                try:
                    runs[key].append(workers[key].run("train"))
                except RuntimeError as error:
                    print(error, flush=True)
                    del workers[key]
        for key in workers:
            store.add(key, SYSTEMS[key], workloads[key], runs[key])
            print(f"{task.label}, seed {seed}, {key}: {runs[key][-1]['reward']:.3f}", flush=True)


def finished(tasks: dict[str, Task], store: Store) -> dict[str, dict[str, dict[int, Run]]]:
    """By task, system and seed, the runs that are done."""
    runs: dict[str, dict[str, dict[int, Run]]] = {}
    for name, task in tasks.items():
        for key in systems_of(name):
            for seed in range(task.seeds):
                entry = SYSTEMS[key]
                run = store.find(key, entry, task.of_seed(seed, entry), task.batches)
                if run is not None:
                    runs.setdefault(name, {}).setdefault(key, {})[seed] = run
    return runs


def comparisons(runs: dict[str, dict[str, dict[int, Run]]]) -> list[dict[str, Any]]:
    """Figures of every comparison of which both sides have at least two seeds in common."""
    results = []
    for task, ours, theirs, same in COMPARISONS:
        if task not in runs:
            continue
        left, right = (runs.get(task, {}).get(key, {}) for key in (ours, theirs))
        seeds = sorted(set(left) & set(right))
        head = {"task": task, "ours": ours, "theirs": theirs, "same": same}
        if len(seeds) < 2:
            results.append({**head, "status": "not measured"})
            continue
        figures = compare([left[s] for s in seeds], [right[s] for s in seeds], MARGIN)
        results.append({**head, "status": "measured", **figures})
    return results


def main() -> None:
    """Trains what is missing, then write `results.json`, `table.md` and `side_by_side.png`."""
    tasks, systems, output = parse()
    store = Store(output / RUNS)
    for name, task in tasks.items():
        chosen = [key for key in systems_of(name) if key in systems]
        for key in chosen:
            if SYSTEMS[key].missing:
                print(f"{SYSTEMS[key].label}: {SYSTEMS[key].missing}")
        for seed in range(task.seeds):
            train(task, seed, chosen, store, output)
    runs = finished(tasks, store)
    results = record({"tasks": {key: asdict(task) for key, task in tasks.items()}})
    results["margin"] = MARGIN
    results["comparisons"] = comparisons(runs)
    results["curves"] = {
        task: {
            key: {
                "rewards": [[batch["reward"] for batch in run] for run in by_seed.values()],
                "seconds": [seconds(run).tolist() for run in by_seed.values()],
            }
            for key, by_seed in by_system.items()
        }
        for task, by_system in runs.items()
    }
    write_json(output / "results.json", results)
    table = markdown(results)
    (output / "table.md").write_text(table, encoding="utf-8")
    draw(results, output / "side_by_side.png")
    print(table)
    print(f"wrote {output / 'results.json'}, table.md and side_by_side.png")


if __name__ == "__main__":
    main()
