"""Measures the systems of a throughput run, one batch at a time, in turns."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from benchmarks.driver import Entry, Worker
from benchmarks.throughput.entries import (
    ENTRIES,
    ONCE,
    ONCE_IF_QUICK,
    QUICK_TEXTBOOK_MINIBATCHES,
)
from benchmarks.throughput.figures import system_figures
from benchmarks.workload import MODEL_SIZES, Workload


@dataclass(frozen=True)
class Settings:
    """Settings of a run.

    Attributes:
        systems: Keys of `ENTRIES`.
        rounds: Batches of each kind that each system does, after one that is not counted.
        quick: Fewer rounds, and only a part of the textbook system's learning.
        threads: Threads of tensor operations in each system.
        device: "cpu" or "cuda".
        model: Key of `MODEL_SIZES`.
        clock: Whose seconds the ratios are in, "cpu" or "wall".
    """

    systems: tuple[str, ...]
    rounds: int
    quick: bool
    threads: int
    device: str
    model: str
    clock: str

    def workload_of(self, entry: Entry) -> Workload:
        """The workload of one system."""
        return Workload(**{**MODEL_SIZES[self.model], **entry.workload, "device": self.device})

    def as_dict(self) -> dict[str, Any]:
        """The settings, the workload among them, ready for JSON."""
        base = Workload(**MODEL_SIZES[self.model], device=self.device)
        return {**asdict(self), "workload": base.as_dict()}


def measure(settings: Settings, output: Path, say: Callable[[str], None]) -> dict[str, Any]:
    """Runs every system, batch by batch in turns; what cannot run is named as skipped.

    Args:
        settings: Systems, rounds and workload.
        output: Folder for the systems' logs.
        say: Is called with a line of progress now and then.

    Returns:
        Figures by key of the system, see `figures.system_figures`.
    """
    figures: dict[str, Any] = {}
    once = ONCE_IF_QUICK if settings.quick else ONCE
    with ExitStack() as stack:
        workers: dict[str, Worker] = {}
        for key in settings.systems:
            entry = _entry(key, settings.quick)
            if entry.missing:
                say(f"{entry.label}: skipped, {entry.missing}")
                figures[key] = {"status": "skipped", "reason": entry.missing}
                continue
            workload, log = settings.workload_of(entry), output / "logs" / f"{key}.log"
            workers[key] = Worker(entry, workload, threads=settings.threads, log=log)
            stack.callback(workers[key].close)
            if key not in once:
                say(f"{entry.label}: warming up")
                for measure_name in entry.measures:
                    workers[key].run(measure_name)
        batches = _take_turns(workers, settings.rounds, once, say)
    for key, measured in batches.items():
        figures[key] = system_figures(measured)
    if "textbook_sb3" in batches and settings.quick:
        workload = settings.workload_of(ENTRIES["textbook_sb3"])
        of = workload.epochs * workload.minibatches
        figures["textbook_sb3"]["note"] = (
            f"{QUICK_TEXTBOOK_MINIBATCHES} of the {of} minibatches of learning were done, and "
            "their time was scaled up"
        )
    return {key: {"label": ENTRIES[key].label, **figures[key]} for key in settings.systems}


def _entry(key: str, quick: bool) -> Entry:
    entry = ENTRIES[key]
    if key == "textbook_sb3" and quick:
        return replace(entry, options={"minibatches": QUICK_TEXTBOOK_MINIBATCHES})
    return entry


def _take_turns(
    workers: dict[str, Worker], rounds: int, once: tuple[str, ...], say: Callable[[str], None]
) -> dict[str, dict[str, list[dict[str, Any]]]]:
    """Batches by system and measure. Each round starts with another system."""
    batches: dict[str, Any] = {key: {m: [] for m in w.entry.measures} for key, w in workers.items()}
    keys = list(workers)
    for round_index in range(rounds):
        start = round_index % max(len(keys), 1)
        for key in keys[start:] + keys[:start]:
            if key in once and round_index:
                continue
            worker = workers[key]
            for measure_name in worker.entry.measures:
                batch = worker.run(measure_name)
                batches[key][measure_name].append(batch)
                speed = batch["tokens"] / batch["cpu_seconds"]
                say(
                    f"round {round_index + 1} of {rounds}: {worker.entry.label}, "
                    f"{measure_name}: {speed:.4g} tokens per CPU second"
                )
            if key in once:
                worker.close()  # whose memory the larger ones need
    return batches
