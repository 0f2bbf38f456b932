"""Faults that a tool puts into the library by its syntax: does a test fail?

The tool is cosmic-ray (`pip install 'llm-gym[mutation]'`): its operators make the mutants, its
session, a file of SQLite, keeps what was tried, so a run that was stopped goes on. Tests are run as
`mutants.py` runs them: those that call the function at fault, the quickest first, in a process that
has the libraries loaded. A mutant that changes nothing but annotations and docstrings is none.

What survived is judged in `survivors.md`: mended by a test, or equivalent, with the reason. The
equivalent ones are left out of the count.

    python -m benchmarks.faults.mutation --output runs/faults --quick
    python -m benchmarks.faults.mutation --output runs/faults --share 0.1
    python -m benchmarks.faults.mutation --output runs/faults --share 0.1 --again
    python -m benchmarks.faults.mutation --output runs/faults --share 0.01 --seed 1

Whoever has mended what survived asks another seed, whose mutants no test has been written for.
"""

from __future__ import annotations

import argparse
import ast
import difflib
import hashlib
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from benchmarks.common import ROOT
from benchmarks.faults.fitting import Fitting
from benchmarks.faults.rows import Row, with_interval
from benchmarks.faults.workshop import Workshop

if TYPE_CHECKING:
    from cosmic_ray.work_db import WorkDB
    from cosmic_ray.work_item import MutationSpec

SURVIVORS = Path(__file__).with_name("survivors.md")
#: Environment, policy, buffer, advantages, losses, algorithms, checkpoints.
MODULES = (
    "llm_gym/text/episodes.py", "llm_gym/text/masking.py", "llm_gym/text/mdp.py",
    "llm_gym/text/prompt_sources.py", "llm_gym/text/rows.py", "llm_gym/text/scoring.py",
    "llm_gym/text/token_env.py", "llm_gym/text/token_vector.py", "llm_gym/text/vocabulary.py",
    "llm_gym/turns/as_turns.py", "llm_gym/turns/turn_format.py", "llm_gym/turns/turn_rows.py",
    "llm_gym/turns/worlds.py", "llm_gym/language_models/adapter_bases.py",
    "llm_gym/language_models/packing.py", "llm_gym/language_models/trained_types.py",
    "llm_gym/parallel/shared_memory.py", "llm_gym/policy/checks.py",
    "llm_gym/policy/last_layer.py", "llm_gym/policy/packed_rows.py",
    "llm_gym/policy/prefix_cache.py", "llm_gym/policy/sampling.py",
    "llm_gym/policy/tied_gradients.py", "llm_gym/policy/transformer_policy.py",
    "llm_gym/policy/trunk.py", "llm_gym/policy/variants.py",
    "llm_gym/policy/vocabulary_blocks.py", "llm_gym/policy/watching.py",
    "llm_gym/learning/advantages.py", "llm_gym/learning/answer_algorithm.py",
    "llm_gym/learning/answers.py", "llm_gym/learning/base.py", "llm_gym/learning/buffer.py",
    "llm_gym/learning/dpo.py", "llm_gym/learning/expert_iteration.py", "llm_gym/learning/kl.py",
    "llm_gym/learning/losses.py", "llm_gym/learning/minibatches.py",
    "llm_gym/learning/objective.py", "llm_gym/learning/policy_gradient.py",
    "llm_gym/learning/ppo.py", "llm_gym/learning/presets.py", "llm_gym/learning/rounds.py",
    "llm_gym/learning/schedules.py",
    "llm_gym/learning/shaping.py", "llm_gym/learning/vec_env.py", "llm_gym/runs/checkpoint.py",
    "llm_gym/runs/misfit.py", "llm_gym/runs/ties.py", "llm_gym/runs/training_state.py",
    "llm_gym/text/saved_state.py", "llm_gym/files/atomic.py", "llm_gym/files/owned.py",
)  # fmt: skip
_QUICK_SHARE, _SHARE = 0.003, 0.03


