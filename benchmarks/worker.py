"""One system in a process of its own, driven by lines of JSON.

Started as `python -m benchmarks.worker JSON` with `{"system": MODULE, "workload": {...},
"options": {...}}`. It answers `{"ready": true}` once the system is built, and then one line to
each request: `{"do": "rollout"}` or `{"do": "train"}` is answered with what the batch took. The
end of the input ends it. Whatever libraries print goes to the standard error stream.
"""

from __future__ import annotations

import importlib
import json
import math
import os
import sys
from typing import Any

from benchmarks.systems.base import Clock, System, peak_memory_mb
from benchmarks.workload import Workload


def measure(system: System, what: str, device: str) -> dict[str, Any]:
    """Runs one batch and say what it took.

    Returns:
        `tokens`, `reward` (None if unknown), `cpu_seconds`, `wall_seconds`, of those
        `rollout_cpu_seconds` and `rollout_wall_seconds`, and `peak_mb` so far.
    """
    inner = system.rollout_clock
    cpu_before, wall_before = inner.cpu_seconds, inner.wall_seconds
    clock = Clock(device)
    with clock.running():
        batch = getattr(system, f"{what}_batch")()
    cpu, wall = clock.cpu_seconds, clock.wall_seconds
    rollout_cpu, rollout_wall = cpu, wall
    if what == "train":
        rollout_cpu, rollout_wall = inner.cpu_seconds - cpu_before, inner.wall_seconds - wall_before
        cpu = rollout_cpu + batch.scale * (cpu - rollout_cpu)
        wall = rollout_wall + batch.scale * (wall - rollout_wall)
    return {
        "tokens": batch.tokens,
        "reward": None if math.isnan(batch.reward) else batch.reward,
        "cpu_seconds": cpu,
        "wall_seconds": wall,
        "rollout_cpu_seconds": rollout_cpu,
        "rollout_wall_seconds": rollout_wall,
        "peak_mb": peak_memory_mb(device),
    }


def main() -> None:
    """Builds the system that the command line names, then answer requests until the input ends."""
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # libraries print to the standard output, which carries our answers

    def answer(message: dict[str, Any]) -> None:
        answers.write(json.dumps(message) + "\n")
        answers.flush()

    task = json.loads(sys.argv[1])
    workload = Workload(**task["workload"])
    module = importlib.import_module(f"benchmarks.systems.{task['system']}")
    system = module.build(workload, **task["options"])
    answer({"ready": True, "peak_mb": peak_memory_mb(workload.device)})
    for line in sys.stdin:
        answer(measure(system, json.loads(line)["do"], workload.device))
    # A trainer's thread may still wait for a request; there is nothing to tidy up after it.
    os._exit(0)


if __name__ == "__main__":
    main()
