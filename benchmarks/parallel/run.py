"""What several processes give: the same gradient, the same learning curve, and how many tokens.

    python benchmarks/parallel/run.py --output runs/parallel            (an hour on 2 idle cores)
    python benchmarks/parallel/run.py --output runs/parallel --quick    (minutes; no times)
    python benchmarks/parallel/run.py --output runs/parallel --model DIR --parts throughput

Four parts:

- `exact`: the gradients of two and of four processes against one on the same episodes, in float64,
  for every algorithm; and whether their weights are equal to the bit after many updates.
- `curve`: PoliteEmail by `llm-gym train`, the same run in one process and in two, several seeds.
- `throughput`: PPO with as many rows in each process, one thread each: one process against two, and
  against one with two threads and all the rows. In turns, each a process group of its own. And two
  runs side by side that know nothing of each other: what two of the machine's cores can do at best.
- `spinning`: one process with two threads against one with one, by what threads do when idle, alone
  and beside two programs that never rest.

What happens when something goes wrong is `python -m benchmarks.parallel.faults`.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any, NamedTuple

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from benchmarks.common import ROOT, of_seeds, record, told
from llm_gym.files.atomic import write_json
from llm_gym.testing.tiny import save_tiny_model

TINY = {"vocab_size": 12, "n_embd": 16, "n_layer": 1, "n_head": 2, "n_positions": 16}
EXACT = ROOT / "tests" / "parallel" / "two_processes.py"
WORKER = Path(__file__).with_name("worker.py")
PARTS = ("exact", "curve", "throughput", "spinning")
APART = "1 x 1, twice"


class Case(NamedTuple):
    """How the throughput is measured."""

    processes: int
    threads: int
    runs: int = 1

    @property
    def rows_each(self) -> int:
        """Rows of a process, as a multiple: as many in all wherever two cores are in use."""
        return self.threads


CASES = {"1 x 1": Case(1, 1), "2 x 1": Case(2, 1), "1 x 2": Case(1, 2), APART: Case(1, 1, runs=2)}

SPINNING = {
    "as PyTorch has it": {},
    "GOMP_SPINCOUNT=1000": {"GOMP_SPINCOUNT": "1000"},
    "GOMP_SPINCOUNT=300": {"GOMP_SPINCOUNT": "300"},
    "OMP_WAIT_POLICY=PASSIVE": {"OMP_WAIT_POLICY": "PASSIVE"},
}
"""What idle threads do, by the variables that say so."""
FOREVER = "while True: pass"


def start(processes: int, *command: str, threads: int = 1) -> None:
    """Runs a Python command in so many processes, to its end."""
    line, env = begun_by(processes, *command, threads=threads)
    subprocess.run(line, env=env, check=True, stdout=subprocess.DEVNULL)


def begun_by(processes: int, *command: str, threads: int = 1) -> tuple[list[str], dict[str, str]]:
    """The command line, and the environment, of a Python command in so many processes."""
    python = [sys.executable]
    if processes > 1:
        python += ["-m", "torch.distributed.run", "--standalone"]
        python += ["--nproc-per-node", str(processes)]
    path = os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
    return [*python, *command], {
        **os.environ,
        "PYTHONPATH": path,
        "OMP_NUM_THREADS": str(threads),
    }


def exact(output: Path, sizes: list[int], tokens: str) -> dict[str, Any]:
    """The largest difference of a gradient by number of processes, and whether weights agree."""
    model = save_tiny_model(output / "tiny", "gpt2", **TINY)
    found = {}
    for size in sizes:
        folder = output / f"exact-{size}"
        folder.mkdir()
        start(size, str(EXACT), model, str(folder / "results.json"), tokens)
        results = json.loads((folder / "results.json").read_text())
        runs = [run["weights"] for run in results["equal"].values()]
        found[str(size)] = {
            "largest_difference": max(results["gradients"].values()),
            "differences": results["gradients"],
            "weights_equal": all(len(set(weights)) == 1 for weights in runs),
            "updates": {name: run["known"][0][1] for name, run in results["equal"].items()},
        }
    return found


def curve(output: Path, seeds: int, tokens: int) -> dict[str, Any]:
    """Held-out scores after training, by number of processes."""
    found: dict[str, Any] = {}
    for seed in range(seeds):
        for size in (1, 2):
            run = output / f"curve-{size}-{seed}"
            line = f"train --env llm_gym/PoliteEmail-v0 --total-tokens {tokens} --kl-coef 1"
            options = ["--seed", str(seed), "--output", str(run), "--device", "cpu"]
            start(1, "-m", "llm_gym", *line.split(), *options, "--processes", str(size))
            after = json.loads((run / "evaluation.json").read_text())["after"]["mean_score"]
            found.setdefault(str(size), []).append(after)
    differences = [two - one for one, two in zip(found["1"], found["2"], strict=True)]
    return {
        "tokens": tokens,
        "scores": {size: of_seeds(values) for size, values in found.items()},
        "difference": of_seeds(differences),
    }


def throughput(output: Path, model: str, rounds: int, iterations: int, rows: int) -> dict[str, Any]:
    """Tokens a second of each case, and their ratios round by round."""
    cases: dict[str, list[dict[str, Any]]] = {name: [] for name in CASES}
    for number in range(rounds):
        for name, case in CASES.items():
            folder = output / f"throughput-{number}-{case.processes}-{case.threads}-{case.runs}"
            folder.mkdir()
            results = [folder / f"{run}.json" for run in range(case.runs)]
            # Answers are as long as chance has it, and long ones are cheaper: a seed a round.
            lines = [
                begun_by(
                    case.processes,
                    *(str(WORKER), model, str(rows * case.rows_each), str(iterations)),
                    *(str(number + 1000 * run), str(result)),
                    threads=case.threads,
                )
                for run, result in enumerate(results)
            ]
            running = [
                subprocess.Popen(line, env=env, stdout=subprocess.DEVNULL) for line, env in lines
            ]
            ended = [process.wait() for process in running]
            if any(ended):
                raise SystemExit(f"{name}: a process has failed")
            cases[name].append(together([json.loads(result.read_text()) for result in results]))
    rates = {name: [case["tokens_per_second"] for case in found] for name, found in cases.items()}
    ratios = {
        f"{one} against {other}": of_seeds(
            [two / one for two, one in zip(rates[one], rates[other], strict=True)]
        )
        for one, other in (
            ("2 x 1", "1 x 1"),
            ("2 x 1", "1 x 2"),
            (APART, "1 x 1"),
            ("2 x 1", APART),
        )
    }
    return {"model": model, "rows": rows, "cases": cases, "ratios": ratios}


def spinning(output: Path, model: str, rounds: int, iterations: int, rows: int) -> dict[str, Any]:
    """Tokens a second of two threads as a multiple of one's, by what they do when idle."""
    usual = {name: os.environ.pop(name, None) for name in ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT")}
    found: dict[str, Any] = {"model": model, "rows": rows, "unset": usual}
    for others in (0, 2):
        # Ten times slower and more beside other programs: it would take the whole time.
        settings = {name: set_ for name, set_ in SPINNING.items() if set_ or not others}
        ratios: dict[str, list[float]] = {name: [] for name in settings}
        for number in range(rounds):
            rates = {}
            for name, variables in {"one thread": {}, **settings}.items():
                result = output / f"spinning-{others}-{number}-{len(rates)}.json"
                line, env = begun_by(
                    *(1, str(WORKER), model, str(rows), str(iterations), str(number), str(result)),
                    threads=2 if rates else 1,
                )
                busy = [subprocess.Popen([sys.executable, "-c", FOREVER]) for _ in range(others)]
                try:
                    quiet = subprocess.DEVNULL
                    subprocess.run(line, env={**env, **variables}, check=True, stdout=quiet)
                finally:
                    for program in busy:
                        program.kill()
                rates[name] = json.loads(result.read_text())["tokens_per_second"]
            for name, of_setting in ratios.items():
                of_setting.append(rates[name] / rates["one thread"])
        found[f"beside {others}"] = {name: of_seeds(values) for name, values in ratios.items()}
    return found


def together(runs: list[dict[str, Any]]) -> dict[str, Any]:
    """The figures of runs side by side: their rates are added."""
    rates = [run["tokens_per_second"] for run in runs]
    return {**runs[0], "tokens_per_second": sum(rates)}


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--output", type=Path, required=True, metavar="DIR")
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=PARTS)
    parser.add_argument("--quick", action="store_true", help="small sizes; its times mean nothing")
    parser.add_argument("--model", default="llm_gym/email-sft", help="of the throughput")
    parser.add_argument("--rounds", type=int, help="of the throughput (5, or 1 with --quick)")
    parser.add_argument("--iterations", type=int, help="of a round (6, or 1 with --quick)")
    parser.add_argument("--rows", type=int, default=32, help="of each process (32)")
    parser.add_argument("--seeds", type=int, help="of the curve (5, or 1 with --quick)")
    parser.add_argument("--tokens", type=int, help="of a run of the curve (100000, or 4000)")
    return parser.parse_args(arguments)


