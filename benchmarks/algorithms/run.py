"""Algorithms side by side, held against an optimum that is known exactly.

Every algorithm learns on the five families of `llm_gym/KnownOptimum-v0`, where J*, the optimal
policy and the exact gradient are numbers. Reported are J/J*, the divergence from the optimum
against samples and CPU seconds, bias and variance of the gradient estimators, and verdicts on
published claims. On tasks of text (polite emails, spelling backwards, text of your own) the optimum
is not known: held-out scores from 0 to 1 before and after, KL to the reference, tokens and CPU
seconds. On the autopilot, where there are no tokens, stock algorithms of the same families learn to
fly. A run that was interrupted goes on with the same command.

    python benchmarks/algorithms/run.py --quick --output runs/algorithms-quick
    python benchmarks/algorithms/run.py --output runs/algorithms --data input.txt
    python benchmarks/algorithms/run.py --only polite-email --output runs/polite
    python benchmarks/algorithms/run.py --only autopilot --output runs/flights
    python benchmarks/algorithms/run.py --tune --output runs/algorithms
    python benchmarks/algorithms/run.py --tune --only polite-email reasoning --output runs/text

`--tune` tries the same learning rates for every algorithm, on problems of their own or, on text,
on prompts of training, and writes `tuning.json`; runs with the same `--output` use it. Without
`--only` it is for the known optimum. `--report` writes tables and pictures of the runs that are
there.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from benchmarks.algorithms.flight_run import FlightPlan, flight_jobs, plan_flights
from benchmarks.algorithms.flight_settings import FLIGHT, FLIGHT_ENTRIES
from benchmarks.algorithms.jobs import run_jobs
from benchmarks.algorithms.settings import (
    ENTRIES,
    SAME_ON_TABLES,
    TASKS,
    Budget,
    Entry,
    Task,
    fingerprint,
)
from benchmarks.algorithms.store import OtherRunsError, RunStore
from benchmarks.algorithms.text_run import (
    KINDS,
    KNOWN,
    TextPlan,
    make_models,
    plan_text,
    text_jobs,
)
from benchmarks.algorithms.text_settings import QUICK_ALGORITHMS, TEXT_ENTRIES
from benchmarks.algorithms.text_tuning import choose_rates, merged, text_tuning_jobs, tuned_text
from benchmarks.common import commit, record, versions, write_json

TUNED = "tuning.json"


def parse(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """The command line; `budget` is what was asked for."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--output", type=Path, required=True, metavar="DIR")
    parser.add_argument("--quick", action="store_true", help="ten minutes on two cores")
    parser.add_argument(
        "--only", nargs="+", choices=KINDS, metavar="KIND", help=f"of tasks: {', '.join(KINDS)}"
    )
    parser.add_argument(
        "--tasks", nargs="*", choices=TASKS, metavar="TASK", help="families of known-optimum alone"
    )
    every = {**ENTRIES, **TEXT_ENTRIES, **FLIGHT_ENTRIES}
    parser.add_argument("--algorithms", nargs="*", choices=every, metavar="NAME")
    parser.add_argument("--data", type=Path, metavar="FILE", help="text for the task real-text")
    parser.add_argument("--tokens", type=int, help="of a run on text (each task's own)")
    parser.add_argument("--steps", type=int, help="flown in a run (294912, with --quick 24576)")
    parser.add_argument(
        "--seeds", type=int, help="runs (10; with --quick 2, on text and in flight 1)"
    )
    parser.add_argument("--episodes", type=int, help="of a run (128000, or 12800 with --quick)")
    parser.add_argument("--workers", type=int, default=2, help="processes at a time (2)")
    parser.add_argument("--tune", action="store_true", help="choose learning rates, train nothing")
    parser.add_argument("--report", action="store_true", help="on runs that are there, run none")
    given = parser.parse_args(arguments)
    budget = Budget().quick() if given.quick else Budget()
    for name in ("seeds", "episodes"):
        if getattr(given, name) is not None:
            budget = replace(budget, **{name: getattr(given, name)})
    for name, value in (
        ("seeds", budget.seeds),
        ("episodes", budget.episodes),
        ("workers", given.workers),
        ("tokens", given.tokens),
        ("steps", given.steps),
    ):
        if value is not None and value < 1:
            parser.error(f"--{name} {value} must be at least 1")
    if given.data is not None and not given.data.is_file():
        parser.error(f"--data {given.data}: there is no such file")
    only = given.only or []
    if given.tasks and only not in ([], [KNOWN]):
        parser.error(f"--tasks is for {KNOWN} alone, not for --only {' '.join(only)}")
    if given.tune and FLIGHT in only:
        parser.error(f"--tune is for {KNOWN} and tasks of text, not for --only {FLIGHT}")
    narrow = given.tune or given.tasks
    given.kinds = only or ([KNOWN] if narrow else list(KINDS))
    given.tasks = (given.tasks or list(TASKS)) if KNOWN in given.kinds else []
    given.chosen = given.algorithms or []
    on_text = given.chosen or (QUICK_ALGORITHMS if given.quick else TEXT_ENTRIES)
    given.text_algorithms = [name for name in on_text if name in TEXT_ENTRIES]
    given.flight_algorithms = [n for n in given.chosen or FLIGHT_ENTRIES if n in FLIGHT_ENTRIES]
    everybody = [name for name in ENTRIES if name not in SAME_ON_TABLES]
    given.algorithms = [name for name in given.chosen or everybody if name in ENTRIES]
    given.budget = budget
    return given


