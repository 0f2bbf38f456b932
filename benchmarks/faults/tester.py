"""Runs tests in forks of a process that has the heavy libraries loaded: seconds saved each time.

Started by `workshop.Workshop` in a copy of the tree. Reads orders from standard input, JSON each on
a line (`{"groups": [[...], ...], "seconds": 300}`), and answers each on a line of standard output:
`{"failed": TEST}`, the first test that failed, or `null` if all passed. With `"reach": FILE` in the
order, the file is told which functions of the library each test calls. Libraries are loaded once
the first run has told which the tests need.

`{"collect": [FILE, ...]}` loads the library and tests too, once and for all. Then `"swap": [PATH,
OLD, NEW]` in an order gives a file's functions the code of another text, or answers `CANNOT_SWAP`.
"""

from __future__ import annotations

import contextlib
import gc
import importlib
import importlib.util
import json
import math
import os
import resource
import select
import signal
import sys
import threading
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from types import FrameType
from typing import Any

from benchmarks.faults.swap import CannotSwapError, Functions, loaded_functions, swap

# What a fork must read for itself: the files that change are in it.
OURS = ("llm_gym", "tests", "agents", "benchmarks", "conftest", "test_", "__", "pytest", "_pytest")
TIMEOUT, NO_TESTS, CANNOT_SWAP = "timeout", "no tests were found", "cannot swap"
OPTIONS = ["-x", "-q", "-m", "not slow", "-p", "no:cacheprovider", "--basetemp=.tests"]
if importlib.util.find_spec("pytest_randomly"):  # in the given order, with the same numbers
    OPTIONS += ["--randomly-dont-reorganize", "--randomly-seed=0"]
LONGEST = 30  # seconds of the processor for one test, each of which needs a few; then it hangs


class FirstFailure:
    """A plugin of pytest that keeps the name of what failed first, and ends a test that hangs."""

    def __init__(self) -> None:
        self.name: str | None = None

    def pytest_runtest_logstart(self, nodeid: str, location: Any) -> None:
        hard = resource.getrlimit(resource.RLIMIT_CPU)[1]
        resource.setrlimit(resource.RLIMIT_CPU, (math.ceil(time.process_time()) + LONGEST, hard))

    def pytest_runtest_logreport(self, report: Any) -> None:
        if report.failed and self.name is None:
            self.name = report.nodeid

    def pytest_collectreport(self, report: Any) -> None:
        if report.failed and self.name is None:
            self.name = f"{report.nodeid} (collection)"


def of_library(folder: str) -> tuple[str, ...]:
    """How paths of the library and of its plug-ins begin in a tree, whose path ends in a slash."""
    return f"{folder}llm_gym", f"{folder}envs"


class Reach:
    """A plugin of pytest that notes which functions of the library each test calls.

    Functions are known by file and name, `llm_gym/learning/kl.py::update`, so that lines that are
    added elsewhere do not matter.
    """

    def __init__(self, folder: Path) -> None:
        self._prefix = f"{folder}{os.sep}"
        self._called: set[Any] = set()
        self.of_tests: dict[str, dict[str, Any]] = {}

    def _trace(self, frame: FrameType, event: str, arg: Any) -> None:
        self._called.add(frame.f_code)

    def pytest_runtest_logstart(self, nodeid: str, location: Any) -> None:
        self._called, self._started = set(), time.process_time()
        threading.settrace(self._trace)
        sys.settrace(self._trace)

    def pytest_runtest_logfinish(self, nodeid: str, location: Any) -> None:
        sys.settrace(None)
        threading.settrace(None)  # type: ignore[arg-type]
        functions = {
            f"{code.co_filename.removeprefix(self._prefix)}::{code.co_name}"
            for code in self._called
            if code.co_filename.startswith(of_library(self._prefix))
        }
        seconds = round(time.process_time() - self._started, 3)
        self.of_tests[nodeid] = {"seconds": seconds, "functions": sorted(functions)}


