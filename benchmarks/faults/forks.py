"""Calls of this process in copies of it, each with a time limit: what they print, how they end."""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

LIMIT = 60.0  # seconds


class Ending(NamedTuple):
    """How a call ended.

    Attributes:
        code: Exit code; None if the time was up, negative if a signal ended it.
        out: What it printed.
        err: What it printed to standard error.
    """

    code: int | None
    out: str
    err: str


def forked(work: Callable[[], object], directory: Path, limit: float = LIMIT) -> Ending:
    """Does some work in a copy of this process.

    Args:
        work: What to do; `SystemExit` is its exit code, another exception 70 with its traceback.
        directory: For what it prints.
        limit: Seconds after which it is killed.
    """
    paths = [directory / name for name in ("stdout", "stderr")]
    pid = os.fork()
    if pid == 0:
        os._exit(_in_child(work, paths))
    code = _waited(pid, limit)
    out, err = (path.read_text(encoding="utf-8", errors="replace") for path in paths)
    return Ending(code, out, err)


def _in_child(work: Callable[[], object], paths: list[Path]) -> int:
    import traceback

    os.setsid()
    null = os.open(os.devnull, os.O_RDONLY)
    os.dup2(null, 0)
    for number, path in enumerate(paths, start=1):
        file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        os.dup2(file, number)
    sys.stdin = open(0, encoding="utf-8", closefd=False)  # noqa: SIM115
    sys.stdout = open(1, "w", encoding="utf-8", errors="replace", closefd=False)  # noqa: SIM115
    sys.stderr = open(2, "w", encoding="utf-8", errors="replace", closefd=False)  # noqa: SIM115
    code = 0
    try:
        work()
    except SystemExit as left:
        code = left.code if isinstance(left.code, int) else int(left.code is not None)
    except BaseException:
        traceback.print_exc()
        code = 70
    sys.stdout.flush()
    sys.stderr.flush()
    return code


def _waited(pid: int, limit: float) -> int | None:
    end = time.monotonic() + limit
    while time.monotonic() < end:
        done, status = os.waitpid(pid, os.WNOHANG)
        if done:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.005)
    os.killpg(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    return None
