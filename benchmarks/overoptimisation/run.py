"""Does what we want rise and fall while what we measure only rises? Gao et al.'s claims, in small.

A world in which every answer to every prompt can be listed: a tiny language model, a gold score
that is a known function, and reward models of several sizes trained on Bradley-Terry comparisons
that follow it. Each is optimised by best-of-n (exactly, and by sampling) and by PPO, while gold is
only watched. After Gao, Schulman and Hilton, "Scaling laws for reward model overoptimization"
(2210.10760), four claims are judged, whichever way it goes. A run that was interrupted goes on with
the same command.

    python benchmarks/overoptimisation/run.py --output runs/overoptimisation
    python benchmarks/overoptimisation/run.py --quick --output runs/overoptimisation-quick
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from benchmarks.common import record, whole_lines
from benchmarks.overoptimisation.claims import judge, summarise
from benchmarks.overoptimisation.pictures import draw
from benchmarks.overoptimisation.settings import Settings
from llm_gym.files.atomic import write_json

Run = dict[str, Any]


def parse(arguments: list[str] | None = None) -> tuple[Settings, Path]:
    """Settings and output folder from the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--output", type=Path, required=True, metavar="DIR")
    parser.add_argument("--quick", action="store_true", help="one seed, two proxies, a minute")
    parser.add_argument("--seeds", type=int, help=f"worlds ({Settings.seeds})")
    options = parser.parse_args(arguments)
    settings = Settings().quick() if options.quick else Settings()
    if options.seeds is not None:
        if options.seeds < 1:
            parser.error(f"--seeds {options.seeds} must be at least 1")
        settings = replace(settings, seeds=options.seeds)
    return settings, options.output


def read_runs(path: Path, settings: Settings) -> list[Run]:
    """The runs that are already there; a line cut off by a crash is dropped from the file.

    Raises:
        ValueError: They were made with other settings.
    """
    runs = whole_lines(path)
    expected = comparable(settings)
    if any(run["settings"] != expected for run in runs):
        raise ValueError(f"{path} holds runs with other settings; choose another --output")
    return runs


def comparable(settings: Settings) -> dict[str, Any]:
    """Settings that a single run depends on, as JSON gives them back."""
    whole = json.loads(json.dumps(asdict(settings)))
    return {
        name: value
        for name, value in whole.items()
        if name not in ("seeds", "comparisons", "widths")
    }


def measure(settings: Settings, path: Path) -> list[Run]:
    """Every run that is not there yet, one line of JSON each as it is done."""
    from benchmarks.overoptimisation.world import make_world

    runs = read_runs(path, settings)
    done = {(run["seed"], run["comparisons"], run["width"]) for run in runs}
    for seed in range(settings.first_seed, settings.first_seed + settings.seeds):
        to_do = [
            (comparisons, width)
            for comparisons in settings.comparisons
            for width in settings.widths
            if (seed, comparisons, width) not in done
        ]
        if not to_do:
            continue
        with tempfile.TemporaryDirectory() as model:
            world = make_world(settings, seed, Path(model))
            for comparisons, width in to_do:
                run = measure_one(settings, world, seed, comparisons, width)
                with open(path, "a", encoding="utf-8") as file:
                    file.write(json.dumps(run, allow_nan=False) + "\n")
                runs.append(run)
    return runs


def measure_one(settings: Settings, world: Any, seed: int, comparisons: int, width: int) -> Run:
    """Trains one proxy and optimises it in every way."""
    from benchmarks.overoptimisation import optimise
    from benchmarks.overoptimisation.proxies import train_proxy

    started = time.process_time()
    proxy = train_proxy(settings, world, comparisons, width, seed)
    exact = optimise.best_of_n_curve(settings, world, proxy)
    ppo, alarm = optimise.ppo_curve(settings, world, proxy, seed)
    run = {
        "seed": seed,
        "comparisons": comparisons,
        "width": width,
        "validation_accuracy": proxy.validation_accuracy,
        "agreement": proxy.agreement,
        "best_of_n": exact,
        "sampled": optimise.sampled_best_of_n(settings, world, proxy, seed),
        "tilted": optimise.tilted_curve(settings, world, proxy),
        "ppo": ppo,
        "alarm": alarm,
        "settings": comparable(settings),
    }
    run["cpu_seconds"] = time.process_time() - started
    print(
        f"seed {seed}, {comparisons:>6,} comparisons, width {width:>3}: agreement with gold "
        f"{proxy.agreement:.2f}, {run['cpu_seconds']:.0f} s of CPU",
        flush=True,
    )
    return run


def print_verdicts(results: dict[str, Any]) -> None:
    """Each claim with its verdict and figures."""
    for number, claim in results["claims"].items():
        if number == "alarm":
            continue
        print(f"\n({number}) {claim['claim']}: {claim['verdict'].upper()}")
        for name, value in claim.items():
            if name not in ("claim", "verdict"):
                print(f"    {name}: {json.dumps(rounded(value))}")
    print(f"\nbest-of-n by sampling: {json.dumps(rounded(results['sampled']))}")
    print(f"the alarm: {json.dumps(rounded(results['claims']['alarm']))}")


def rounded(value: Any) -> Any:
    """Numbers with three figures after the point, at any depth."""
    if isinstance(value, dict):
        return {name: rounded(part) for name, part in value.items()}
    return round(value, 3) if isinstance(value, float) else value


def main() -> None:
    """Measure, judge, draw, print; write `results.json` and the pictures."""
    settings, output = parse()
    import torch
    from transformers.utils.logging import disable_progress_bar

    torch.set_num_threads(1)  # models this small gain nothing from more
    disable_progress_bar()  # one a run, for a model that is there at once
    output.mkdir(parents=True, exist_ok=True)
    results = record(asdict(settings))
    try:
        runs = measure(settings, output / "runs.jsonl")
    except ValueError as error:
        raise SystemExit(str(error)) from error
    rows = [summarise(run) for run in runs]
    covered = [run["sampled"]["covered"] for run in runs]
    results["cpu_seconds"] = sum(run["cpu_seconds"] for run in runs)
    results["sampled"] = {"share_of_intervals_that_cover": sum(covered) / len(covered)}
    results["claims"] = judge(rows)
    results["runs"] = rows
    write_json(output / "results.json", results)
    pictures = draw(runs, rows, output)
    print_verdicts(results)
    print(f"\n{len(runs)} runs, {results['cpu_seconds']:.0f} s of CPU")
    print("wrote " + ", ".join(str(path) for path in (output / "results.json", *pictures)))


if __name__ == "__main__":
    main()
