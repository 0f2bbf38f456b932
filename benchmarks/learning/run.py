"""What reward does a batch, and what does a CPU second, buy? Several seeds, systems in turns.

Speed per token is not speed to a reward. The workload is that of the throughput benchmark with a
vocabulary of 64 and a KL coefficient of 0.001, under which 20 batches are enough to learn
something. For a given seed all systems start from the same weights and draw from the same prompts.

    python benchmarks/learning/run.py --output runs/learning
    python benchmarks/learning/run.py --quick --systems ours trl_ppo --output runs/learning

To try settings of ours beside the defaults, add rows, each with arguments of llm_gym.PPO
("settings") and of the policy ("policy") as JSON:

    python benchmarks/learning/run.py --systems ours --output runs/learning
        --variant faster '{"settings": {"learning_rate": 3e-4}}'
"""

from __future__ import annotations

import argparse
import json
import sys
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from benchmarks.common import record
from benchmarks.driver import Entry, Worker
from benchmarks.learning.entries import ENTRIES, STRETCH
from benchmarks.learning.figures import add_comparison, draw, print_table, system_figures
from benchmarks.workload import LEARNING_VARIANT, Workload
from llm_gym.files.atomic import write_json


@dataclass(frozen=True)
class Settings:
    """Settings of a run.

    Attributes:
        systems: Keys of `ENTRIES`.
        variants: Further rows of ours: name to options of `systems.ours.build`.
        batches: After which systems are compared.
        seeds: Number of seeds, counted from 0.
        threads: Threads of tensor operations in each system.
        device: "cpu" or "cuda".
        stretch: Let the fast systems go on, as `STRETCH` says.
    """

    systems: tuple[str, ...]
    variants: dict[str, dict[str, Any]]
    batches: int
    seeds: int
    threads: int
    device: str
    stretch: bool

    def entries(self) -> dict[str, Entry]:
        """The rows of the table."""
        rows = {key: ENTRIES[key] for key in self.systems}
        for name, options in self.variants.items():
            rows[f"ours_{name}"] = Entry(f"llm_gym.PPO, {name}", "ours", options)
        return rows

    def workload(self, seed: int) -> Workload:
        """The workload of one seed, which decides the weights and the prompts too."""
        return Workload(**LEARNING_VARIANT, seed=seed, device=self.device)

    def batches_of(self, key: str) -> int:
        """Batches that a row does."""
        system = key if key in ENTRIES else "ours"
        return self.batches * (STRETCH.get(system, 1) if self.stretch else 1)


def parse(arguments: list[str] | None = None) -> tuple[Settings, Path]:
    """Settings and output folder from the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--output", type=Path, required=True, metavar="DIR")
    parser.add_argument("--quick", action="store_true", help="5 batches, 2 seeds")
    names = "of " + ", ".join(ENTRIES)
    parser.add_argument("--systems", nargs="*", choices=ENTRIES, metavar="SYSTEM", help=names)
    parser.add_argument("--variant", nargs=2, action="append", default=[], metavar=("NAME", "JSON"))
    parser.add_argument("--batches", type=int, help="to compare after (20, or 5 with --quick)")
    parser.add_argument("--seeds", type=int, help="(5, or 2 with --quick)")
    parser.add_argument("--threads", type=int, default=1, help="of each system (1)")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--no-stretch", action="store_true", help="equal batches for all systems")
    options = parser.parse_args(arguments)
    variants = {}
    for name, text in options.variant:
        if f"ours_{name}" in ENTRIES:
            parser.error(f"--variant {name}: ours_{name} is a system already; choose another name")
        try:
            variants[name] = json.loads(text)
        except json.JSONDecodeError as error:
            parser.error(f"--variant {name}: {text!r} is not JSON ({error})")
    settings = Settings(
        systems=tuple(ENTRIES if options.systems is None else options.systems),
        variants=variants,
        batches=options.batches if options.batches is not None else (5 if options.quick else 20),
        seeds=options.seeds if options.seeds is not None else (2 if options.quick else 5),
        threads=options.threads,
        device=options.device,
        stretch=not options.no_stretch,
    )
    for name in ("batches", "seeds", "threads"):
        if getattr(settings, name) < 1:
            parser.error(f"--{name} {getattr(settings, name)} must be at least 1")
    return settings, options.output


def learn(settings: Settings, seed: int, output: Path) -> dict[str, list[dict[str, Any]]]:
    """Trains every system for one seed, in turns, and return its batches."""
    batches: dict[str, list[dict[str, Any]]] = {}
    with ExitStack() as stack:
        workers = {}
        for key, entry in settings.entries().items():
            if entry.missing:
                continue
            log = output / "logs" / f"{key}-{seed}.log"
            workload = settings.workload(seed)
            worker = Worker(entry, workload, threads=settings.threads, log=log, seed=seed)
            stack.callback(worker.close)
            workers[key], batches[key] = worker, []
        for index in range(max(map(settings.batches_of, workers), default=0)):
            for key, worker in workers.items():
                if index < settings.batches_of(key):
                    batches[key].append(worker.run("train"))
            rewards = ", ".join(f"{key} {done[-1]['reward']:.3f}" for key, done in batches.items())
            print(f"seed {seed}, batch {index + 1}: {rewards}", flush=True)
    return batches


def main() -> None:
    """Train, print the table, write `results.json` and `learning.png`."""
    settings, output = parse()
    results = record({**asdict(settings), "workload": settings.workload(seed=0).as_dict()})
    by_seed = [learn(settings, seed, output) for seed in range(settings.seeds)]
    systems: dict[str, dict[str, Any]] = {}
    for key, entry in settings.entries().items():
        if entry.missing:
            systems[key] = {"status": "skipped", "reason": entry.missing}
        else:
            systems[key] = system_figures([runs[key] for runs in by_seed], settings.batches)
        systems[key]["label"] = entry.label
    add_comparison(systems, settings.batches)
    results["systems"] = systems
    write_json(output / "results.json", results)
    draw(results, output / "learning.png")
    print_table(results)
    print(f"wrote {output / 'results.json'} and {output / 'learning.png'}")


if __name__ == "__main__":
    main()