class Change(NamedTuple):
    """What a mutant does to a file: the lines it takes away and puts in, without indentation."""

    file: str
    before: str
    after: str


def is_change(before: str, after: str) -> bool:
    """Whether the second is Python, and differs in more than annotations and docstrings."""
    try:
        return ast.dump(_bare(before)) != ast.dump(_bare(after))
    except SyntaxError:
        return False


def _bare(text: str) -> ast.AST:
    tree = ast.parse(text)
    for node in ast.walk(tree):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            node.returns = None
        if isinstance(node, ast.arg):
            node.annotation = None
        if isinstance(node, ast.AnnAssign):
            node.annotation = ast.Constant(None)
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
            node.value = ast.Constant(None)
    return tree


def change_of(file: str, before: str, after: str) -> Change:
    """The lines that differ."""
    lines = list(difflib.ndiff(before.splitlines(), after.splitlines()))
    taken, put = ([line[2:].strip() for line in lines if line[0] == sign] for sign in "-+")
    return Change(file, " ".join(taken).strip(), " ".join(put).strip())


def verdicts(path: Path = SURVIVORS) -> dict[Change, str]:
    """What is said of survivors: the rows of a table `| file | before | after | verdict |`."""
    found = {}
    for line in path.read_text(encoding="utf-8").splitlines():
        cells = [cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]]
        if len(cells) == 4 and cells[0].startswith("`"):
            file, before, after = (cell.strip("`").replace(r"\|", "|") for cell in cells[:3])
            found[Change(file, before.strip(), after.strip())] = cells[3]
    return found


def row_in_table(change: Change, verdict: str = "") -> str:
    """A line of the table of survivors."""
    cells = [f"`{text}`".replace("|", r"\|") for text in change]
    return f"| {' | '.join([*cells, verdict])} |"


# ------------------------------------------------------------------ the tool


def _drawn(session: WorkDB, share: float, seed: int, root: Path) -> list[tuple[str, MutationSpec]]:
    """The session's mutants that are in a share of all: the same ones each time, in random order.

    A smaller share is the beginning of a larger one, and so is what a run has tried that was
    stopped.
    """
    salt = f"{seed}|" if seed else ""
    numbered = []
    for item in session.work_items:
        [mutation] = item.mutations
        file = mutation.module_path.relative_to(root).as_posix()
        name = f"{file}|{mutation.operator_name}|{mutation.operator_args}|{mutation.occurrence}"
        number = int(hashlib.sha256(f"{salt}{name}".encode()).hexdigest()[:8], 16)
        if number < share * 2**32:
            numbered.append((number, name, item.job_id, mutation))
    return [(job, mutation) for _, _, job, mutation in sorted(numbered, key=lambda n: n[:2])]


def _open(path: Path, root: Path, modules: Sequence[str]) -> WorkDB:
    """The session; made anew where the library is no longer what it was made of."""
    from cosmic_ray.commands import init
    from cosmic_ray.work_db import WorkDB

    digest = hashlib.sha256(b"".join((root / m).read_bytes() for m in modules)).hexdigest()[:16]
    session = WorkDB(path.with_name(f"{path.stem}-{digest}.sqlite"), WorkDB.Mode.create)
    if not session.num_work_items:
        init([root / module for module in modules], session, {})
    return session


def _mutated(mutation: MutationSpec, text: str) -> str | None:
    from cosmic_ray.mutating import mutate_code
    from cosmic_ray.plugins import get_operator

    operator = get_operator(mutation.operator_name)(**mutation.operator_args)
    return mutate_code(text, operator, mutation.occurrence)


