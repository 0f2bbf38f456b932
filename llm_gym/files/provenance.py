"""Which code and which machine produced a result."""

from __future__ import annotations

import os
import platform
import subprocess
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

__all__ = ["commit", "machine", "versions"]

_DISTRIBUTIONS = ("gymnasium", "stable-baselines3", "torch", "transformers", "numpy")


def versions() -> dict[str, str]:
    """Versions of Python, of this package and of the libraries whose numbers it depends on."""
    from llm_gym._version import __version__

    found = {"python": platform.python_version(), "llm-gym": __version__}
    for name in _DISTRIBUTIONS:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = "not installed"
    return found


def commit() -> str | None:
    """The git commit of the source tree this package runs from, `-dirty` if it was changed.

    Returns:
        None where the package was installed without its source tree, or git cannot be asked: a
        repository that merely contains the virtual environment is not ours to name.
    """
    root = Path(__file__).resolve().parents[2]
    if not (root / ".git").exists():
        return None
    command = ["git", "-C", str(root), "describe", "--always", "--dirty", "--abbrev=40"]
    try:
        answer = subprocess.run(  # noqa: S603 - fixed arguments
            [*command, "--exclude=*"], capture_output=True, text=True, timeout=10, check=True
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return answer.stdout.strip() or None


def machine() -> dict[str, str | int]:
    """What the figures were measured on: operating system, processor, cores."""
    return {
        "system": platform.system(),
        "processor": platform.machine(),
        "cores": os.cpu_count() or 1,
    }