def main() -> None:
    options = parse()
    quick = options.quick
    rounds = options.rounds or (1 if quick else 5)
    seeds = options.seeds or (1 if quick else 5)
    tokens = options.tokens or (4_000 if quick else 100_000)
    output = options.output.resolve()
    output.mkdir(parents=True, exist_ok=False)
    results = record({"quick": quick, "rounds": rounds, "seeds": seeds, "rows": options.rows})
    if "exact" in options.parts:
        results["exact"] = found = exact(
            output, [2] if quick else [2, 4], "150" if quick else "3000"
        )
        for size, figures in found.items():
            equal = "equal" if figures["weights_equal"] else "NOT equal"
            print(f"{size} processes: gradients to {figures['largest_difference']:.1e}, {equal}")
    if "curve" in options.parts:
        results["curve"] = curve(output, seeds, tokens)
        for size, scores in results["curve"]["scores"].items():
            print(f"{size} process(es): score {told(scores, 2)}")
        print(f"difference {told(results['curve']['difference'], 2)}")
    if "throughput" in options.parts:
        iterations = options.iterations or (1 if quick else 6)
        results["throughput"] = found = throughput(
            output, options.model, rounds, iterations, options.rows
        )
        for name, cases in found["cases"].items():
            rate = of_seeds([case["tokens_per_second"] for case in cases])
            waiting = of_seeds([case["share_waiting"] for case in cases], is_share=True)
            print(f"{name}: {told(rate, 0)} tokens/s, waiting {told(waiting, 1, factor=100)} %")
        for name, ratio in found["ratios"].items():
            print(f"{name}: {told(ratio, 2)}")
    if "spinning" in options.parts:
        iterations = options.iterations or (1 if quick else 3)
        results["spinning"] = found = spinning(
            output, options.model, rounds, iterations, options.rows
        )
        for others in (0, 2):
            for name, ratio in found[f"beside {others}"].items():
                print(f"beside {others} programs, {name}: {told(ratio, 2)} of one thread")
    write_json(output / "results.json", results)


if __name__ == "__main__":
    main()