def try_out(
    output: Path,
    share: float,
    *,
    again: bool = False,
    seed: int = 0,
    root: Path = ROOT,
    modules: Sequence[str] = MODULES,
    only: str = "",
) -> dict[Change, str]:
    """Which test failed on each mutant of a share; an empty text if none did.

    Args:
        output: Folder of the session and of the copy of the tree.
        share: Share of all mutants, 0 to 1.
        again: Try those that survived before once more.
        seed: Of the draw.
        root: The tree.
        modules: Paths of the modules in it.
        only: Try those whose module's path contains this.
    """
    from cosmic_ray.work_item import TestOutcome, WorkerOutcome, WorkResult

    output.mkdir(parents=True, exist_ok=True)
    session = _open(output / "mutation.sqlite", root, modules)
    done = dict(session.results)
    texts = {module: (root / module).read_text(encoding="utf-8") for module in modules}
    results: dict[Change, str] = {}
    left: list[tuple[str, MutationSpec, Change, str]] = []
    for job, mutation in _drawn(session, share, seed, root):
        file = mutation.module_path.relative_to(root).as_posix()
        if only not in file:
            continue
        mutated = _mutated(mutation, texts[file])
        if mutated is None or not is_change(texts[file], mutated):
            continue
        change, result = change_of(file, texts[file], mutated), done.get(job)
        if result is None or (again and result.test_outcome == TestOutcome.SURVIVED):
            left.append((job, mutation, change, mutated))
        else:
            results[change] = result.output or ""
    if left:
        with Workshop(output / "tree", root) as workshop:
            faulty = [change.file for _, _, change, _ in left]
            fitting = Fitting(workshop, output / "reach.json", faulty)
            for number, (job, mutation, change, mutated) in enumerate(left, 1):
                lines = range(mutation.start_pos[0], mutation.end_pos[0] + 1)
                groups = fitting.groups(change.file, texts[change.file], lines)
                failed = workshop.failing_on(change.file, mutated, groups) or ""
                outcome = TestOutcome.KILLED if failed else TestOutcome.SURVIVED
                session.set_result(job, WorkResult(WorkerOutcome.NORMAL, failed, outcome))
                results[change] = failed
                print(
                    f"{number}/{len(left)} {row_in_table(change, failed or 'SURVIVED')}", flush=True
                )
    session.close()
    return results


def row_of(results: dict[Change, str], known: dict[Change, str]) -> Row:
    """The row of the table: how many of those that are not known to be equivalent were caught."""
    counted = {c: f for c, f in results.items() if not known.get(c, "").startswith("equivalent")}
    survived = [change for change, failed in counted.items() if not failed]
    return Row(
        "mutants made by a tool that a test catches",
        len(counted) - len(survived),
        len(counted),
        [row_in_table(change) for change in survived],
    )


def measure(output: Path, quick: bool) -> list[Row]:
    """Tries a share of the mutants.

    Args:
        output: Folder of the session and of the copy of the tree.
        quick: Try a small share.
    """
    share = _QUICK_SHARE if quick else _SHARE
    return [row_of(try_out(output, share), verdicts())]


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the script; returns the exit code: 1 if a mutant survived."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--output", type=Path, required=True, help="folder of session and copy")
    parser.add_argument("--quick", action="store_true", help=f"a share of {_QUICK_SHARE}")
    parser.add_argument("--share", type=float, default=_SHARE, help="share of all mutants")
    parser.add_argument("--again", action="store_true", help="try those that survived once more")
    parser.add_argument("--only", default="", help="modules whose path contains this")
    parser.add_argument("--seed", type=int, default=0, help="another draws other mutants")
    given = parser.parse_args(argv)
    share = _QUICK_SHARE if given.quick else given.share
    results = try_out(given.output, share, again=given.again, seed=given.seed, only=given.only)
    known = verdicts()
    for room in sorted({change.file.split("/")[1] for change in results}):
        part = row_of({c: f for c, f in results.items() if c.file.split("/")[1] == room}, known)
        print(f"{room}: {with_interval(part)}")
    row = row_of(results, known)
    print(f"{row.what}: {with_interval(row)}")
    for failure in row.failures:
        print(failure)
    return 1 if row.failures else 0


if __name__ == "__main__":
    sys.exit(main())
