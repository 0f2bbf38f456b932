r"""What happens to a real model's requests when it is trained on real people's ratings?

People rated requests from Wikipedia's talk pages for politeness. Their ratings are dealt into two
halves. A reward model of the first half is the reward: SmolLM2-135M-Instruct writes requests to
other editors, and RLOO trains an adapter on it, with a price on divergence from the model as it
was, and once more with hardly any. A reward model of the other half, the gold proxy, only looks
on; so does one that counts words. Everything is measured on prompts that nothing was trained on.
A run that was interrupted goes on with the same command.

    llm-gym fetch smollm2 --output runs/smollm2
    llm-gym fetch minilm --output runs/minilm
    python benchmarks/real_rlhf/run.py --smollm2 runs/smollm2 --minilm runs/minilm \
        --data wikipedia.jsonl --output runs/real_rlhf
"""

from __future__ import annotations

import argparse
import sys
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, NamedTuple

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from benchmarks.common import record
from benchmarks.real_preferences.data import Rated, read
from benchmarks.real_rlhf.settings import Settings
from benchmarks.real_rlhf.summary import summarise, table
from benchmarks.run_log import RunLog
from llm_gym.files.atomic import write_json


class Paths(NamedTuple):
    """Where everything is.

    Attributes:
        smollm2: Language model.
        minilm: Encoder of the reward models.
        data: Rated texts, JSON lines.
        output: Receives everything.
    """

    smollm2: Path
    minilm: Path
    data: Path
    output: Path


def parse(arguments: list[str] | None = None) -> tuple[Settings, Paths]:
    """Settings and paths from the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--smollm2", type=Path, required=True, metavar="DIR", help="llm-gym fetch")
    parser.add_argument("--minilm", type=Path, required=True, metavar="DIR", help="llm-gym fetch")
    parser.add_argument("--data", type=Path, required=True, metavar="FILE", help="JSON lines")
    parser.add_argument("--output", type=Path, required=True, metavar="DIR")
    parser.add_argument("--quick", action="store_true", help="one training of a few updates")
    parser.add_argument("--seed", type=int, default=0, help="of halves and training (0)")
    options = parser.parse_args(arguments)
    if options.seed < 0:
        parser.error(f"--seed {options.seed} must be at least 0")
    settings = Settings().quick() if options.quick else Settings()
    paths = Paths(options.smollm2, options.minilm, options.data, options.output)
    return replace(settings, seed=options.seed), paths


def measure(rated: Rated, settings: Settings, paths: Paths) -> dict[str, Any]:
    """Fits the judges, then trains with each price; what is done already is read from the logs.

    Returns:
        `judges` as `judges.fit_judges` logs them, and `trainings`, by coefficient.
    """
    from benchmarks.real_rlhf.judges import JUDGES, fit_judges
    from benchmarks.real_rlhf.training import train

    data = {"data": rated.sha256, "encoder": paths.minilm.name, "seed": settings.seed}
    judged = RunLog(paths.output / "judges.jsonl", ("judge",), data)
    judges = fit_judges(
        rated, str(paths.minilm), settings.seed, judged, paths.output / f"judges-{settings.seed}"
    )
    conditions = {**data, "model": paths.smollm2.name, **settings.conditions()}
    log = RunLog(paths.output / "runs.jsonl", ("kl_coef",), conditions)
    for kl_coef in settings.kl_coefs:
        if (kl_coef,) not in log.done:
            directory = paths.output / _name(settings, kl_coef)
            training = train(settings, kl_coef, str(paths.smollm2), judges, directory)
            log.add((kl_coef,), training._asdict())
    return {
        "judges": {name: judged.done[name,] for name in JUDGES},
        "trainings": {kl_coef: log.done[kl_coef,] for kl_coef in settings.kl_coefs},
    }


def _name(settings: Settings, kl_coef: float) -> str:
    size = f"{settings.tokens}-{settings.held_out_prompts}"
    return f"seed-{settings.seed}-{size}-kl-{kl_coef:g}"


def main(arguments: list[str] | None = None) -> None:
    """Measure, print the table, write `results.json` and the picture."""
    settings, paths = parse(arguments)
    try:
        rated = read(paths.data)
    except (ValueError, FileNotFoundError) as error:
        raise SystemExit(str(error)) from error
    import torch
    from transformers.utils import logging

    from benchmarks.real_rlhf.pictures import draw

    torch.set_num_threads(1)
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    results = record(asdict(settings))
    measured = measure(rated, settings, paths)
    results |= {"data": {"file": paths.data.name, "sha256": rated.sha256}}
    results |= summarise(settings, measured)
    write_json(paths.output / "results.json", results)
    picture = draw(measured["trainings"], paths.output / "real_rlhf.png")
    print(f"\n{table(results)}\nwrote results.json and {picture.name} to {paths.output}")


if __name__ == "__main__":
    main()
