"""Which tests should notice a fault at a place, and in what order to ask them.

The tests that call the function the fault is in: those that call little else, have words of the
line in them or are named after the module, then the quickest, for so many seconds. A fault in what
a function is called with by default is shown first to the tests of signatures. What each test calls
is found out once, by running them all with a trace: tests of the rooms where learning is, and of
other rooms those that are near a fault. What several processes do is seen by no trace; their tests
are asked last.
"""

from __future__ import annotations

import ast
import hashlib
import json
import math
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from benchmarks.faults.tester import NO_TESTS
from benchmarks.faults.workshop import Workshop
from llm_gym.files.atomic import write_json

# Rooms of tests that meet the environment, the policy, learning and checkpoints.
ROOMS = ("learning", "policy", "text", "turns", "runs", "language_models", "scorers")
ALSO = (
    "tests/files/test_atomic.py", "tests/files/test_owned.py", "tests/files/test_digests.py",
    "tests/test_end_tokens.py", "tests/test_prompt_format.py",
)  # fmt: skip
#: What only processes of a test's own call, and the tests that start them.
PROCESSES = ("llm_gym/parallel/", "llm_gym/learning/joined.py", "llm_gym/runs/own_state.py")
_OF_SEVERAL = ("processes.", "world().")
_SIGNATURES = "tests/test_signatures.py"
_THEIRS = [
    "-m", "slow or not slow", "tests/parallel/test_processes.py", "tests/parallel/test_parallel.py",
]  # fmt: skip
_HOURS = 3600.0
_MOST_SECONDS = 40.0  # of tests for one fault, a case of each test first
_WORTH = 12  # faults for which it pays to load all tests once
_NEAR = 25  # tests of each kind that are asked first
_QUICK_SECONDS = 0.3  # a test that takes less is asked before its file's others


def test_files(root: Path, faulty: Iterable[str]) -> list[str]:
    """Paths of the files of tests that are asked.

    Args:
        root: The tree.
        faulty: Files that faults are in.
    """
    found = [
        path.relative_to(root).as_posix()
        for room in ROOMS
        for path in sorted((root / "tests" / room).rglob("test_*.py"))
    ]
    found += ALSO
    others = [
        file for file in faulty if Path(file).parts[1] not in ROOMS and _own(file) not in ALSO
    ]
    tests = [*(root / "tests").rglob("test_*.py"), *root.glob("envs/*/tests/test_*.py")]
    for path in sorted(tests):
        name, text = path.relative_to(root), path.read_text(encoding="utf-8")
        if any(_is_near(name, text, Path(file)) for file in others):
            found.append(name.as_posix())
    return list(dict.fromkeys(found))


def _own(file: str) -> str:
    path = Path("tests", *Path(file).parts[1:])
    return path.with_name(f"test_{path.name}").as_posix()


def _is_near(test: Path, text: str, file: Path) -> bool:
    """Whether a file of tests imports a module, is named after it or its folder, or lies beside it.

    Tests in a browser take long, and are near only what they import.
    """
    if file.parts[0] == "envs":  # a plug-in has its tests beside it
        module = ".".join(file.with_suffix("").parts[2:])
        return test.parts[:2] == file.parts[:2] or module in text
    folder = Path("tests", *file.parts[1:-1])
    beside = test.parent == folder and len(folder.parts) > 2 and "browser" not in test.stem
    named = test.stem in {f"test_{file.stem}", f"test_{folder.name}"}
    return beside or named or ".".join(file.with_suffix("").parts) in text


