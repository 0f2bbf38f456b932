"""Which of other people's worlds does Stable-Baselines3's own PPO learn in a minute or two?

A small transformer with random weights learns each of some worlds, with a vocabulary that is made
of what the world says. It is evaluated before and after on conversations of other seeds than it was
trained on. Beside it stand answers drawn from the same list, and the one answer that is worth most
where nothing else is ever said. What was done is kept, so the same command goes on.

    python benchmarks/worlds/learning.py --output runs/worlds-learnt --write docs/worlds_learnt.md
    python benchmarks/worlds/learning.py --output DIR --only reasoning_gym:gcd
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import torch
from rich.progress import track

from benchmarks.algorithms.store import RunStore
from benchmarks.algorithms.tables import table
from benchmarks.common import record, told
from benchmarks.worlds.learnt import Settings, learnt
from benchmarks.worlds.page import cell
from benchmarks.worlds.recipes import RECIPES
from llm_gym.files.atomic import write_json, write_text
from llm_gym.files.provenance import versions
from llm_gym.language_models.loading import quiet_libraries

_HEAD = (Path(__file__).parent / "learnt.md").read_text(encoding="utf-8")


def jobs(names: Sequence[str], settings: Settings) -> list[dict[str, Any]]:
    """A job a world."""
    found = []
    for name in names:
        # As a file of lines gives them back, in which tuples are lists.
        conditions = json.loads(json.dumps({**asdict(settings), **asdict(RECIPES[name])}))
        found.append({"key": name, "settings": conditions, "seed": settings.seed})
    return found


def is_improved(found: Mapping[str, Any]) -> bool:
    """Whether the intervals before and after training are apart, and the gain is above zero."""
    return found["after"]["low"] > found["before"]["high"] and found["gain"]["low"] > 0


def page(results: Mapping[str, Any]) -> str:
    """The page as Markdown: a table of those that improved, and one of the others."""
    parts = [_HEAD.format(**results["settings"])]
    runs = results["worlds"]
    head = [
        "world",
        "before",
        "after",
        "random answers",
        "always one answer",
        "new",
        "tokens",
        "CPU s",
    ]
    for title, wanted in (("Learnt", True), ("Not learnt in this budget", False)):
        rows = [
            [
                f"`{name}`",
                told(found["before"], 2),
                told(found["after"], 2),
                told(found["random"], 2),
                f"{told(found['constant'], 2)}: {cell(found['answer'])}",
                f"{found['new']:.0%}",
                f"{found['tokens']:,}",
                f"{found['cpu_seconds']:.0f}",
            ]
            for name, found in runs.items()
            if is_improved(found) == wanted
        ]
        if rows:
            parts.append(f"## {title}: {len(rows)}\n\n{table(head, rows)}\n")
    beyond = [name for name, found in runs.items() if _beats_both(found)]
    parts.append(
        f"Better than random answers and than any single one, by intervals apart: {len(beyond)} of "
        f"{len(runs)}: {', '.join(f'`{name}`' for name in beyond) or 'none'}.\n"
    )
    if left := [f"`{name}`" for name in RECIPES if name not in runs]:
        parts.append(f"There are recipes for these, too, which were not run: {', '.join(left)}.\n")
    return "\n".join(parts)


def _beats_both(found: Mapping[str, Any]) -> bool:
    return found["after"]["low"] > max(found["random"]["high"], found["constant"]["high"])


def main(arguments: Sequence[str] | None = None) -> None:
    """Trains on the worlds that are not done yet, and writes the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--output", type=Path, required=True, metavar="DIR")
    parser.add_argument("--only", nargs="+", choices=RECIPES, metavar="WORLD", default=[*RECIPES])
    parser.add_argument("--write", type=Path, metavar="FILE", help="the page, as Markdown")
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)
    quiet_libraries()
    settings = Settings()
    store = RunStore(options.output / "runs.jsonl", versions())
    todo = jobs(options.only, settings)
    for job in track(store.to_do(todo), description="worlds"):
        with tempfile.TemporaryDirectory() as directory, warnings.catch_warnings():
            warnings.simplefilter("ignore")
            found = learnt(job["key"], RECIPES[job["key"]], settings, Path(directory))
        store.add({**job, "status": "done", "figures": found})
        print(f"{job['key']}: {told(found['before'], 2)} -> {told(found['after'], 2)}", flush=True)
    worlds = {run["key"]: run["figures"] for run in store.of(todo) if run["status"] == "done"}
    results = {**record(asdict(settings)), "worlds": worlds}
    write_json(options.output / "results.json", results)
    if options.write:
        write_text(options.write, page(results))
    print(page(results))


if __name__ == "__main__":
    main()
