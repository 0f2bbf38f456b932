"""The figures of the house: rooms, floors, knots, lengths, and how often the same thing is written.

    python benchmarks/house/measure.py

Counts are read from the code (imports by grimp, definitions by `ast`); the way of RLOO is traced
while it learns from a few tokens. Things that should be there once are found by what gives them
away, described beside each: a heuristic, which prints what it found.
"""

from __future__ import annotations

import argparse
import ast
import inspect
import json
import os
import sys
from collections import defaultdict
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
LIBRARY = ROOT / "llm_gym"
WANTED = {
    "rooms": 17,
    "rooms in a knot": 0,
    "arrows that run back up": 0,
    "lines": 28_000,
    "files": 170,
    "files from RLOO.learn to the optimizer step": 22,
    "class levels of RLOO": 3,
    "parameters of PolicyGradient": 19,
    "records of an answer": 1,
    "packers of answers": 1,
    "supervised loops": 1,
    "resumable run directories": 1,
    "bootstraps": 1,
}


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    options = parser.parse_args()
    os.environ["HF_HUB_OFFLINE"] = "1"
    figures = {**plan(), **algorithm(), **written_once()}
    if options.json:
        print(json.dumps(figures, indent=2))
        return 0
    for name, (value, places) in figures.items():
        mark = "" if value <= WANTED[name] else "  <-- too many"
        print(f"{name:<46}{value:>8,}   wanted {WANTED[name]:,}{mark}")
        for place in places:
            print(f"      {place}")
    return 0


# ------------------------------------------------------------------ the plan


def plan() -> dict[str, tuple[int, list[str]]]:
    """Rooms directly under the library, what ties them in circles, and its size."""
    rooms = [
        path.name
        for path in LIBRARY.iterdir()
        if path.suffix == ".py" or (path / "__init__.py").exists()
    ]
    arrows = _arrows()
    knots = sorted(room for knot in _knots(arrows) for room in knot)
    floors = _floors()
    up = [
        f"{room} -> {below}"
        for room in sorted(arrows)
        for below in sorted(arrows[room])
        if room in floors and below in floors and floors[room] <= floors[below]
    ]
    files = sorted(LIBRARY.rglob("*.py"))
    lines = sum(len(path.read_text(encoding="utf-8").splitlines()) for path in files)
    return {
        "rooms": (len(rooms), [" ".join(sorted(rooms))]),
        "rooms in a knot": (len(knots), knots),
        "arrows that run back up": (len(up), up),
        "lines": (lines, []),
        "files": (len(files), []),
    }


def _arrows() -> dict[str, set[str]]:
    """The rooms that each room imports from, anywhere in its files but for types."""
    import grimp

    graph = grimp.build_graph("llm_gym", exclude_type_checking_imports=True, cache_dir=None)
    arrows: dict[str, set[str]] = defaultdict(set)
    for module in graph.modules:
        for imported in graph.find_modules_directly_imported_by(module):
            room, below = (name.split(".")[1:2] for name in (module, imported))
            if room and below and room != below:
                arrows[room[0]].add(below[0])
    return arrows


def _floors() -> dict[str, int]:
    """Rooms by floor, the ground being 0, as the import contract in `pyproject.toml` has them."""
    if sys.version_info >= (3, 11):
        import tomllib
    else:
        import tomli as tomllib
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    layers = settings["tool"]["importlinter"]["contracts"][0]["layers"]
    return {
        room.strip(): floor
        for floor, layer in enumerate(reversed(layers))
        for room in layer.replace(":", "|").split("|")
    }


def _knots(arrows: dict[str, set[str]]) -> list[set[str]]:
    """Groups of rooms that reach each other."""

    def reached_from(start: str) -> set[str]:
        seen: set[str] = set()
        waiting = [start]
        while waiting:
            for below in arrows.get(waiting.pop(), ()):
                if below not in seen:
                    seen.add(below)
                    waiting.append(below)
        return seen

    reach = {room: reached_from(room) for room in list(arrows)}
    knots = [
        {name for name in reach if name in reach[room] and room in reach[name]}
        for room in reach
        if room in reach[room]
    ]
    return [knot for index, knot in enumerate(knots) if knot not in knots[:index]]


# ------------------------------------------------------------------ the algorithm


def algorithm() -> dict[str, tuple[int, list[str]]]:
    """What RLOO consists of: files whose functions run in `learn()`, classes, parameters."""
    import llm_gym

    files = files_that_run(llm_gym.RLOO)
    levels = [c.__name__ for c in llm_gym.RLOO.__mro__ if c.__module__.startswith("llm_gym")]
    parameters = list(inspect.signature(llm_gym.PolicyGradient.__init__).parameters)[1:]
    public = [name for name in parameters if not name.startswith("_")]
    return {
        "files from RLOO.learn to the optimizer step": (len(files), files),
        "class levels of RLOO": (len(levels), levels),
        "parameters of PolicyGradient": (len(parameters), [" ".join(public)]),
    }


