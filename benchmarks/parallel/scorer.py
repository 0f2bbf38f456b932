"""A scorer with the fault that the environment names, in the process of that number."""

from __future__ import annotations

import os
import signal
import time

_calls = 0
_AT = 25
"""The call at which it comes."""


def score(prompts: list[str], completions: list[str], **_: object) -> list[float]:
    """How often each completion says w1."""
    global _calls
    _calls += 1
    fault, _, rank = os.environ.get("FAULT", "").partition(":")
    if _calls == _AT and rank == os.environ.get("RANK"):
        if fault == "raises":
            raise RuntimeError("this scorer has had enough")
        if fault == "killed":
            os.kill(os.getpid(), signal.SIGKILL)
        if fault == "interrupted":
            os.kill(os.getppid(), signal.SIGUSR1)  # the launcher hands Ctrl-C to all
    if fault == "raises-while-another-waits":
        if rank == os.environ.get("RANK"):
            time.sleep(1.0)  # until the other waits: for its scorer, not for this process
            raise RuntimeError("this scorer has had enough")
        time.sleep(600)
    if fault == "nan" and _calls >= _AT and rank == os.environ.get("RANK"):
        return [float("nan")] * len(completions)
    return [float(completion.split().count("w1")) for completion in completions]
