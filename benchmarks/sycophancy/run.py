"""Do raters who like agreement make a sycophant, how fast, and what mends it?

Raters compare answers to questions about capitals. Their choice follows Bradley and Terry with
`utility = 1{correct} + b * 1{agrees with the user}`. For each b a reward model learns from their
choices, and PPO trains the embedded model `llm_gym/facts-sft` against it. The answers are few, so
every figure of a policy is an exact probability, and the optimum that PPO should reach is known in
closed form.

Every reward model and every policy is a line of `runs.jsonl` in the output folder as soon as it
is done, and is not trained again; so an interrupted run goes on where it stopped.

    python benchmarks/sycophancy/run.py --quick --output runs/sycophancy-quick
    python benchmarks/sycophancy/run.py --output runs/sycophancy
"""

from __future__ import annotations

import argparse
import sys
from dataclasses import asdict, replace
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from benchmarks.common import record
from benchmarks.run_log import RunLog
from benchmarks.sycophancy.entries import FULL, QUICK, Settings
from llm_gym.files.atomic import write_json

RUNS = "runs.jsonl"


def parse(arguments: list[str] | None = None) -> tuple[Settings, Path]:
    """Settings and output folder from the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--output", type=Path, required=True, metavar="DIR")
    parser.add_argument("--quick", action="store_true", help="2 seeds, a few settings, 3 minutes")
    parser.add_argument(
        "--vf-coef", type=float, default=FULL.vf_coef, help=f"of PPO ({FULL.vf_coef})"
    )
    parser.add_argument(
        "--shared-critic", action="store_true", help="its loss shapes the actor's transformer, too"
    )
    options = parser.parse_args(arguments)
    critic = {"vf_coef": options.vf_coef, "detach_value": not options.shared_critic}
    return replace(QUICK if options.quick else FULL, **critic), options.output


def open_log(path: Path, settings: Settings) -> RunLog:
    """Runs by name and seed that are done; more seeds or more policies leave them valid."""
    names = ("comparisons", "epochs", "iterations", "vf_coef", "detach_value")
    return RunLog(path, ("run", "seed"), {name: getattr(settings, name) for name in names})


def measure(settings: Settings, output: Path) -> RunLog:
    """Trains what is not done yet, seed by seed."""
    from benchmarks.sycophancy import experiment

    log = open_log(output / RUNS, settings)
    policies = settings.policies()
    panels = list(dict.fromkeys(policy.panel for policy in policies))
    total = settings.seeds * (len(panels) + len(policies))
    for seed in range(settings.seeds):
        homes = {panel: output / "reward_models" / f"{panel}-{seed}" for panel in panels}
        for panel, home in homes.items():
            name = reward_run(panel)
            if (name, seed) not in log.done or not (home / experiment.TABLES).is_file():
                log.add((name, seed), experiment.train_reward(panel, settings, seed, home))
                say(log, name, seed, total)
        for policy in policies:
            if (policy.key, seed) not in log.done:
                result = experiment.train_policy(policy, settings, seed, homes[policy.panel])
                log.add((policy.key, seed), result)
                say(log, policy.key, seed, total)
    return log


def reward_run(panel: str) -> str:
    """Name of a reward model's run."""
    return f"reward model of {panel}"


def say(log: RunLog, run: str, seed: int, total: int) -> None:
    """Progress, on standard error."""
    seconds = log.done[run, seed]["cpu_seconds"]
    print(f"{len(log.done)}/{total}: {run}, seed {seed}: {seconds:.1f} CPU s", file=sys.stderr)


def main(arguments: list[str] | None = None) -> None:
    """Measure, print the tables, write `results.json` and the pictures."""
    settings, output = parse(arguments)
    import torch
    from transformers.utils import logging

    torch.set_num_threads(1)  # the models are tiny: a second thread only waits
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    from benchmarks.sycophancy import experiment, figures, tables
    from benchmarks.sycophancy.summary import summarise

    shown = asdict(settings)
    shown["pressures"] = {str(bias): coefs for bias, coefs in settings.pressures.items()}
    conditions = record(shown)
    log = measure(settings, output)
    results = {**conditions, **summarise(settings, log.done, experiment.before())}
    write_json(output / "results.json", results)
    drawn = figures.draw(results, output)
    tables.print_tables(results)
    print(f"wrote {', '.join(['results.json', *drawn])} to {output}")


if __name__ == "__main__":
    main()
