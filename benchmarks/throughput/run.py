"""How fast is a token, and how much memory does it take? All systems on one workload, in turns.

In workload W all answers are equally long, in R they are as ragged as emails. C asks what a token
costs where there are more rows, or longer answers (half an hour; one epoch).

Each system runs in a process of its own and does one batch when its turn comes, so that a change
in the machine's load hits all of them; CPU seconds are the steadier unit. The peers are run if
`install_peers.py` has installed them, and are named as skipped otherwise.

    python benchmarks/throughput/run.py --quick --output runs/throughput
    python benchmarks/throughput/run.py --output runs/throughput
    python benchmarks/throughput/run.py --workload r --output runs/ragged
    python benchmarks/throughput/run.py --workload c --output runs/curves
    python benchmarks/throughput/run.py --device cuda --model gpt2-small --output runs/cuda
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from benchmarks.common import record
from benchmarks.throughput.entries import ENTRIES, RATIOS, WORKLOADS
from benchmarks.throughput.figures import draw, draw_curves, print_tables, ratio_figures
from benchmarks.throughput.measuring import Settings, measure
from benchmarks.workload import MODEL_SIZES
from llm_gym.files.atomic import write_json


def parse(arguments: list[str] | None = None) -> tuple[Settings, Path]:
    """Settings and output folder from the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--output", type=Path, required=True, metavar="DIR")
    parser.add_argument("--quick", action="store_true", help="about 4 minutes on 2 cores")
    parser.add_argument("--workload", choices=WORKLOADS, default="w", help="whose systems (w)")
    parser.add_argument("--systems", nargs="+", choices=ENTRIES, metavar="SYSTEM", help=_names())
    parser.add_argument("--rounds", type=int, help="counted batches (5, or 2 with --quick)")
    parser.add_argument("--threads", type=int, default=1, help="of each system (1)")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--model", choices=MODEL_SIZES, default="w")
    parser.add_argument(
        "--clock", choices=("cpu", "wall"), help="seconds of the ratios (wall on CUDA, else cpu)"
    )
    options = parser.parse_args(arguments)
    rounds = options.rounds if options.rounds is not None else (2 if options.quick else 5)
    for name, value in (("--rounds", rounds), ("--threads", options.threads)):
        if value < 1:
            parser.error(f"{name} {value} must be at least 1")
    if options.device == "cuda":
        import torch

        if not torch.cuda.is_available():
            parser.error("--device cuda: torch sees no CUDA device here; use --device cpu")
    settings = Settings(
        systems=tuple(options.systems or WORKLOADS[options.workload]),
        rounds=rounds,
        quick=options.quick,
        threads=options.threads,
        device=options.device,
        model=options.model,
        clock=options.clock or ("wall" if options.device == "cuda" else "cpu"),
    )
    return settings, options.output


def _names() -> str:
    return "of " + ", ".join(ENTRIES)


def main() -> None:
    """Measure, print the tables, write `results.json` and `throughput.png`."""
    settings, output = parse()
    results = record(settings.as_dict())
    results["systems"] = measure(settings, output, lambda line: print(line, flush=True))
    results["ratio_details"] = ratio_figures(results["systems"], settings.clock)
    results["ratios"] = {
        name: results["ratio_details"].get(name, {}).get("value") for name in RATIOS
    }
    write_json(output / "results.json", results)
    draw(results, output / "throughput.png")
    draw_curves(results, output / "cost_of_a_token.png")
    print_tables(results)
    print(f"wrote {output / 'results.json'} and {output / 'throughput.png'}")


if __name__ == "__main__":
    main()
