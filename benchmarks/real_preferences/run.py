"""Does a reward model learn real people's ratings, and how does it compare with words and people?

The task of Danescu-Niculescu-Mizil et al. 2013 (arXiv:1306.6078): requests that people rated for
politeness; the top quarter by score against the bottom quarter, ten-fold; and the rank correlation
with the mean rating on all requests. Our reward model, linear models of words and people are held
against the same texts in one run. Any file of JSON lines with `text`, `ratings` (numbers) and
`score` (a number) will do.

Every model of every fold is a line of `runs.jsonl` in the output folder as soon as it is done,
and is not trained again; so an interrupted run goes on where it stopped, and a full one where a
quick one did.

    python benchmarks/real_preferences/run.py --data FILE --output runs/real --quick
    python benchmarks/real_preferences/run.py --data FILE --output runs/real
    python benchmarks/real_preferences/run.py --data FILE --output runs/large --model NAME
"""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import numpy as np

from benchmarks.common import record, whole_lines, write_json
from benchmarks.real_preferences import summary, systems, tables
from benchmarks.real_preferences.data import Rated, folds, read
from benchmarks.real_preferences.settings import Settings

RUNS = "runs.jsonl"


def parse(arguments: list[str] | None = None) -> tuple[Settings, Path, Path]:
    """Settings, data file and output folder from the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, required=True, metavar="FILE", help="JSON lines")
    parser.add_argument("--output", type=Path, required=True, metavar="DIR")
    parser.add_argument(
        "--quick", action="store_true", help="one reward model a fold instead of several, 3 minutes"
    )
    parser.add_argument(
        "--model",
        default="",
        metavar="NAME_OR_DIR",
        help="checkpoint to train further, instead of a small backbone from scratch",
    )
    parser.add_argument("--device", default="cpu", help="where to train --model (cpu)")
    given = parser.parse_args(arguments)
    settings = Settings()
    if given.model:
        settings = settings.starting_from(given.model, given.device)
    return settings.quick() if given.quick else settings, given.data, given.output


class Log:
    """What is done, one JSON line a run, written as soon as it is done.

    Args:
        path: The file; may be there already.
        conditions: JSON-able; lines of a run under others do not count.
    """

    def __init__(self, path: Path, conditions: dict[str, Any]) -> None:
        self.path = path
        self.conditions = conditions
        path.parent.mkdir(parents=True, exist_ok=True)
        self.done = {
            (line["fold"], line["run"]): line["found"]
            for line in whole_lines(path)
            if line["conditions"] == conditions
        }

    def add(self, fold: int, run: str, found: dict[str, Any]) -> None:
        """Notes a finished run."""
        line = {"fold": fold, "run": run, "conditions": self.conditions, "found": found}
        with open(self.path, "a", encoding="utf-8") as file:
            file.write(json.dumps(line, allow_nan=False) + "\n")
        self.done[fold, run] = found


def measure(rated: Rated, settings: Settings, output: Path) -> summary.Done:
    """What `systems.measure` found, by fold and run; trains what is not done yet."""
    log = Log(output / RUNS, {"data": rated.sha256, **settings.conditions()})
    fold_of = folds(rated.texts, settings.folds, settings.seed)
    wanted = [(fold, run) for fold in range(settings.folds) for run in systems.runs(settings)]
    for place, (number, run) in enumerate(wanted, start=1):
        if (number, run) in log.done:
            continue
        tested = fold_of == number
        fold = systems.Fold(np.flatnonzero(~tested), np.flatnonzero(tested))
        log.add(number, run, systems.measure(rated, fold, settings, run))
        seconds = sum(log.done[number, run]["cpu_seconds"].values())
        print(
            f"{place}/{len(wanted)}: fold {number + 1}, {run}: {seconds:.1f} CPU s",
            file=sys.stderr,
        )
    return {key: log.done[key] for key in wanted}


def main(arguments: list[str] | None = None) -> None:
    """Measure, print the table, write `results.json` and the picture."""
    settings, data, output = parse(arguments)
    try:
        rated = read(data)
    except (ValueError, FileNotFoundError) as error:
        raise SystemExit(str(error)) from error
    import torch
    from transformers.utils import logging

    systems.require_sklearn()
    from benchmarks.real_preferences import figures

    if not settings.checkpoint:
        torch.set_num_threads(1)  # so small a model gains nothing from more
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    results = record(asdict(settings))
    results["versions"]["scikit-learn"] = version("scikit-learn")
    done = measure(rated, settings, output)
    fold_of = folds(rated.texts, settings.folds, settings.seed)
    predictions = summary.gather(fold_of, done)
    results |= summary.summarise(rated, predictions)
    results |= {
        "data": {"file": data.name, "sha256": rated.sha256, "texts": len(rated.texts)},
        "parameters": done[0, "reward model 0"]["parameters"],
        "cpu_seconds": summary.cpu_seconds(done),
    }
    write_json(output / "results.json", results)
    picture = figures.draw(rated, predictions, results, output / "real_preferences.png")
    tables.print_tables(results)
    print(f"wrote results.json, {picture.name} and {RUNS} to {output}")


if __name__ == "__main__":
    main()
