"""Algorithms side by side, held against an optimum that is known exactly.

Every algorithm learns on the five families of `llm_gym/KnownOptimum-v0`, where J*, the optimal
policy and the exact gradient are numbers. Reported are J/J*, the divergence from the optimum
against samples and CPU seconds, and bias and variance of the gradient estimators. On tasks of text
(polite emails, spelling backwards, text of your own) the optimum is not known: held-out scores from
0 to 1 before and after, KL to the reference, tokens and CPU seconds. On the autopilot, where there
are no tokens, stock algorithms of the same families learn to fly. A run that was interrupted goes
on with the same command.

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
from dataclasses import asdict
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from benchmarks.algorithms.flight.plan import FlightPlan, plan_flights
from benchmarks.algorithms.flight.settings import FLIGHT, FLIGHT_ENTRIES
from benchmarks.algorithms.jobs import do_jobs
from benchmarks.algorithms.known_optimum import tuning as known_tuning
from benchmarks.algorithms.known_optimum.plan import KnownPlan, plan_known
from benchmarks.algorithms.known_optimum.settings import KNOWN, TASKS
from benchmarks.algorithms.settings import ENTRIES, fingerprint
from benchmarks.algorithms.store import OtherRunsError, RunStore
from benchmarks.algorithms.text import tuning as text_tuning
from benchmarks.algorithms.text.plan import TextPlan, make_models, plan_text
from benchmarks.algorithms.text.settings import TEXT_ENTRIES, TEXT_TASKS
from benchmarks.common import record
from llm_gym.files.atomic import write_json
from llm_gym.files.provenance import versions

KINDS = (KNOWN, *TEXT_TASKS, FLIGHT)
"""What `--only` takes."""

TUNED = "tuning.json"


def parse(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """The command line; `kinds` are the kinds of tasks that are run."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    algorithms = {**ENTRIES, **TEXT_ENTRIES, **FLIGHT_ENTRIES}
    add("--output", type=Path, required=True, metavar="DIR")
    add("--quick", action="store_true", help="ten minutes on two cores")
    add("--only", nargs="+", choices=KINDS, metavar="KIND", help=f"of tasks: {', '.join(KINDS)}")
    add("--tasks", nargs="*", choices=TASKS, metavar="TASK", help=f"families of {KNOWN} alone")
    add("--algorithms", nargs="*", choices=algorithms, metavar="NAME")
    add("--data", type=_file, metavar="FILE", help="text for the task real-text")
    add("--tokens", type=_count, help="of a run on text (each task's own)")
    add("--steps", type=_count, help="flown in a run (294912, with --quick 24576)")
    add("--seeds", type=_count, help="runs (10; with --quick 2, on text and in flight 1)")
    add("--episodes", type=_count, help="of a run (128000, or 12800 with --quick)")
    add("--workers", type=_count, default=2, help="processes at a time (2)")
    add("--tune", action="store_true", help="choose learning rates, train nothing")
    add("--report", action="store_true", help="on runs that are there, run none")
    options = parser.parse_args(arguments)
    only = options.only or []
    if options.tasks and only not in ([], [KNOWN]):
        parser.error(f"--tasks is for {KNOWN} alone, not for --only {' '.join(only)}")
    if options.tune and FLIGHT in only:
        parser.error(f"--tune is for {KNOWN} and tasks of text, not for --only {FLIGHT}")
    options.kinds = only or ([KNOWN] if options.tune or options.tasks else list(KINDS))
    return options


def _count(text: str) -> int:
    count = int(text)
    if count < 1:
        raise argparse.ArgumentTypeError(f"{text} must be at least 1")
    return count


def _file(text: str) -> Path:
    if not Path(text).is_file():
        raise argparse.ArgumentTypeError(f"{text}: there is no such file")
    return Path(text)


def main(arguments: Sequence[str] | None = None) -> None:
    """Train, measure, judge, draw; writes `results.json`, `results.md` and pictures."""
    options = parse(arguments)
    from benchmarks.algorithms.intervals import require_rliable

    try:
        require_rliable()  # before hours of training, not after
        options.output.mkdir(parents=True, exist_ok=True)
        known, text, flights = plan_known(options), plan_text(options), plan_flights(options)
        cannot_run = [*known.cannot_run, *text.cannot_run, *flights.cannot_run]
        cannot_run = list(dict.fromkeys(cannot_run))  # each reason once
        for reason in cannot_run:
            print(f"not run: {reason}", flush=True)
        if not known.entries and not text.entries and not flights.entries:
            raise SystemExit("nothing is left to run")
        store = RunStore(options.output / "runs.jsonl", versions())
        if options.tune:
            return tune(options, known, text, store)
        known = known_tuning.tuned(known, options.output / TUNED)
        text = text_tuning.tuned_text(text, options.output / TUNED)
        compare(options, known, text, flights, cannot_run, store)
    except (OtherRunsError, ImportError) as error:
        raise SystemExit(str(error)) from error


def tune(options: argparse.Namespace, known: KnownPlan, text: TextPlan, store: RunStore) -> None:
    """Tries every learning rate for every algorithm and writes the best of each."""
    path = options.output / TUNED
    tunings = _read_tunings(path) or {}
    if known.entries:
        runs = do_jobs(store, known_tuning.tuning_jobs(known), options.workers)
        tunings |= known_tuning.choose_rates(runs, known)
        for name, gains in tunings["mean_gain"].items():
            print(f"{name:>20}: " + ", ".join(f"{rate} {gain:.3f}" for rate, gain in gains.items()))
    if text.entries:
        text = make_models(text, options.workers)
        runs = do_jobs(store, text_tuning.text_tuning_jobs(text), options.workers)
        chosen = text_tuning.choose_rates(runs, text)
        tunings["text"] = text_tuning.merged(tunings.get("text", {}), chosen)
    write_json(path, tunings)
    print(f"wrote {path}")


def compare(
    options: argparse.Namespace,
    known: KnownPlan,
    text: TextPlan,
    flights: FlightPlan,
    cannot_run: list[str],
    store: RunStore,
) -> None:
    """Does what is not done yet and reports on everything that was planned.

    Args:
        options: The command line, see `parse`.
        known: What runs where the optimum is known.
        text: What runs on text; its models are made first.
        flights: Who learns to fly.
        cannot_run: Reasons why something does not run, for the page.
        store: Runs that are there.
    """
    from benchmarks.algorithms.report import of_all_runs, page

    text = make_models(text, options.workers)
    plans = (known, text, flights)
    results = record({"budget": asdict(known.budget), "fingerprint": fingerprint(known.budget)})
    jobs = [job for plan in plans for job in plan.jobs()]
    runs = do_jobs(store, jobs, options.workers, options.report)
    for plan in plans:
        results |= plan.summarise(runs)
    results |= of_all_runs(runs)
    results["crashed"] += text.crashed
    results["cannot_run"] = cannot_run
    results["tuning"] = _read_tunings(options.output / TUNED)
    written = [options.output / "results.json"]
    write_json(written[0], results)
    page_text = page(results)
    (options.output / "results.md").write_text(page_text, encoding="utf-8")
    done = [run for run in runs if run["status"] == "done"]
    for plan in plans:
        written += plan.draw(results, done, options.output)
    print("\n" + page_text)
    if len(results["commits"]) > 1:
        print(f"note: the runs come from {len(results['commits'])} commits")
    print(f"{len(runs)} runs, {results['cpu_seconds']:.0f} s of CPU")
    print("wrote " + ", ".join(str(path) for path in written))


def _read_tunings(path: Path) -> dict[str, Any] | None:
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else None


if __name__ == "__main__":
    main()
