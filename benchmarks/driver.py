"""Starts each system in a process of its own and lets them take turns."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.common import ROOT
from benchmarks.peers import is_installed, peer_python
from benchmarks.workload import Workload


@dataclass(frozen=True)
class Entry:
    """One system under one set of settings; a row of a benchmark's table.

    Attributes:
        label: Its name in tables and pictures.
        system: Module of `benchmarks.systems`.
        options: Keyword arguments of that module's `build`.
        workload: What differs from the benchmark's workload.
        peer: The peer's environment it runs in; None for the one that runs the benchmark.
        measures: Of "rollout" and "train".
        environment: Environment variables of its process.
    """

    label: str
    system: str
    options: dict[str, Any] = field(default_factory=dict)
    workload: dict[str, Any] = field(default_factory=dict)
    peer: str | None = None
    measures: tuple[str, ...] = ("rollout", "train")
    environment: dict[str, str] = field(default_factory=dict)

    @property
    def missing(self) -> str | None:
        """Why the entry cannot run here, or None if it can."""
        if self.peer is None or is_installed(self.peer):
            return None
        return f"not installed: run python benchmarks/throughput/install_peers.py {self.peer}"


class Worker:
    """A system in its own process; see `benchmarks/worker.py` for what is said between us.

    Args:
        entry: Which system, and with which options.
        workload: Its workload, with the entry's differences already in it.
        threads: Threads of its tensor operations.
        log: File for everything the system prints.
        seed: Seed of everything that is drawn.

    Raises:
        RuntimeError: The system could not be built; the end of its log is in the message.
    """

    def __init__(
        self, entry: Entry, workload: Workload, *, threads: int, log: Path, seed: int = 0
    ) -> None:
        self.entry, self._log = entry, log
        log.parent.mkdir(parents=True, exist_ok=True)
        python = sys.executable if entry.peer is None else str(peer_python(entry.peer))
        task = {
            "system": entry.system,
            "workload": workload.as_dict(),
            "options": {"seed": seed, **entry.options},
        }
        with log.open("w", encoding="utf-8") as file:
            self._process = subprocess.Popen(
                [python, "-m", "benchmarks.worker", json.dumps(task)],
                cwd=ROOT,
                env=worker_environment(threads) | entry.environment,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=file,
                text=True,
            )
        self.built = self._receive()

    def run(self, what: str) -> dict[str, Any]:
        """Runs one batch, "rollout" or "train", and return what it took (`worker.measure`).

        Raises:
            RuntimeError: The system failed; the end of its log is in the message.
        """
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps({"do": what}) + "\n")
        self._process.stdin.flush()
        return self._receive()

    def close(self) -> None:
        """End the process."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        try:
            self._process.wait(timeout=10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def _receive(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            self._process.wait()
            tail = "\n".join(self._log.read_text(encoding="utf-8").splitlines()[-15:])
            raise RuntimeError(f"{self.entry.label} failed; the end of {self._log}:\n{tail}")
        return json.loads(line)


def worker_environment(threads: int) -> dict[str, str]:
    """Environment variables of a worker: equal for all systems, and nothing from the network."""
    return os.environ | {
        "OMP_NUM_THREADS": str(threads),
        "MKL_NUM_THREADS": str(threads),
        "OMP_WAIT_POLICY": "passive",  # waiting threads must not count as CPU time
        "TOKENIZERS_PARALLELISM": "false",
        "HF_HUB_OFFLINE": "1",
        "TRL_EXPERIMENTAL_SILENCE": "1",
    }