def files_that_run(algorithm: Callable[..., Any]) -> list[str]:
    """Files of the library whose functions run while an algorithm learns from one rollout."""
    import gymnasium as gym

    env = gym.make_vec(
        "llm_gym/PoliteEmail-v0",
        num_envs=4,
        group_size=2,
        autoreset_mode="SameStep",
        max_new_tokens=6,
    )
    agent = algorithm(
        "TransformerPolicy",
        env,
        seed=0,
        device="cpu",
        policy_kwargs={"model": "llm_gym/email-sft"},
    )
    ran: set[str] = set()

    def note(frame: Any, event: str, argument: Any) -> None:
        if event == "call" and frame.f_code.co_filename.startswith(str(LIBRARY)):
            ran.add(Path(frame.f_code.co_filename).relative_to(LIBRARY).as_posix())

    sys.setprofile(note)
    try:
        agent.learn(24)
    finally:
        sys.setprofile(None)
    return sorted(ran)


# ------------------------------------------------------------------ written once


def written_once() -> dict[str, tuple[int, list[str]]]:
    """Things of which there should be one, and where each was found."""
    records: list[str] = []
    packers: list[str] = []
    loops: list[str] = []
    directories: list[str] = []
    bootstraps: list[str] = []
    for path in sorted(LIBRARY.rglob("*.py")):
        place = path.relative_to(LIBRARY).as_posix()
        tree = ast.parse(path.read_text(encoding="utf-8"))
        for node in ast.walk(tree):
            if isinstance(node, ast.ClassDef) and _is_record_of_an_answer(node):
                records.append(f"{place}: {node.name}")
        for function in _functions(tree):
            where = f"{place}: {function.name}"
            if _pads_rows(function):
                packers.append(where)
            if not place.startswith("learning/") and _takes_steps(function):
                loops.append(where)
            if _refuses_a_run(function):
                directories.append(where)
            if {"integers", "quantile"} & _called(function) == {"integers", "quantile"} or (
                "integers" in _called(function) and "resampl" in ast.unparse(function)
            ):
                bootstraps.append(where)
    places_of = {
        "records of an answer": records,
        "packers of answers": packers,
        "supervised loops": loops,
        "resumable run directories": directories,
        "bootstraps": bootstraps,
    }
    return {name: (len(places), places) for name, places in places_of.items()}


def _functions(tree: ast.AST) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    for node in ast.walk(tree):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            yield node


def _called(function: ast.AST) -> set[str]:
    """Last names of what a function calls."""
    return {
        node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
        for node in ast.walk(function)
        if isinstance(node, ast.Call)
    }


def _is_record_of_an_answer(node: ast.ClassDef) -> bool:
    """A class of fields, among them the answer's tokens, or its score beside its text."""
    fields = {
        item.target.id
        for item in node.body
        if isinstance(item, ast.AnnAssign) and isinstance(item.target, ast.Name)
    }
    return "completion_ids" in fields or fields >= {"completion", "score"}


def _takes_steps(function: ast.AST) -> bool:
    """Has a loop, in its own body, that takes optimizer steps."""
    return any(
        {"backward", "training_step"} & _called(loop)
        for loop in ast.walk(function)
        if isinstance(loop, (ast.For, ast.While))
    )


def _pads_rows(function: ast.AST) -> bool:
    """Writes rows of different lengths into a rectangle: `batch[i, : len(row)] = row` in a loop."""
    for loop in ast.walk(function):
        if not isinstance(loop, ast.For):
            continue
        for node in ast.walk(loop):
            if not isinstance(node, ast.Assign) or not isinstance(node.targets[0], ast.Subscript):
                continue
            index = node.targets[0].slice
            if isinstance(index, ast.Tuple) and len(index.elts) == 2:
                row, columns = index.elts
                if isinstance(row, ast.Name) and isinstance(columns, ast.Slice) and columns.upper:
                    return True
    return False


def _refuses_a_run(function: ast.AST) -> bool:
    """Says that a directory already holds something."""
    return any(
        isinstance(node, ast.Constant)
        and isinstance(node.value, str)
        and ("already holds" in node.value or "holds an unfinished" in node.value)
        for raised in ast.walk(function)
        if isinstance(raised, ast.Raise)
        for node in ast.walk(raised)
    )


if __name__ == "__main__":
    sys.path.insert(0, str(ROOT))
    sys.exit(main())
