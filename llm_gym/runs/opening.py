"""Directories in which one process at a time works, and only if they are a run's.

A file `llm_gym.json` says that a directory is a run's, of which command, and how the run stands. A
directory that holds something else is left alone.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from fnmatch import fnmatch
from pathlib import Path
from typing import Literal

from llm_gym.files import atomic, owned
from llm_gym.parallel import world
from llm_gym.runs import signals

KIND = "run"
LOCK = ".llm_gym.lock"

State = Literal["new", "running", "stopped", "finished", "diverged"]
"""How a run stands: nothing done yet; at work, or killed at work; ended by whom it says."""


class OpenedDirectory:
    """A run's directory, which one process at a time may open.

    Of several that `torchrun` has started for one run, the first opens it and alone writes there.

    Args:
        root: The directory; a symbolic link stays, and what it leads to is used.
        command: What kind of run it is; the directory of another kind is refused.
    """

    def __init__(self, root: str | Path, command: str) -> None:
        self.root = Path(os.path.realpath(root))
        self.command = command
        self._state: State = "new"

    @contextmanager
    def opened(self) -> Iterator[None]:
        """Keeps the directory for this process while the block runs.

        What processes that were killed here have left half-written is removed. If the block ends
        before anything was written, nothing is left of a new directory. SIGTERM and SIGHUP end the
        block as Ctrl-C does, where nothing else has been said about them.

        Yields:
            Nothing. The block may set `state` to what became of the run; otherwise it is
            "finished", or "stopped" if the block raised.

        Raises:
            ValueError: Another process is at work there, or the directory holds something else.
        """
        if world().rank:
            with world().failing_together(), signals.as_interrupts():
                yield
            return
        self._refuse_foreign()
        made = not self.root.exists()
        self.root.mkdir(parents=True, exist_ok=True)
        with world().failing_together(), _alone(self.root):
            self._refuse_foreign()  # another process may have been quicker
            for folder in (self.root, *(p for p in self.root.rglob("*") if p.is_dir())):
                atomic.clear_leftovers(folder)
            new = not (self.root / owned.MARKER).exists()
            self._state = "new" if new else self.state
            if new:
                self.state = "new"
            try:
                with signals.as_interrupts():
                    yield
            except BaseException as error:
                if new and not any(map(_is_foreign, self.root.iterdir())):
                    self._undo(made)
                elif self._state != "new":
                    self.state = getattr(error, "run_state", "stopped")
                raise
            if self._state == "running":
                self.state = "finished"

    @property
    def state(self) -> State:
        """How the run stands, as its directory says.

        Raises:
            ValueError: The directory holds no run, or its `llm_gym.json` is damaged.
        """
        state: State = owned.read_marker(self.root).get("state", "new")
        return state

    @state.setter
    def state(self, state: State) -> None:
        self._state = state
        if world().rank:
            return
        owned.write_marker(self.root, KIND, command=self.command, state=state)

    def _refuse_foreign(self) -> None:
        if self.root.exists() and not self.root.is_dir():
            raise ValueError(f"{self.root} is a file; choose another output")
        marked = (self.root / owned.MARKER).exists()
        if marked:
            marker = owned.read_marker(self.root)
            if (kind := marker["kind"]) != KIND:
                raise ValueError(f"{self.root} holds a {kind}, not a run; choose another output")
            if (command := marker.get("command")) != self.command:
                raise ValueError(
                    f"{self.root} holds a run of {command!r}, not of {self.command!r}; choose "
                    "another output"
                )
        if not marked and self.root.exists() and any(map(_is_foreign, self.root.iterdir())):
            raise ValueError(
                f"{self.root} is not empty and holds no run of llm_gym (it has no {owned.MARKER}); "
                "choose another output"
            )

    def _undo(self, made: bool) -> None:
        """Leaves no trace of a run that ended before it wrote anything."""
        (self.root / owned.MARKER).unlink(missing_ok=True)
        (self.root / LOCK).unlink(missing_ok=True)
        if made:
            with suppress(OSError):  # somebody has put something there
                self.root.rmdir()


@contextmanager
def _alone(root: Path) -> Iterator[None]:
    """Holds the lock of a directory, which the system releases with the process.

    Raises:
        ValueError: Another process has it.
    """
    from filelock import FileLock, Timeout

    lock = FileLock(root / LOCK, timeout=0)
    try:
        lock.acquire()
    except Timeout as error:
        raise ValueError(
            f"another process is at work in {root}; wait for its end or choose another output"
        ) from error
    except NotImplementedError:
        warnings.warn(
            f"the file system of {root} has no locks: nothing keeps a second process out of it",
            stacklevel=4,
        )
    try:
        yield
    finally:
        lock.release()


def _is_foreign(path: Path) -> bool:
    """Whether something was not left by the very first steps of a run."""
    return path.name not in (LOCK, owned.MARKER) and not fnmatch(path.name, f".*{atomic.TEMPORARY}")
