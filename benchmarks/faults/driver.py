"""Runs commands of the library again and again in forks of one process, under faults.

The process imports what the commands need once, which takes longer than a tiny run. Each run is a
fork of it: a process of its own, which can be killed, and whose calls of the C library can be made
to fail, because `shim.c` stands before the C library.
"""

from __future__ import annotations

import ctypes
import errno
import importlib
import json
import os
import runpy
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Sequence
from contextlib import redirect_stderr, redirect_stdout, suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

ROOT = Path(__file__).resolve().parents[2]
SHIM = Path(__file__).with_name("shim.c")
LONGEST = 120.0  # seconds; what takes longer hangs
ACTIONS = {"count": 0, "kill": 1, "tear": 2, "fail": 3}
UNCOUNTED = "/tensorboard/"  # a thread writes there, at moments of its own

_TOLD = "FAULTS_SHIM"


class Operation(NamedTuple):
    """A call that could have changed the disk.

    Attributes:
        name: What was called: open, write, rename, ....
        path: Path below the directory of the run; a file that was opened in order to be written.
    """

    name: str
    path: str


@dataclass(frozen=True)
class Fault:
    """What happens to a run.

    Attributes:
        action: "count" lets it pass; "kill" kills it before an operation; "tear" kills it after
            half of that operation, a write; "fail" lets the operation fail.
        at: Number of the operation, from 1.
        error: Name of the error of an operation that fails: "ENOSPC", ....
        lasting: Whether all later ones fail, too, that such a fault meets.
        after: Seconds after which it is killed, whatever it does.
    """

    action: str = "count"
    at: int = 0
    error: str = "EIO"
    lasting: bool = False
    after: float | None = None


@dataclass(frozen=True)
class Ending:
    """How a run ended.

    Attributes:
        code: Its exit code; negative if a signal ended it.
        output: What it printed to standard output.
        errors: What it printed to standard error.
        seconds: Wall-clock time.
        operations: What it did to the files below its directory, up to its end.
        modules: Names of the modules that it imported.
    """

    code: int
    output: str
    errors: str
    seconds: float
    operations: list[Operation]
    modules: list[str] = field(default_factory=list)

    @property
    def killed(self) -> bool:
        """Whether it was killed."""
        return self.code == -signal.SIGKILL


def unavailable() -> str | None:
    """Why faults cannot be made here; None if they can."""
    if not sys.platform.startswith("linux"):
        return "faults of files are made by LD_PRELOAD, which Linux has"
    if shutil.which("cc") is None:
        return "faults of files need a C compiler (cc)"
    return None


class Driver:
    """The process that runs the commands; a context manager.

    Args:
        directory: For the compiled shim and for what runs print.
    """

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        directory.mkdir(parents=True, exist_ok=True)
        shim = directory / "shim.so"
        subprocess.run(
            ["cc", "-O1", "-shared", "-fPIC", "-o", shim, SHIM, "-ldl", "-lpthread"], check=True
        )
        path = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])
        self._process = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.faults.driver"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=ROOT,
            env={
                **os.environ,
                "PYTHONPATH": path,
                "PYTHONHASHSEED": "0",
                "LD_PRELOAD": str(shim.resolve()),
                _TOLD: str(shim.resolve()),
                "OMP_NUM_THREADS": "1",
                "TOKENIZERS_PARALLELISM": "false",
                "HF_HUB_OFFLINE": "1",
            },
        )

    def __enter__(self) -> Driver:
        return self

    def __exit__(self, *exception: object) -> None:
        self._process.communicate()  # it ends when there are no more requests

    def run(self, command: str, directory: Path, fault: Fault | None = None) -> Ending:
        """Runs one command to its end.

        Args:
            command: Of `llm-gym`, without that; or a script's path and its arguments.
            directory: Where it runs; only what it does to files below is counted and met by faults.
            fault: What happens to it; None for nothing.
        """
        with tempfile.TemporaryDirectory(dir=self.directory) as printed:
            request = {
                "arguments": shlex.split(command),
                "directory": str(directory.resolve()),
                "printed": printed,
                "fault": asdict(fault or Fault()),
            }
            code, seconds = self._ask(request)
            return _ending(Path(printed), code, seconds)

    def load(self, modules: Sequence[str]) -> None:
        """Imports modules into the process, so that later runs need not."""
        self._ask({"modules": list(modules)})

    def _ask(self, request: dict[str, Any]) -> Any:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        print(json.dumps(request), file=self._process.stdin, flush=True)
        answer = self._process.stdout.readline()
        if not answer:
            raise RuntimeError("the process that runs the commands is gone")
        return json.loads(answer)


