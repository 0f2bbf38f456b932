"""What does a batch of RL on a real model cost, in CPU seconds and memory, against TRL?

GRPO on SmolLM2-135M-Instruct, which asks for emails: 16 answers of up to 32 tokens in groups of 4,
minibatches of 4 answers, float32, one thread. Each system runs in a process of its own and does one
batch when its turn comes; peaks are of resident memory (`ru_maxrss`), libraries and all.

    llm-gym fetch smollm2 --output runs/smollm2
    python benchmarks/real_model/run.py --model runs/smollm2 --output runs/real_model
    python benchmarks/real_model/run.py --model runs/smollm2 --output runs/longer --new-tokens 64
"""

from __future__ import annotations

import argparse
import sys
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from benchmarks.common import columns, median_with_interval, record
from benchmarks.driver import Worker
from benchmarks.real_model.entries import ENTRIES, RATIOS, WORKLOAD, Ratio
from benchmarks.workload import Workload
from llm_gym.files.atomic import write_json
from llm_gym.statistics.resampling import bootstrap


def measure(
    keys: list[str], workload: Workload, rounds: int, threads: int, logs: Path
) -> dict[str, list[dict[str, Any]]]:
    """Batches by system, one a round, after one that is not counted but for the peak."""
    batches: dict[str, list[dict[str, Any]]] = {key: [] for key in keys}
    with ExitStack() as stack:
        workers = {}
        for key in keys:
            log = logs / f"{key}.log"
            workers[key] = Worker(ENTRIES[key], workload, threads=threads, log=log)
            stack.callback(workers[key].close)
            workers[key].run(ENTRIES[key].measures[-1])
            print(f"{ENTRIES[key].label}: ready", flush=True)
        for number in range(rounds):
            start = number % len(keys)
            for key in keys[start:] + keys[:start]:
                batch = workers[key].run(ENTRIES[key].measures[-1])
                batches[key].append(batch)
                print(
                    f"round {number + 1} of {rounds}: {ENTRIES[key].label}: "
                    f"{batch['cpu_seconds']:.1f} CPU s, {batch['peak_mb'] / 1e3:.2f} GB",
                    flush=True,
                )
    return batches


def figures_of(batches: list[dict[str, Any]]) -> dict[str, Any]:
    """Medians with intervals of a system's batches, and its peak."""
    return {
        "cpu_seconds": median_with_interval([b["cpu_seconds"] for b in batches]),
        "rollout_cpu_seconds": median_with_interval([b["rollout_cpu_seconds"] for b in batches]),
        "wall_seconds": median_with_interval([b["wall_seconds"] for b in batches]),
        "reward": float(np.mean([b["reward"] for b in batches])),
        "peak_gb": max(b["peak_mb"] for b in batches) / 1e3,
        "batches": batches,
    }


def ratio_of(ratio: Ratio, batches: dict[str, list[dict[str, Any]]]) -> dict[str, Any]:
    """A ratio of medians with its interval; of peaks there is one number."""
    of, over = batches[ratio.of], batches[ratio.over]
    if ratio.what == "peak":
        value = max(b["peak_mb"] for b in of) / max(b["peak_mb"] for b in over)
        return {"value": value, "low": value, "high": value, "wanted": ratio.wanted}
    above, below = ([b["cpu_seconds"] for b in each] for each in (of, over))
    low, high = bootstrap([above, below], lambda a, b: np.median(a, 1) / np.median(b, 1))
    value = float(np.median(above) / np.median(below))
    return {"value": value, "low": low, "high": high, "wanted": ratio.wanted}


def table(results: dict[str, Any]) -> str:
    """Systems, then ratios, as text."""
    rows = [["", "CPU s a batch", "of them rollout", "peak, GB"]]
    for key, figures in results["systems"].items():
        cpu, rollout = figures["cpu_seconds"], figures["rollout_cpu_seconds"]
        rows.append(
            [
                ENTRIES[key].label,
                f"{cpu['median']:.1f} [{cpu['low']:.1f}, {cpu['high']:.1f}]",
                f"{rollout['median']:.1f}",
                f"{figures['peak_gb']:.2f}",
            ]
        )
    ratios = [["", "ratio", "wanted"]]
    for name, ratio in results["ratios"].items():
        interval = f" [{ratio['low']:.2f}, {ratio['high']:.2f}]" if "seconds" in name else ""
        wanted = "" if ratio["wanted"] is None else f"<= {ratio['wanted']}"
        ratios.append([name, f"{ratio['value']:.2f}{interval}", wanted])
    return f"{columns(rows)}\n\n{columns(ratios)}"


def main() -> None:
    """Measures, prints the table, writes `results.json`."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", required=True, metavar="DIR", help="of llm-gym fetch smollm2")
    parser.add_argument("--output", type=Path, required=True, metavar="DIR")
    parser.add_argument("--rounds", type=int, default=3, help="counted batches of each system (3)")
    parser.add_argument("--threads", type=int, default=1, help="of each system (1)")
    parser.add_argument("--new-tokens", type=int, default=32, help="at most, of an answer (32)")
    parser.add_argument("--systems", nargs="+", choices=ENTRIES, default=list(ENTRIES))
    options = parser.parse_args()
    for name in ("rounds", "threads", "new_tokens"):
        if getattr(options, name) < 1:
            shown = name.replace("_", "-")
            parser.error(f"--{shown} {getattr(options, name)} must be at least 1")
    sizes = {**WORKLOAD, "new_tokens": options.new_tokens}
    workload = Workload(**sizes, model=str(Path(options.model).resolve()))
    results = record({**workload.as_dict(), "threads": options.threads, "rounds": options.rounds})
    batches = measure(
        options.systems, workload, options.rounds, options.threads, options.output / "logs"
    )
    results["systems"] = {key: figures_of(of) for key, of in batches.items()}
    results["ratios"] = {
        name: ratio_of(ratio, batches)
        for name, ratio in RATIOS.items()
        if ratio.of in batches and ratio.over in batches
    }
    write_json(options.output / "results.json", results)
    print(f"\n{table(results)}\n\nwrote {options.output / 'results.json'}")


if __name__ == "__main__":
    main()
