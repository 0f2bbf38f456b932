"""Every world of GEM, TextArena, reasoning-gym and SkyRL-gym that works offline, tried one by one.

Each goes through Gymnasium's `check_env`, ten episodes of random tokens, one of them again, and an
update of Stable-Baselines3's own PPO with a tiny model. What is done is kept in `DIR/log.jsonl`:
an interrupted run goes on with the same command.

    python benchmarks/worlds/run.py --quick --output runs/worlds-quick
    python benchmarks/worlds/run.py --output runs/worlds --write docs/worlds_tried.md
    python benchmarks/worlds/run.py --output runs/worlds --only textarena:Frozen gem:game
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
os.environ["HF_HUB_OFFLINE"] = "1"  # what needs a download is to say so at once

import torch
from transformers.utils.logging import disable_progress_bar

from benchmarks.common import record
from benchmarks.run_log import RunLog
from benchmarks.worlds.names import LISTS, names
from benchmarks.worlds.page import page, summary
from benchmarks.worlds.trial import Settings, tried, within_limit
from llm_gym.files.atomic import write_json, write_text
from llm_gym.language_models import load_tokenizer
from llm_gym.scorers.worker import Worker
from llm_gym.testing.tiny import tiny_model

QUICK = 2  # worlds of each library


def chosen(only: Sequence[str], *, quick: bool) -> list[str]:
    """The worlds to try, by the beginnings of their names; all without any.

    Raises:
        ValueError: A beginning fits none.
    """
    known = {library: names(library) for library in LISTS}
    if quick:
        known = {library: listed[:QUICK] for library, listed in known.items()}
    listed = [name for names_ in known.values() for name in names_]
    for beginning in only:
        if not any(name.startswith(beginning) for name in listed):
            raise ValueError(f"only={beginning!r} fits none of {len(listed)} worlds")
    return [name for name in listed if name.startswith(tuple(only) or "")]


def saved_model(directory: Path, settings: Settings) -> str:
    """A model of two layers for the settings' tokenizer and context."""
    tokenizer = load_tokenizer(settings.tokenizer)
    model = tiny_model(
        "llama",
        len(tokenizer),
        initializer_range=0.02,
        max_position_embeddings=settings.context_length,
    )
    model.config.eos_token_id = model.generation_config.eos_token_id = tokenizer.eos_token_id
    model.save_pretrained(directory)
    tokenizer.save_pretrained(directory)
    return str(directory)


def parse(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--output", type=Path, required=True, metavar="DIR")
    parser.add_argument("--quick", action="store_true", help=f"{QUICK} worlds of each library")
    parser.add_argument("--only", nargs="+", default=[], metavar="NAME", help="or its beginning")
    parser.add_argument("--write", type=Path, metavar="FILE", help="the page, as docs/ has it")
    return parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None) -> dict[str, Any]:
    """Tries worlds, prints verdicts, writes `results.json` and the page."""
    options = parse(arguments)
    torch.set_num_threads(1)
    disable_progress_bar()
    settings = Settings()
    try:
        worlds = chosen(options.only, quick=options.quick)
    except ValueError as error:
        raise SystemExit(str(error)) from error
    log = RunLog(options.output / "log.jsonl", ("world",), asdict(settings))
    model = saved_model(options.output / "model", settings)
    worker = Worker(tried)
    for world in worlds:
        if (world,) not in log.done:
            log.add((world,), within_limit(worker, world, model, settings))
            found = log.done[world,]
            print(f"{world}: {found['verdict']} {found.get('reason', '')}", flush=True)
    results = record(asdict(settings)) | {"worlds": {name: log.done[name,] for name in worlds}}
    write_json(options.output / "results.json", results)
    print(summary(results))
    if options.write is not None:
        write_text(options.write, page(results))
    return results


if __name__ == "__main__":
    main()
