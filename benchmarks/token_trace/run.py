"""What does it cost to keep single tokens? Training with `TokenTrace` against training without.

Two runs with one seed learn the same, to the bit, so that all that differs is the trace. They take
turns in one process, an iteration at a time, and their CPU seconds are compared over as many
iterations as lie between two looks. What the trace's own calls take is measured besides: on a
machine with other work that is a steadier figure, and a lower bound.

    python benchmarks/token_trace/run.py --output runs/trace                   # an hour of CPU
    python benchmarks/token_trace/run.py --turns 3 --only demo --output DIR    # a glance
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from benchmarks.common import columns, mean_with_interval, record, told
from benchmarks.systems.base import Clock
from llm_gym.files.atomic import write_json
from llm_gym.language_models.loading import quiet_libraries
from llm_gym.learning.policy_gradient import PolicyGradient
from llm_gym.learning.ppo import PPO
from llm_gym.runs.callbacks import TokenTrace
from llm_gym.runs.trace import trace_files
from llm_gym.stages.demo import DemoConfig
from llm_gym.stages.rlhf.settings import RLHFConfig
from llm_gym.stages.train import TrainConfig, build_algorithm

_EMAILS = "llm_gym/PoliteEmail-v0"
RUNS: dict[str, TrainConfig] = {
    "demo": DemoConfig().training(),
    "train": TrainConfig(env=_EMAILS, device="cpu"),
    "train --algorithm rloo": TrainConfig(env=_EMAILS, algorithm="rloo", device="cpu"),
    "rlhf --quick": RLHFConfig.quick().config_of(TrainConfig, env=_EMAILS, scorer=None),
}


def cost_of(config: TrainConfig, turns: int, every: int | None, directory: Path) -> dict[str, Any]:
    """What a trace costs a run.

    Args:
        config: Settings of the run.
        turns: How many looks; each of the two learns for as many iterations as lie between them.
        every: Iterations between two looks; None is the run's own choice.
        directory: Where looks go.

    Returns:
        Share of the CPU seconds that the trace adds, mean over looks with its interval; what its
        own calls took, as a share; CPU seconds of the run without; looks and their bytes.
    """
    plain, traced = (build_algorithm(config.resolved()) for _ in range(2))
    assert isinstance(plain, (PPO, PolicyGradient))
    trace, inside = TokenTrace(directory, every=every or config.trace_every), Clock()
    for name in ("_on_rollout_start", "_on_step", "_on_rollout_end", "_on_training_end"):
        setattr(trace, name, inside.wrap(getattr(trace, name)))
    trace._on_training_start = _once(trace._on_training_start)  # type: ignore[method-assign]
    clocks = {plain: Clock(), traced: Clock()}
    shares = []
    every = every or config.trace_every or round(64 / plain.n_epochs)
    for _ in range(turns):
        before = {each: clock.cpu_seconds for each, clock in clocks.items()}
        for iteration in range(every):
            for each in (plain, traced) if iteration % 2 else (traced, plain):
                with clocks[each].running():
                    each.learn(
                        1,  # token: one rollout
                        callback=trace if each is traced else None,
                        reset_num_timesteps=not clocks[each].wall_seconds,
                    )
        took = {each: clock.cpu_seconds - before[each] for each, clock in clocks.items()}
        shares.append(took[traced] / took[plain] - 1)
    _check_equal(plain, traced)
    seconds, files = clocks[plain].cpu_seconds, trace_files(directory)
    return {
        "added": mean_with_interval(shares),
        "inside": inside.cpu_seconds / seconds,
        "seconds": seconds,
        "looks": len(files),
        "bytes_per_look": float(np.mean([path.stat().st_size for path in files])),
    }


def _once(function: Callable[[], None]) -> Callable[[], None]:
    """The function, which does nothing from its second call: a run begins once.

    Here `learn` is called for each iteration, so that two runs can take turns.
    """
    left = [function]
    return lambda: left.pop()() if left else None


def _check_equal(plain: Any, traced: Any) -> None:
    """Both have learnt the same, or the comparison says nothing."""
    pairs = zip(plain.policy.parameters(), traced.policy.parameters(), strict=True)
    if not all(torch.equal(first, second) for first, second in pairs):
        raise RuntimeError("the run with a trace has learnt something else than the one without")


def main() -> None:
    """Measures, prints a table and writes `results.json`."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--output", type=Path, required=True, help="directory for results.json")
    parser.add_argument("--turns", type=int, default=8, help="looks of each run")
    parser.add_argument("--every", type=int, help="iterations between looks; default: the trace's")
    parser.add_argument("--only", nargs="+", choices=RUNS, default=list(RUNS), help="which runs")
    options = parser.parse_args()
    quiet_libraries()
    torch.set_num_threads(1)
    results = record({"turns": options.turns, "every": options.every})
    results["runs"] = {}
    for name in options.only:
        folder = options.output / name.replace(" ", "-").strip("-")
        results["runs"][name] = cost_of(RUNS[name], options.turns, options.every, folder)
        write_json(options.output / "results.json", results)
    head = ("run", "CPU time added, %", "of it in its calls, %", "CPU s without", "KB a look")
    rows = [
        (
            name,
            told(found["added"], 2, factor=100),
            f"{100 * found['inside']:.2f}",
            f"{found['seconds']:.1f}",
            f"{found['bytes_per_look'] / 1e3:.1f}",
        )
        for name, found in results["runs"].items()
    ]
    print(columns([head, *rows]))


if __name__ == "__main__":
    main()