class Fitting:
    """Knows which tests call a function.

    Args:
        workshop: Has the tests.
        kept: Where what was found out is kept, file by file; files of tests that have changed since
            are run again with a trace.
        faulty: The file of each fault that is to be tried.
    """

    def __init__(self, workshop: Workshop, kept: Path, faulty: Sequence[str] = ()) -> None:
        files = test_files(workshop.folder, faulty)
        digests = {file: _digest(workshop.folder / file) for file in files}
        known: dict[str, Any] = {"digests": {}, "tests": {}}
        if kept.exists():
            known = json.loads(kept.read_text(encoding="utf-8"))
        for file in files:
            if known["digests"].get(file) != digests[file]:
                tests = {n: t for n, t in known["tests"].items() if _file(n) != file}
                known["tests"] = tests | _reach(workshop, file)
                known["digests"][file] = digests[file]
                write_json(kept, known)
        self._tests = {n: t for n, t in known["tests"].items() if _file(n) in digests}
        self._words = _words_of_tests(workshop.folder, digests)
        if len(faulty) >= _WORTH:
            workshop.collect(list(digests))

    def groups(self, file: str, text: str, lines: range) -> list[list[str]]:
        """Groups of tests for a fault; the next is asked where no test of one fails.

        Args:
            file: Path in the tree.
            text: Its content, without the fault.
            lines: The lines that the fault changes, from 1.
        """
        line = " ".join(text.splitlines()[lines.start - 1 : lines.stop - 1])
        names = {f"{file}::{name}" for name in functions_at(text, lines)}
        first, room = Path(file).parts[:2]
        own = f"envs/{room}/tests/" if first == "envs" else f"tests/{room}/"
        reached = {n: t["seconds"] for n, t in self._tests.items() if names & set(t["functions"])}
        if not names:  # it is at the level of the module or of a class, which any test may read
            reached = {n: t["seconds"] for n, t in self._tests.items() if n.startswith(own)}
        near = self._near(reached, file, text, lines)
        ordered: list[str] = []
        total = 0.0
        for name in dict.fromkeys([*near, *_one_of_each_first(reached, own)]):
            total += reached[name]
            if total > _MOST_SECONDS and ordered:
                break
            ordered.append(name)
        later = ordered[len(near) :]
        quick = [name for name in later if reached[name] < _QUICK_SECONDS]
        slow = [name for name in later if reached[name] >= _QUICK_SECONDS]
        groups = [[n for n in quick if n.startswith(own)], [n for n in quick if own not in n]]
        several = file.startswith(PROCESSES) or any(call in line for call in _OF_SEVERAL)
        theirs = _THEIRS if several else []
        defaults = [] if names or first == "envs" else [_SIGNATURES]
        return [g for g in (defaults, ordered[: len(near)], *groups, slow, theirs) if g]

    def _near(self, reached: dict[str, float], file: str, text: str, lines: range) -> list[str]:
        """Tests that call little else, that speak of what stands there, or of the module."""
        told = words(" ".join(text.splitlines()[lines.start - 1 : lines.stop - 1]))
        told |= words(" ".join(functions_at(text, lines)))
        spoken = {name: self._words.get(_function(name), set()) for name in reached}
        count = Counter(word for said in spoken.values() for word in said & told)
        weight = {word: math.log(len(reached) / n) for word, n in count.items()}
        shared = {n: sum(weight[word] for word in said & told) for n, said in spoken.items()}
        calls = {n: len(self._tests[n]["functions"]) for n in reached}
        by_words = sorted(reached, key=lambda n: (-shared[n], reached[n]))
        by_calls = sorted(reached, key=lambda n: (calls[n], reached[n]))
        own = sorted((n for n in reached if _file(n) == _own(file)), key=lambda n: reached[n])
        near = {*by_words[:_NEAR], *by_calls[:_NEAR], *own[:_NEAR]}
        return sorted(near, key=lambda n: reached[n])


def words(text: str) -> set[str]:
    """The words of names and sentences in a text, `first_ratio` being two."""
    return {word for word in re.split(r"[^a-z]+", text.lower()) if len(word) > 2}


def _words_of_tests(root: Path, files: Iterable[str]) -> dict[str, set[str]]:
    found = {}
    for file in files:
        text = (root / file).read_text(encoding="utf-8")
        lines = text.splitlines()
        for node in _functions(ast.parse(text)):
            source = "\n".join(lines[_first_line(node) - 1 : node.end_lineno])
            found[f"{file}::{node.name}"] = words(source)
    return found


def _first_line(node: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    return min([node.lineno, *(decorator.lineno for decorator in node.decorator_list)])


def _function(test: str) -> str:
    """File and function of a test, without its class and its case."""
    file, *_, name = test.partition("[")[0].split("::")
    return f"{file}::{name}"


def _file(test: str) -> str:
    return test.partition("::")[0]


def _one_of_each_first(seconds: dict[str, float], own: str) -> list[str]:
    """Tests in order: of each, its quickest case, those of its own room first; then other cases."""
    ordered = sorted(seconds, key=lambda name: (not name.startswith(own), seconds[name]))
    first: dict[str, str] = {}
    for name in ordered:
        first.setdefault(name.partition("[")[0], name)
    chosen = set(first.values())
    return [*first.values(), *(name for name in ordered if name not in chosen)]


def functions_at(text: str, lines: range) -> set[str]:
    """Names of the innermost functions that have one of these lines in their body."""
    functions, names = list(_functions(ast.parse(text))), set()
    for line in lines:
        inside = [node for node in functions if _has(node, line)]
        if inside:
            names.add(max(inside, key=lambda node: node.lineno).name)
    return names


def _functions(tree: ast.AST) -> Iterable[ast.FunctionDef | ast.AsyncFunctionDef]:
    return (n for n in ast.walk(tree) if isinstance(n, (ast.FunctionDef, ast.AsyncFunctionDef)))


def _has(node: ast.FunctionDef | ast.AsyncFunctionDef, line: int) -> bool:
    return node.body[0].lineno <= line <= (node.end_lineno or 0)


def _reach(workshop: Workshop, file: str) -> dict[str, dict[str, Any]]:
    told = workshop.folder / "reach.json"
    failed = workshop.failing([[file]], _HOURS, told)
    if failed == NO_TESTS:  # all are slow
        return {}
    if failed:
        raise RuntimeError(f"{failed} fails on the tree as it is: mend that first")
    return json.loads(told.read_text(encoding="utf-8"))


def _digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()[:16]
