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
    python benchmarks/real_preferences/run.py --data FILE --output runs/asis --model DIR --head auto
"""

from __future__ import annotations

import argparse
import sys
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import numpy as np

from benchmarks.common import record
from benchmarks.real_preferences import summary, systems, tables
from benchmarks.real_preferences.data import Rated, folds, read
from benchmarks.real_preferences.reader import Reader
from benchmarks.real_preferences.settings import Settings
from benchmarks.run_log import RunLog
from llm_gym.feedback.reward_model.fitting import HEADS
from llm_gym.files.atomic import write_json

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
    parser.add_argument(
        "--head",
        default="finetune",
        choices=HEADS,
        help="leave --model as it is, and choose layers and penalties inside the training folds",
    )
    parser.add_argument("--device", default="cpu", help="where to train --model (cpu)")
    options = parser.parse_args(arguments)
    settings = Settings()
    if options.head != "finetune":
        settings = settings.frozen(
            options.model or "llm_gym/email-sft", options.head, options.device
        )
    elif options.model:
        settings = settings.starting_from(options.model, options.device)
    return settings.quick() if options.quick else settings, options.data, options.output


def measure(rated: Rated, settings: Settings, output: Path) -> summary.Done:
    """What `systems.measure` found, by fold and run; trains what is not done yet."""
    conditions = {"data": rated.sha256, **settings.conditions()}
    log = RunLog(output / RUNS, ("fold", "run"), conditions)
    fold_of = folds(rated.texts, settings.folds, settings.seed)
    frozen = settings.training.head != "finetune"
    reader = Reader(rated.texts, settings.training) if frozen else None
    keys = [(fold, run) for fold in range(settings.folds) for run in systems.runs(settings)]
    for place, (number, run) in enumerate(keys, start=1):
        if (number, run) in log.done:
            continue
        tested = fold_of == number
        fold = systems.Fold(np.flatnonzero(~tested), np.flatnonzero(tested))
        log.add((number, run), systems.measure(rated, fold, settings, run, reader))
        seconds = sum(log.done[number, run]["cpu_seconds"].values())
        print(
            f"{place}/{len(keys)}: fold {number + 1}, {run}: {seconds:.1f} CPU s",
            file=sys.stderr,
        )
    return {key: log.done[key] for key in keys}


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

    if not settings.checkpoint or settings.training.head != "finetune":
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
        "heads": [done[key]["head"] for key in sorted(done) if "head" in done[key]],
    }
    write_json(output / "results.json", results)
    picture = figures.draw(rated, predictions, results, output / "real_preferences.png")
    tables.print_tables(results)
    print(f"wrote results.json, {picture.name} and {RUNS} to {output}")


if __name__ == "__main__":
    main()
