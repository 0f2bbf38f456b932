"""Nothing waits for a process that has ended."""

from __future__ import annotations

import atexit
import json
import os
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

from torch.distributed import distributed_c10d

GRACE = 5.0
"""Seconds in which a process may end by itself when another has failed."""

_POLL = 0.5  # seconds
_FAILURE = "llm_gym/failure"


class ProcessLostError(RuntimeError):
    """Another process of the run has failed; the message says which, and why."""


class Watch:
    """Sees that this process ends when another has failed, and says why.

    A process that fails writes its sentence into the store that `torchrun` keeps for all of them.
    One that was killed cannot: the others on its machine miss it and write that. Where a process
    waits for the others, waiting ends with an error as soon as one is gone; where it does not, it
    is ended after `GRACE` seconds.

    Args:
        rank: Number of this process.
        size: Of how many.
    """

    def __init__(self, rank: int, size: int) -> None:
        self.rank, self.size = rank, size
        self._machine = os.environ.get("GROUP_RANK")  # of torchrun
        store: Any = distributed_c10d._get_default_store()
        self._store = store.clone()  # of its own connection, for another thread
        self._store.set(_started(rank), json.dumps([self._machine, os.getpid()]))
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()
        atexit.register(self._leave)

    def fail(self, error: BaseException) -> None:
        """Tells the others what this process has failed of, if it is the first that fails."""
        said = "it was interrupted" if isinstance(error, KeyboardInterrupt) else str(error)
        self._tell(self.rank, said or repr(error))

    @contextmanager
    def losing(self) -> Iterator[None]:
        """Says what another process has failed of, where waiting for it ends with an error.

        Raises:
            ProcessLostError: In place of what `torch.distributed` says.
        """
        try:
            yield
        except RuntimeError as error:
            until = time.monotonic() + 4 * _POLL  # until one that was killed is missed
            while (cause := self.cause()) is None and time.monotonic() < until:
                time.sleep(_POLL / 5)
            last = str(error).splitlines()[0]
            raise ProcessLostError(cause or f"another process does not answer: {last}") from None

    def cause(self) -> str | None:
        """What the first process that failed has failed of; None while all is well."""
        with suppress(RuntimeError, ValueError):  # the store is gone with the process that kept it
            if self._store.check([_FAILURE]):
                rank, sentence = json.loads(self._store.get(_FAILURE))
                return f"process {rank} of {self.size} has failed: {sentence}"
        return None

    def _tell(self, rank: int, sentence: str) -> None:
        with suppress(RuntimeError):
            if not self._store.check([_FAILURE]):
                self._store.set(_FAILURE, json.dumps([rank, " ".join(sentence.split())]))

    def _watch(self) -> None:
        while not self._over.wait(_POLL):
            for rank in range(self.size) if os.name == "posix" else ():
                with suppress(RuntimeError):
                    if self._is_missed(rank):
                        self._tell(rank, "it was killed, or ended without a word")
            cause = self.cause()
            if cause is not None and not self._over.wait(GRACE):
                print(f"llm_gym: process {self.rank} ends: {cause}", file=sys.stderr, flush=True)
                os._exit(1)

    def _is_missed(self, rank: int) -> bool:
        if not self._store.check([_started(rank)]) or self._store.check([_left(rank)]):
            return False
        machine, pid = json.loads(self._store.get(_started(rank)))
        return machine == self._machine and not _lives(pid)

    def _leave(self) -> None:
        with suppress(RuntimeError):
            self._store.set(_left(self.rank), "")
        self._over.set()
        self._thread.join()


def _started(rank: int) -> str:
    return f"llm_gym/started/{rank}"


def _left(rank: int) -> str:
    return f"llm_gym/left/{rank}"


def _lives(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True
