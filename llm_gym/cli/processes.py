"""A command in several processes: started by `torchrun`, or by `--processes` through it."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

from llm_gym.parallel import number_started, rank_started

_MANY = "train"
"""The command that several processes can have part in."""

_LEAST_BYTES = 250_000_000
"""Memory of a process that has imported what it trains with, and nothing more."""

_ERRORS_IN = "LLM_GYM_ERRORS_IN"
"""Variable that has the directory in which processes keep what they failed with."""


def check_started(command: str) -> None:
    """Raises `ValueError` for a command that is for one process where `torchrun` has started more.

    Args:
        command: Its name.
    """
    if command != _MANY and number_started() > 1:
        raise ValueError(
            f"torchrun has started {number_started()} processes, and only `llm-gym {_MANY}` can "
            f"share its work among them: run `llm-gym {command}` without torchrun"
        )


def say_error(line: str) -> None:
    """Prints on standard error what a command failed with.

    Of several processes that `start` has started the first does so. The others leave it to `start`,
    which says what one of them failed with if the first did not: most often all fail alike.

    Args:
        line: The sentence.
    """
    directory, rank = os.environ.get(_ERRORS_IN), rank_started()
    if directory is None or rank == 0:
        print(line, file=sys.stderr)
    if directory is not None:
        Path(directory, str(rank)).write_text(line, encoding="utf-8", errors="surrogateescape")


def _say_error_of_others(directory: Path) -> None:
    told = sorted(directory.iterdir(), key=lambda file: int(file.name))
    if told and told[0].name != "0":
        print(told[0].read_text(encoding="utf-8", errors="surrogateescape"), file=sys.stderr)


def start(processes: int, arguments: Sequence[str]) -> None:
    """Does a command in so many processes, unless it is in one of them already.

    `torch.distributed.run`, which is `torchrun`, starts and watches them. This process then has
    nothing else to do, and ends as they do.

    Args:
        processes: How many; 1 leaves it to `torchrun` and otherwise to this process.
        arguments: The command line, without the program's name.

    Raises:
        SystemExit: They have ended.
        ValueError: `torchrun` has started another number, or there is no memory for so many.
    """
    if number_started() > 1:
        if processes not in (1, number_started()):
            raise ValueError(
                f"processes={processes}, but torchrun has started {number_started()}: leave out "
                "--processes"
            )
        return
    if processes == 1:
        return
    _check_room(processes)
    from torch.distributed import run
    from torch.distributed.elastic.multiprocessing import SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError

    threads = max(1, len(os.sched_getaffinity(0)) // processes) if sys.platform == "linux" else 1
    os.environ.setdefault("OMP_NUM_THREADS", str(threads))
    # What fails says so itself, in a sentence; torchrun's account of it has forty lines.
    for name in list(logging.root.manager.loggerDict):
        if name.startswith("torch.distributed"):
            logging.getLogger(name).setLevel(logging.CRITICAL)
    options = ["--standalone", "--nproc-per-node", str(processes), "--module", "llm_gym"]
    code = 0
    with TemporaryDirectory() as directory:
        os.environ[_ERRORS_IN] = directory
        try:
            run.main([*options, *arguments])
        except ChildFailedError as error:
            code = error.get_first_failure()[1].exitcode
            code = code if code > 0 else 1  # below 0 it is the signal that ended it
        except SignalException as error:
            code = 128 + int(error.sigval)
        finally:
            del os.environ[_ERRORS_IN]
        _say_error_of_others(Path(directory))
    raise SystemExit(code) from None


def _check_room(processes: int) -> None:
    """Refuses more processes than memory holds: the system would end others that it knows."""
    from llm_gym.language_models.memory import free_memory

    free = free_memory()
    if free is not None and processes * _LEAST_BYTES > free:
        raise ValueError(
            f"processes={processes} take at least {processes * _LEAST_BYTES / 1e9:,.1f} GB of "
            f"memory before any of them has a model, and {free / 1e9:,.1f} GB can be free: "
            f"start at most {free // _LEAST_BYTES}"
        )
