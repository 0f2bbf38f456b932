"""The command `llm-gym`. Heavy libraries are imported when a command needs them, not for help."""

from __future__ import annotations

import os
import sys
import warnings
from collections.abc import MutableMapping, Sequence
from functools import partial

__all__ = ["main"]


def main(argv: Sequence[str] | None = None) -> None:
    """Runs the command line and exits.

    What a user can cause (a wrong value, a missing file) is one line on standard error and exit
    code 2; a run that diverged, a disk that failed or a defect of the program one line and exit
    code 1. `--debug` shows the traceback. Interrupted: 130.

    Args:
        argv: Arguments without the program's name; None takes the process's.
    """
    _shorten_spinning(os.environ)
    arguments = list(sys.argv[1:] if argv is None else argv)
    # Anywhere on the line: people add it to the end of the command that just failed.
    debug = "--debug" in arguments
    arguments = [argument for argument in arguments if argument != "--debug"]
    from llm_gym.cli.app import app
    from llm_gym.cli.failures import WrongUsageError, check_arguments_are_text, failure_of
    from llm_gym.cli.processes import say_error

    usual, warnings.formatwarning = warnings.formatwarning, partial(_warning, set())
    try:
        check_arguments_are_text(arguments)
        app(args=arguments, prog_name="llm-gym")
    except Exception as error:
        if debug and not isinstance(error, WrongUsageError):
            raise
        message, code = failure_of(error)
        say_error(f"llm-gym: error: {_visible(message)}")
        raise SystemExit(code) from None
    finally:
        warnings.formatwarning = usual


def _shorten_spinning(environ: MutableMapping[str, str]) -> None:
    """How long idle threads of PyTorch's OpenMP spin, which is read when torch is imported.

    By default so long that other programs on the same cores starve: the demo then makes 70 tokens a
    second instead of 450. Threads that sleep at once cost a run that has the machine to itself a
    fifth of its speed (docs/scale.md). A thousand turns are GNU's, which every build for Linux has;
    other implementations know the standard's variable alone.

    Args:
        environ: The process's environment; what the user has set stays.
    """
    if environ.keys() & {"OMP_WAIT_POLICY", "GOMP_SPINCOUNT"}:
        return
    environ.update(OMP_WAIT_POLICY="PASSIVE", GOMP_SPINCOUNT="1000")


def _warning(
    said: set[str],
    message: Warning | str,
    category: type[Warning],
    filename: str,
    lineno: int,
    line: str | None = None,
) -> str:
    """The library's own warnings on one line, once; those of others as Python shows them."""
    if category.__module__.startswith("llm_gym."):
        text = f"llm-gym: warning: {_visible(str(message))}\n"
        is_new = text not in said  # the stages of a command may have the same to say
        said.add(text)
        return text if is_new else ""
    return f"{filename}:{lineno}: {category.__name__}: {message}\n"


def _visible(message: str) -> str:
    from llm_gym.files.untrusted import printable

    return printable(message, multiline=False)
