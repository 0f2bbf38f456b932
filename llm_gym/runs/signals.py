"""Signals that ask a process to end: what Ctrl-C, a batch system and a closed terminal send."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from types import FrameType

_HANGUP: int | None = getattr(signal, "SIGHUP", None)  # Windows has none
_BY_OTHERS = (signal.SIGTERM, _HANGUP)


@contextmanager
def handled(handle: Callable[[int], None]) -> Iterator[None]:
    """Has a function called for Ctrl-C, SIGTERM and SIGHUP while the block runs.

    SIGHUP stays ignored where it is, as `nohup` has it; the others do not: a shell's background
    job is started with Ctrl-C ignored.

    Args:
        handle: Takes the number of the signal.

    Yields:
        Nothing; the former handlers are back when the block ends.
    """
    hangup = [] if _HANGUP is None or signal.getsignal(_HANGUP) == signal.SIG_IGN else [_HANGUP]
    with _handling([signal.SIGINT, signal.SIGTERM, *hangup], handle):
        yield


@contextmanager
def as_interrupts() -> Iterator[None]:
    """Has SIGTERM and SIGHUP raise `KeyboardInterrupt`, as Ctrl-C does, while the block runs.

    Only where nobody else has said what they shall do.

    Yields:
        Nothing; what they did before is back when the block ends.
    """

    def interrupt(signum: int) -> None:
        raise KeyboardInterrupt

    usual = [s for s in _BY_OTHERS if s is not None and signal.getsignal(s) == signal.SIG_DFL]
    with _handling(usual, interrupt):
        yield


@contextmanager
def _handling(signals: Sequence[int], handle: Callable[[int], None]) -> Iterator[None]:
    def called(signum: int, frame: FrameType | None) -> None:
        if signum == _HANGUP:
            _let_go_of_terminal()
        handle(signum)

    # Python runs signal handlers in the main thread only; elsewhere there is nothing to set.
    in_main_thread = threading.current_thread() is threading.main_thread()
    former = {s: signal.signal(s, called) for s in signals} if in_main_thread else {}
    try:
        yield
    finally:
        for signum, handler in former.items():
            signal.signal(signum, handler)


def _let_go_of_terminal() -> None:
    """Sends what is still said nowhere if the terminal is gone, where writing is an error."""
    for descriptor in (1, 2):
        try:
            os.write(descriptor, b"")
        except OSError:
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, descriptor)
            os.close(nowhere)