def _ending(printed: Path, code: int, seconds: float) -> Ending:
    def text(name: str) -> str:
        path = printed / name
        return path.read_text(encoding="utf-8", errors="replace") if path.exists() else ""

    operations = [Operation(*line.split("\t")) for line in text("operations").splitlines()]
    return Ending(
        code, text("output"), text("errors"), seconds, operations, text("modules").split()
    )


# ------------------------------------------------------------------ inside the process


def serve() -> None:
    """Answers requests, one line each, until there are no more."""
    shim = ctypes.CDLL(os.environ.pop(_TOLD))
    del os.environ["LD_PRELOAD"]  # programs that a run calls are none of its own operations
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    for line in sys.stdin:
        request = json.loads(line)
        if "modules" in request:
            _import(request["modules"])
            answer: Any = "loaded"
        else:
            answer = _fork(shim, request)
        print(json.dumps(answer), file=answers, flush=True)


def _import(names: Sequence[str]) -> None:
    for name in names:
        if name not in sys.modules:
            with suppress(Exception):  # some names are given to modules that are made, not found
                importlib.import_module(name)


def _fork(shim: Any, request: dict[str, Any]) -> tuple[int, float]:
    started = time.monotonic()
    child = os.fork()
    if child == 0:
        _be_the_run(shim, request)
    after = request["fault"]["after"]
    limit = started + (LONGEST if after is None else after)
    while True:
        done, status = os.waitpid(child, os.WNOHANG)
        if done:
            return os.waitstatus_to_exitcode(status), time.monotonic() - started
        if time.monotonic() >= limit:
            os.kill(child, signal.SIGKILL)
        time.sleep(0.002)


def _be_the_run(shim: Any, request: dict[str, Any]) -> None:
    """Runs the command as a process of its own would, and ends."""
    printed, fault = Path(request["printed"]), Fault(**request["fault"])
    os.chdir(request["directory"])
    for number, name in ((1, "output"), (2, "errors")):
        descriptor = os.open(printed / name, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        os.dup2(descriptor, number)
        os.close(descriptor)
    before = set(sys.modules)
    with (
        open(1, "w", encoding="utf-8", closefd=False) as output,
        open(2, "w", encoding="utf-8", closefd=False, buffering=1) as errors,
        redirect_stdout(output),
        redirect_stderr(errors),
    ):
        shim.faults_arm(
            request["directory"].encode(),
            UNCOUNTED.encode(),
            str(printed / "operations").encode(),
            ctypes.c_long(fault.at),
            ACTIONS[fault.action],
            getattr(errno, fault.error),
            int(fault.lasting),
        )
        code = _call(request["arguments"])
    shim.faults_disarm()
    names = sorted(name for name in set(sys.modules) - before if not name.startswith("__"))
    (printed / "modules").write_text("\n".join(names))
    os._exit(code)


def _call(arguments: list[str]) -> int:
    """The exit code of a command or a script, as Python gives it."""
    try:
        if arguments[0].endswith(".py"):
            sys.argv = arguments
            sys.path.insert(0, str(Path(arguments[0]).parent))
            runpy.run_path(arguments[0], run_name="__main__")
        else:
            from llm_gym.cli import main

            main(arguments)
    except SystemExit as ending:
        if isinstance(ending.code, str):
            print(ending.code, file=sys.stderr)
            return 1
        return ending.code or 0
    except BaseException:
        traceback.print_exc()
        return 1
    return 0


if __name__ == "__main__":
    serve()