def run_here(groups: list[list[str]], reach: str | None = None) -> str | None:
    """Runs groups of tests in this process, and says which test failed first.

    Args:
        groups: Paths or names of tests; a group is run where no test of those before it failed.
        reach: File that is told which functions each test calls, as JSON.
    """
    import pytest

    import llm_gym

    folder = Path.cwd()
    assert Path(llm_gym.__file__).is_relative_to(folder), f"{llm_gym.__file__} is not in {folder}"
    called = Reach(folder)
    codes = set()
    for group in groups:  # the later ones are seldom collected
        first = FirstFailure()
        plugins = [first, called] if reach else [first]
        codes.add(pytest.main([*OPTIONS, *group], plugins=plugins))
        if codes - {pytest.ExitCode.OK, pytest.ExitCode.NO_TESTS_COLLECTED}:
            return first.name or f"pytest did not run {group}"
    if reach:
        Path(reach).write_text(json.dumps(called.of_tests), encoding="utf-8")
    return None if pytest.ExitCode.OK in codes else NO_TESTS


def run_forked(
    groups: list[list[str]],
    seconds: float,
    reach: str | None = None,
    prepare: Callable[[], None] = lambda: None,
) -> tuple[str | None, list[str]]:
    """As `run_here`, in a process of its own that is killed when its time is up.

    Args:
        groups: See `run_here`.
        seconds: Seconds until then.
        reach: See `run_here`.
        prepare: What that process does first.

    Returns:
        What failed, and the libraries' modules that were loaded.
    """
    reader, writer = os.pipe()
    child = os.fork()
    if not child:
        failed: str | None = "the process ended"
        try:
            os.setsid()
            nothing = os.open(os.devnull, os.O_RDWR)
            for stream in (0, 1, 2):
                os.dup2(nothing, stream)
            prepare()
            failed = run_here(groups, reach)
        except CannotSwapError:
            failed = CANNOT_SWAP
        except BaseException as error:
            failed = f"{type(error).__name__} before any test"
        finally:
            modules = [name for name in list(sys.modules) if not name.startswith(OURS)]
            with os.fdopen(writer, "w") as pipe:
                json.dump([failed, modules], pipe)
            os._exit(0)
    os.close(writer)
    answer = b""
    until = time.monotonic() + seconds
    while select.select([reader], [], [], max(0.0, until - time.monotonic()))[0]:
        block = os.read(reader, 65536)
        if not block:
            break
        answer += block
    else:
        answer = json.dumps([TIMEOUT, []]).encode()
    os.close(reader)
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(child, signal.SIGKILL)  # and whatever it started
    status = os.waitpid(child, 0)[1]
    if answer:
        failed, modules = json.loads(answer)
        return failed, modules
    hung = os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGXCPU
    return TIMEOUT if hung else "the process was killed", []


def load(modules: list[str]) -> None:
    """Loads what the first run needed, for the later ones to find it."""
    for name in modules:
        with contextlib.suppress(Exception):  # one that cannot be imported by itself
            importlib.import_module(name)
    gc.collect()
    gc.freeze()  # a fork need not look at these again


def collect(files: list[str]) -> Functions:
    """Loads files of tests, and with them the library, for forks to find them.

    Returns:
        The library's functions.
    """
    import pytest

    with Path(os.devnull).open("w") as nothing, contextlib.redirect_stdout(nothing):
        code = pytest.main(["--collect-only", *OPTIONS, *files])
    if code != pytest.ExitCode.OK:
        raise RuntimeError(f"tests cannot be collected: {code!r}")
    functions = loaded_functions(of_library(f"{Path.cwd()}{os.sep}"))
    load([])
    return functions


def main() -> int:
    """Serves orders until there are no more."""
    # A process in the background ignores these, and so would what tests start.
    signal.signal(signal.SIGHUP, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    loaded, functions = False, Functions()
    for line in sys.stdin:
        order = json.loads(line)
        if "collect" in order:
            functions, loaded, failed = collect(order["collect"]), True, None
        elif "swap" in order:
            swapping = partial(swap, *order["swap"], functions)
            failed, _ = run_forked(order["groups"], order["seconds"], prepare=swapping)
        else:
            failed, modules = run_forked(order["groups"], order["seconds"], order.get("reach"))
            if not loaded and failed is None:
                load(modules)
                loaded = True
        print(json.dumps({"failed": failed}), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
