"""What the command line says of an exception: one sentence, and the exit code that goes with it."""

from __future__ import annotations

import os
import sys
import traceback
from collections.abc import Sequence
from pathlib import Path

WRONG = 2
"""Exit code of what a user can cause, as of a wrong command line."""

DIVERGED = DISK = DEFECT = 1
"""Exit code of a run that left the numbers, of a disk that failed, and of what else nobody can
cause by a wrong value."""

_PACKAGE = Path(__file__).parents[1]


class WrongUsageError(ValueError):
    """A command line that names an option, a value or an argument that there is not."""


def usage_of(error: Exception) -> WrongUsageError | None:
    """The sentence of what typer raises for a wrong command line; None of any other exception.

    Typer would write the usage and a box of three lines or more, as wide as the terminal, in which
    a number that is none is not told.

    Args:
        error: What reading the command line ended with.
    """
    tell = getattr(error, "format_message", None)  # typer has click's classes, or copies of them
    if tell is None or not hasattr(error, "exit_code"):
        return None
    context, parameter = getattr(error, "ctx", None), getattr(error, "param", None)
    told = " ".join(tell().split()).rstrip(".")
    value = _value_of(error)
    if parameter is not None and value is not None:
        name = max(parameter.opts, key=len) if parameter.opts else parameter.name
        told = f"{name}={value!r:.80} {told.rpartition('Input should ')[2]}"
        told = told.replace(" be ", " must be ", 1)
    elif context is not None:
        told = f"{told} (see `{context.command_path} -h`)"
    return WrongUsageError(told)


def _value_of(error: Exception) -> str | None:
    """What was given for a number, where the error does not say it itself."""
    told_by = getattr(error.__cause__, "errors", None)
    found = told_by() if callable(told_by) else []
    value = found[0].get("input") if found and "Input should be" in str(error) else None
    return value if isinstance(value, str) else None


def failure_of(error: Exception) -> tuple[str, int]:
    """What to say of an exception, and the exit code.

    Args:
        error: What ended a command.
    """
    from gymnasium.error import Error as GymnasiumError

    from llm_gym.files.disk import advice_of, has_failed
    from llm_gym.language_models.divergence import DivergenceError

    message = " ".join(str(error).split()) or type(error).__name__
    if isinstance(error, DivergenceError):
        return message, DIVERGED
    if has_failed(error):
        advice = advice_of(error)
        return (f"{message}; {advice}" if advice else message), DISK
    if isinstance(error, (ValueError, TypeError, OSError, ImportError, GymnasiumError)):
        return message, WRONG
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
        advice = "lower the batch size, the number of environments or the length of answers"
        return f"there is not enough memory ({_shortened(message)}); {advice}", WRONG
    if isinstance(error, RecursionError):
        return "the input is nested too deeply to be read", WRONG
    library = _library_of(error)
    if library in ("safetensors", "jinja2", "sqlite3"):
        return f"{_KINDS[library]}: {message}", WRONG
    if library == "stable_baselines3" and isinstance(error, AssertionError):
        return f"Stable-Baselines3 refuses a setting: {message}", WRONG
    if isinstance(error, RuntimeError):  # of PyTorch's devices and of threads, above all
        return message, WRONG
    where = _place_of(error)
    return (
        f"this is a defect of llm-gym ({type(error).__name__}: {_shortened(message)}; {where}); "
        "run the command again with --debug for the traceback, and report it",
        DEFECT,
    )


_KINDS = {
    "safetensors": "a file of weights cannot be read or written",
    "jinja2": "the chat template of the tokenizer fails",
    "sqlite3": "a file of votes cannot be read or written",
}


def check_arguments_are_text(arguments: Sequence[str]) -> None:
    """Refuses arguments that are no text: bytes in another encoding than the system's.

    The names of files and directories that are there may be anything.

    Args:
        arguments: Of the command line.

    Raises:
        ValueError: Naming the first of them.
    """
    for number, argument in enumerate(arguments, start=1):
        try:
            argument.encode()
        except UnicodeEncodeError:
            if os.path.exists(argument):
                continue
            shown = argument.encode(errors="backslashreplace").decode()
            raise ValueError(
                f"argument {number} ({shown}) is not text in {sys.getfilesystemencoding()}; write "
                "it in that encoding"
            ) from None


def _library_of(error: BaseException) -> str:
    """The library that an exception is of: its class's, or for built-in ones where it arose."""
    library = type(error).__module__.partition(".")[0]
    if library != "builtins" or error.__traceback__ is None:
        return library
    *_, (frame, _) = traceback.walk_tb(error.__traceback__)
    return str(frame.f_globals.get("__name__", "")).partition(".")[0]


def _place_of(error: BaseException) -> str:
    """Where in this package, last, an exception came by."""
    places = traceback.extract_tb(error.__traceback__)
    for place in reversed(places):
        if Path(place.filename).is_relative_to(_PACKAGE):
            return f"{Path(place.filename).relative_to(_PACKAGE).as_posix()}:{place.lineno}"
    return "outside of the package"


def _shortened(message: str) -> str:
    return message if len(message) <= 200 else f"{message[:200]}..."
