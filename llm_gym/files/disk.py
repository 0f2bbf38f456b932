"""Disks that are full, broken or forbidden: errors of the system, whichever library meets them."""

from __future__ import annotations

import errno
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_ADVICE = {
    errno.ENOSPC: "make room and start it again",
    errno.EDQUOT: "make room and start it again",
    errno.EFBIG: "choose a place that takes files of this size",
    errno.EIO: "the disk fails: see to it and start it again",
    errno.EROFS: "make it writable and start it again, or choose another place",
    errno.EACCES: "give yourself the right to and start it again, or choose another place",
    errno.EPERM: "give yourself the right to and start it again, or choose another place",
}
"""What to do, by the error's number. These the machine causes, not the command that was given."""

_NUMBER = re.compile(r"\(os error (\d+)\)")  # as Rust ends what the system said


def has_failed(error: BaseException) -> bool:
    """Whether an exception says that a disk is full, broken or forbidden."""
    return isinstance(error, OSError) and error.errno in _ADVICE


def advice_of(error: BaseException) -> str:
    """What to do about a disk that has failed, unless the exception says so in words of its own."""
    if not isinstance(error, OSError) or error.strerror is None:
        return ""
    return _ADVICE.get(error.errno or 0, "")


@contextmanager
def naming(path: Path) -> Iterator[None]:
    """Makes errors of the system that the block meets say of which file they are.

    A write knows no name, and safetensors and tokenizers raise exceptions of their own.

    Args:
        path: What is being written.

    Raises:
        OSError: In place of another library's exception that was one of the system.
    """
    try:
        yield
    except OSError as error:
        if error.errno is not None and error.filename is None:
            error.filename = str(path)
        raise
    except Exception as error:
        number = _NUMBER.search(str(error))
        if number is None:
            raise
        code = int(number[1])
        raise OSError(code, os.strerror(code), str(path)) from error