def tuned(entries: dict[str, Entry], output: Path) -> dict[str, Entry]:
    """The entries with the learning rates of `tuning.json`, where there is one."""
    path = output / TUNED
    if not path.exists():
        return entries
    rates = json.loads(path.read_text(encoding="utf-8")).get("chosen", {})
    return {
        name: replace(entry, learning_rate=rates.get(name, entry.learning_rate))
        for name, entry in entries.items()
    }


def able(entries: dict[str, Entry], budget: Budget) -> tuple[dict[str, Entry], list[str]]:
    """The entries that can run, and why the others cannot."""
    from benchmarks.algorithms.training import why_not

    reasons = {name: why_not(entry, budget) for name, entry in entries.items()}
    good = {name: entry for name, entry in entries.items() if reasons[name] is None}
    return good, [reason for reason in reasons.values() if reason is not None]


def do(
    store: RunStore, jobs: list[dict[str, Any]], workers: int, report: bool = False
) -> list[dict[str, Any]]:
    """Does the jobs that are not done yet, unless only a report is wanted, and returns all runs.

    Raises:
        OtherRunsError: One was done with other settings.
    """
    from benchmarks.algorithms.works import dispatch

    waiting = store.wanted(jobs)
    if len(waiting) < len(jobs):
        print(f"{len(jobs) - len(waiting)} of {len(jobs)} runs are there already")
    if report:
        return store.of(jobs)
    now = commit()["hash"]
    for index, (job, result) in enumerate(run_jobs(dispatch, waiting, workers), 1):
        line = {name: value for name, value in job.items() if isinstance(value, (str, int, float))}
        line["task"] = line.pop("task_name")
        try:
            store.add({**line, "commit": now, **result})
        except ValueError as error:  # NaN and infinity are no JSON
            bad = {"status": "crashed", "error": f"a figure is not finite: {error}"}
            store.add({**line, "commit": now, **bad, "traceback": ""})
        print(f"[{index}/{len(waiting)}] {job['key']}: {_said(store.runs[-1])}", flush=True)
    return store.of(jobs)


def _said(run: dict[str, Any]) -> str:
    if run["status"] != "done":
        return f"CRASHED: {run['error']}"
    end, figures = run.get("end", {}), ""
    if run["kind"] in ("text", "text-tune"):
        kl = f"KL {end['kl_to_reference']:.2f}"
        figures = f"score {run['start']['score']:.3f} -> {end['score']:.3f}, {kl}, "
    elif run["kind"] == "flight":
        figures = f"return {run['start']['return']:.1f} -> {end['return']:.1f}, "
    elif end:
        figures = f"J/J* {end['j_over_jstar']:.3f}, KL {end['kl_to_optimum']:.3f}, "
    return f"{figures}{run['total_cpu_seconds']:.1f} s of CPU"


def tune(
    given: argparse.Namespace, entries: dict[str, Entry], text: TextPlan, store: RunStore
) -> None:
    """Tries every learning rate for every algorithm and writes the best of each."""
    path = given.output / TUNED
    found = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    if entries:
        found |= _tune_known(given, entries, store)
    if text.entries:
        text = make_models(text, given.workers)
        runs = do(store, text_tuning_jobs(text), given.workers)
        found["text"] = merged(found.get("text", {}), choose_rates(runs, text))
    write_json(path, found)
    print(f"wrote {path}")


