"""Published claims, judged against exact gradients and optima; writes one table.

A claim is a small file in `cases/`: what was published, where, the test, the threshold. A loss is
one, too: it is judged by the direction of its gradient, whoever wrote it. Trials are kept in
`DIR/trials.jsonl`, so that an interrupted session goes on with the same command.

    python benchmarks/claims/run.py --quick --output runs/claims-quick
    python benchmarks/claims/run.py --output runs/claims --write docs/claims.md
    python benchmarks/claims/run.py --output runs/claims --only "kl: k1" gspo
"""

from __future__ import annotations

import argparse
import importlib.util
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import torch
from transformers.utils.logging import disable_progress_bar

from benchmarks.algorithms.store import OtherRunsError, RunStore
from benchmarks.claims.claim import Claim, Judgement
from benchmarks.claims.court import Court
from benchmarks.claims.losses import Loss
from benchmarks.claims.page import page
from benchmarks.claims.standing import row_of, standing_claim
from benchmarks.common import record
from llm_gym.files.atomic import write_json, write_text
from llm_gym.files.provenance import versions

CASES = Path(__file__).parent / "cases"


@dataclass
class Docket:
    """What is to be judged.

    Attributes:
        claims: Published ones, in order.
        losses: Losses, each of which makes the standing claim.
    """

    claims: list[Claim] = field(default_factory=list)
    losses: list[Loss] = field(default_factory=list)

    def all_claims(self) -> list[Claim]:
        """Published ones, and the standing one of each loss."""
        return [*self.claims, *map(standing_claim, self.losses)]

    def only(self, names: Sequence[str]) -> Docket:
        """What begins with one of the names; all, if there are none.

        Raises:
            ValueError: A name fits nothing.
        """
        known = [one.name for one in (*self.claims, *self.losses)]
        for name in names:
            if not any(one.lower().startswith(name.lower()) for one in known):
                raise ValueError(f"only={name!r} fits no claim and no loss: {', '.join(known)}")
        prefixes = tuple(name.lower() for name in names) or ("",)
        return Docket(
            [claim for claim in self.claims if claim.name.lower().startswith(prefixes)],
            [loss for loss in self.losses if loss.name.lower().startswith(prefixes)],
        )


def load(directory: Path = CASES) -> Docket:
    """Claims and losses of all files of a directory.

    Raises:
        ValueError: A file has neither `CLAIMS` nor `LOSSES`, or two have one name.
    """
    docket = Docket()
    for path in sorted(directory.glob("[!_]*.py")):
        name = f"benchmarks.claims.cases.{path.stem}"
        if directory != CASES:
            name = f"_claims_{path.stem}"
        spec = importlib.util.spec_from_file_location(name, path)
        assert spec is not None
        assert spec.loader is not None
        module = sys.modules.get(name) or importlib.util.module_from_spec(spec)
        if name not in sys.modules:
            sys.modules[name] = module
            spec.loader.exec_module(module)
        claims, losses = getattr(module, "CLAIMS", []), getattr(module, "LOSSES", [])
        if not claims and not losses:
            raise ValueError(f"{path} has neither CLAIMS nor LOSSES: a case is one or the other")
        docket.claims += claims
        docket.losses += losses
    names = [claim.name for claim in docket.all_claims()]
    for one in names:
        if names.count(one) > 1:
            raise ValueError(f"two claims in {directory} have the name {one!r}; rename one")
    return docket


def judge(docket: Docket, court: Court) -> tuple[dict[str, Judgement], dict[str, float]]:
    """Judgements by name, and CPU seconds of each, its trials of earlier runs included."""
    judgements, seconds = dict[str, Judgement](), dict[str, float]()
    for claim in docket.all_claims():
        before, started, done = court.cpu_seconds, time.process_time(), court.done_seconds
        judgements[claim.name] = found = claim.judge(court)
        here = time.process_time() - started - (court.done_seconds - done)
        seconds[claim.name] = court.cpu_seconds - before + here
        print(f"{claim.name}: {found.verdict}, {found.figure.told()}", flush=True)
    return judgements, seconds


def parse(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--output", type=Path, required=True, metavar="DIR")
    parser.add_argument("--quick", action="store_true", help="in seconds; the figures mean little")
    parser.add_argument("--only", nargs="+", default=[], metavar="NAME", help="or its beginning")
    parser.add_argument("--cases", type=Path, default=CASES, metavar="DIR", help="other cases")
    parser.add_argument("--write", type=Path, metavar="FILE", help="the page, as docs/ has it")
    return parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None) -> dict[str, Any]:
    """Judges, prints verdicts, writes `results.json` and the page."""
    options = parse(arguments)
    torch.set_num_threads(1)
    disable_progress_bar()
    try:
        docket = load(options.cases).only(options.only)
        store = RunStore(options.output / "trials.jsonl", versions())
    except (OtherRunsError, ValueError) as error:
        raise SystemExit(str(error)) from error
    court = Court(store, quick=options.quick)
    judgements, seconds = judge(docket, court)
    rows = {loss.name: row_of(court, loss) for loss in docket.losses}
    results = record({"quick": options.quick, "only": options.only}) | {
        "claims": {name: asdict(found) for name, found in judgements.items()},
        "losses": {
            name: {**row, **{k: asdict(row[k]) for k in ("stale", "j_over_jstar")}}
            for name, row in rows.items()
        },
        "cpu_seconds": seconds,
        "all_cpu_seconds": sum(run["cpu_seconds"] for run in store.runs),
    }
    write_json(options.output / "results.json", results)
    if options.write is not None:
        write_text(options.write, page(docket.claims, docket.losses, judgements, rows, results))
    return results


if __name__ == "__main__":
    main()
