r"""Does a real model learn to write politely on a laptop, and are its answers answers still?

SmolLM2-135M-Instruct is asked for emails. RLOO trains a LoRA adapter on the library's rule-based
judge of politeness, 0 to 100. Before and after, it answers 64 requests that nothing was trained
on. A second scorer, which is not trained on, judges the same answers: best a reward model of real
people's ratings. The perplexity of the answers under the model as it was says whether they are
answers still; ten of them are printed for people to read. Each seed runs in a process of its own,
one thread, whose peak of resident memory is measured (`ru_maxrss`).

    llm-gym fetch smollm2 --output runs/smollm2
    python benchmarks/real_politeness/run.py --model runs/smollm2 --output runs/real_politeness

With a second scorer, from ratings of texts:

    llm-gym fetch minilm --output runs/minilm
    llm-gym reward-model wikipedia.jsonl --ratings --model runs/minilm --output runs/ratings
    python benchmarks/real_politeness/run.py --model runs/smollm2 --output runs/real_politeness \
        --second reward:runs/ratings/model

A seed that is done is a line of `runs.jsonl` and not trained again.
"""

from __future__ import annotations

import argparse
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from benchmarks.algorithms.jobs import run_jobs
from benchmarks.common import record
from benchmarks.real_politeness import tables
from benchmarks.real_politeness.experiment import run_seed
from benchmarks.real_politeness.settings import Settings
from benchmarks.run_log import RunLog
from llm_gym.files.atomic import write_json


def parse(arguments: list[str] | None = None) -> tuple[Settings, argparse.Namespace]:
    """Settings and the other options of the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", type=Path, required=True, metavar="DIR", help="llm-gym fetch")
    parser.add_argument("--output", type=Path, required=True, metavar="DIR")
    parser.add_argument("--second", default="", metavar="SCORER", help="named as for llm-gym train")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2], help="(0 1 2)")
    parser.add_argument("--quick", action="store_true", help="one update, a few short answers")
    options = parser.parse_args(arguments)
    for seed in options.seeds:
        if seed < 0:
            parser.error(f"--seeds {seed} must be at least 0")
    return Settings().quick() if options.quick else Settings(), options


def measure(settings: Settings, options: argparse.Namespace) -> dict[int, dict[str, Any]]:
    """What `experiment.run_seed` found, by seed; trains what is not done yet.

    Raises:
        RuntimeError: A seed failed; those before it are in the log.
    """
    model = options.model.resolve()
    conditions = {"model": model.name, "second": options.second, **settings.conditions()}
    log = RunLog(options.output / "runs.jsonl", ("seed",), conditions)
    for seed in options.seeds:
        if (seed,) in log.done:
            continue
        job = {
            "settings": asdict(settings),
            "model": str(model),
            "seed": seed,
            "second": options.second,
            "output": str(options.output / f"seed-{seed}"),
        }
        for _, found in run_jobs(run_seed, [job], 1):
            if found["status"] != "done":
                raise RuntimeError(f"seed {seed}: {found['error']}\n{found['traceback']}")
            log.add((seed,), found)
        print(
            f"seed {seed}: {log.done[seed,]['training_cpu_seconds']:.0f} CPU s of training",
            flush=True,
        )
    return {seed: log.done[seed,] for seed in options.seeds}


def main(arguments: list[str] | None = None) -> None:
    """Measures, prints tables and answers, writes `results.json`."""
    settings, options = parse(arguments)
    results = record(asdict(settings))
    found = measure(settings, options)
    results |= {"second": options.second, "seeds": tables.summarise(found)}
    write_json(options.output / "results.json", results)
    print(f"\n{tables.table(results['seeds'])}\n")
    print(tables.samples(found[options.seeds[0]], settings.shown))
    print(f"wrote {options.output / 'results.json'}")


if __name__ == "__main__":
    main()