def _tune_known(
    given: argparse.Namespace, entries: dict[str, Entry], store: RunStore
) -> dict[str, Any]:
    from benchmarks.algorithms.works import tuning_jobs

    tasks = {name: TASKS[name] for name in given.tasks}
    jobs = tuning_jobs(entries, tasks, given.budget)
    runs = [run for run in do(store, jobs, given.workers) if run["status"] == "done"]
    table: dict[str, dict[str, float]] = {}
    for name in entries:
        mine = [run for run in runs if run["algorithm"] == name]
        rates = sorted({run["learning_rate"] for run in mine})
        table[name] = {
            str(rate): _mean([r["end"]["gain"] for r in mine if r["learning_rate"] == rate])
            for rate in rates
        }
        print(f"{name:>20}: " + ", ".join(f"{r} {g:.3f}" for r, g in table[name].items()))
    chosen = {name: float(max(one, key=lambda r: one[r])) for name, one in table.items() if one}
    return {"chosen": chosen, "mean_gain": table, "budget": asdict(given.budget)}


def _mean(values: list[float]) -> float:
    return sum(values) / len(values)


def main(arguments: Sequence[str] | None = None) -> None:
    """Train, measure, judge, draw; writes `results.json`, `results.md` and pictures."""
    given = parse(arguments)
    from benchmarks.algorithms.statistics import require_rliable

    try:
        require_rliable()  # before hours of training, not after
        given.output.mkdir(parents=True, exist_ok=True)
        chosen = {name: ENTRIES[name] for name in given.algorithms} if given.tasks else {}
        entries, cannot = able(chosen, given.budget)
        text = plan_text(given)
        flights = plan_flights(given)
        cannot += [one for one in text.cannot_run + flights.cannot_run if one not in cannot]
        for reason in cannot:
            print(f"not run: {reason}", flush=True)
        if not entries and not text.entries and not flights.entries:
            raise SystemExit("nothing is left to run")
        store = RunStore(given.output / "runs.jsonl", versions())
        if given.tune:
            return tune(given, entries, text, store)
        text = tuned_text(text, given.output / TUNED)
        _compare(given, tuned(entries, given.output), text, flights, cannot, store)
    except (OtherRunsError, ImportError) as error:
        raise SystemExit(str(error)) from error


def _compare(
    given: argparse.Namespace,
    entries: dict[str, Entry],
    text: TextPlan,
    flights: FlightPlan,
    cannot: list[str],
    store: RunStore,
) -> None:
    from benchmarks.algorithms.flight_pictures import draw_flights
    from benchmarks.algorithms.flight_summary import summarise_flights
    from benchmarks.algorithms.pictures import draw
    from benchmarks.algorithms.summary import of_all_runs, summarise
    from benchmarks.algorithms.tables import page
    from benchmarks.algorithms.text_pictures import draw_text
    from benchmarks.algorithms.text_summary import summarise_text
    from benchmarks.algorithms.works import all_jobs

    tasks: dict[str, Task] = {name: TASKS[name] for name in given.tasks}
    budget: Budget = given.budget
    results = record({"budget": asdict(budget), "fingerprint": fingerprint(budget)})
    jobs = all_jobs(entries, tasks, budget) if tasks else []
    text = make_models(text, given.workers)
    jobs += text_jobs(text) + flight_jobs(flights)
    runs = do(store, jobs, given.workers, given.report)
    if tasks:
        others = ("text", "flight")
        known = [run for run in runs if run["kind"] not in others]
        results |= summarise(known, entries, tasks, budget)
    if text.entries:
        results |= summarise_text(runs, text)
    if flights.entries:
        results |= summarise_flights(runs, flights)
    results |= of_all_runs(runs)
    results["crashed"] += text.crashed
    results["cannot_run"] = cannot
    path = given.output / TUNED
    results["tuning"] = json.loads(path.read_text(encoding="utf-8")) if path.exists() else None
    write_json(given.output / "results.json", results)
    page_text = page(results)
    (given.output / "results.md").write_text(page_text, encoding="utf-8")
    done = [run for run in runs if run["status"] == "done"]
    training = [run for run in done if run["kind"] == "train"]
    pictures = draw(results, training, given.output) if training else []
    if results.get("held_out"):
        on_text = [run for run in done if run["kind"] == "text"]
        pictures.append(draw_text(results, on_text, given.output / "held_out.png"))
    if results.get("flights", {}).get("learnt"):
        flown = [run for run in done if run["kind"] == "flight"]
        pictures.append(draw_flights(results, flown, given.output / "flights.png"))
    print("\n" + page_text)
    if len(results["commits"]) > 1:
        print(f"note: the runs come from {len(results['commits'])} commits")
    print(f"{len(runs)} runs, {results['cpu_seconds']:.0f} s of CPU")
    print("wrote " + ", ".join(str(one) for one in (given.output / "results.json", *pictures)))


if __name__ == "__main__":
    main()
