"""Which code and which machine produced a result."""

from __future__ import annotations

import os
import platform
import subprocess
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

_DISTRIBUTIONS = (
    "gymnasium",
    "stable-baselines3",
    "torch",
    "transformers",
    "tokenizers",
    "numpy",
)
_CPU_FLAGS = ("avx2", "avx512f", "avx512_bf16", "amx_bf16", "amx_tile")


def versions() -> dict[str, str]:
    """Versions of Python, of this package and of the libraries whose numbers it depends on."""
    from llm_gym import __version__

    versions = {"python": platform.python_version(), "llm-gym": __version__}
    for name in _DISTRIBUTIONS:
        try:
            versions[name] = version(name)
        except PackageNotFoundError:
            versions[name] = "not installed"
    return versions


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


def machine() -> dict[str, Any]:
    """What figures were measured on, JSON-able.

    Returns:
        `system`, `processor`, `cores`, `threads` (that PyTorch computes with: sums in another order
        round otherwise, so figures depend on them); where they can be told also `flags`
        (instructions that decide how fast low precision is), `memory_gb`, `load_average` (what
        others made the machine do, over 1, 5 and 15 minutes) and `cuda` (the accelerator).
    """
    machine: dict[str, Any] = {
        "system": f"{platform.system()} {platform.release()}",
        "processor": platform.processor() or platform.machine(),
        "cores": os.cpu_count() or 1,
    }
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.is_file():
        lines = cpuinfo.read_text(encoding="utf-8").splitlines()
        pairs = (line.split(":", 1) for line in lines if ":" in line)
        fields = {name.strip(): value.strip() for name, value in pairs}
        machine["processor"] = fields.get("model name", machine["processor"])
        flags = fields.get("flags", "").split()
        machine["flags"] = " ".join(flag for flag in _CPU_FLAGS if flag in flags)
    if hasattr(os, "sysconf") and "SC_PHYS_PAGES" in os.sysconf_names:
        memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
        machine["memory_gb"] = round(memory / 1e9, 1)
    if hasattr(os, "getloadavg"):
        machine["load_average"] = [round(load, 2) for load in os.getloadavg()]
    import torch

    machine["threads"] = torch.get_num_threads()
    if torch.cuda.is_available():
        machine["cuda"] = torch.cuda.get_device_name()
    return machine
