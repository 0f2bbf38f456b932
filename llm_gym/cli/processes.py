"""A command in several processes: started by `torchrun`, or by `--processes` through it."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Sequence

from llm_gym.parallel import number_started

_MANY = "train"
"""The command that several processes can have part in."""


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


def start(processes: int, arguments: Sequence[str]) -> None:
    """Does a command in so many processes, unless it is in one of them already.

    `torch.distributed.run`, which is `torchrun`, starts and watches them. This process then has
    nothing else to do, and ends as they do.

    Args:
        processes: How many; 1 leaves it to `torchrun` and otherwise to this process.
        arguments: The command line, without the program's name.

    Raises:
        SystemExit: They have ended.
        ValueError: `torchrun` has started another number.
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
    try:
        run.main([*options, *arguments])
    except ChildFailedError as error:
        code = error.get_first_failure()[1].exitcode
        code = code if code > 0 else 1  # below 0 it is the signal that ended it
    except SignalException as error:
        code = 128 + int(error.sigval)
    raise SystemExit(code) from None
