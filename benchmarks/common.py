"""What every benchmark records: the machine, the versions, the commit, figures with intervals."""

from __future__ import annotations

import importlib.metadata
import json
import os
import platform
import subprocess
import tempfile
from collections.abc import Sequence
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from llm_gym.statistics.resampling import bootstrap, bootstrap_interval

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = ("torch", "transformers", "stable-baselines3", "gymnasium", "numpy", "tokenizers")
# Instructions that decide how fast low precision is.
_CPU_FLAGS = ("avx2", "avx512f", "avx512_bf16", "amx_bf16", "amx_tile")


def record(settings: dict[str, Any]) -> dict[str, Any]:
    """Where, when and with what a benchmark ran; the head of every `results.json`."""
    return {
        "started": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "machine": machine(),
        "versions": versions(),
        "commit": commit(),
        "settings": settings,
    }


def machine() -> dict[str, Any]:
    """Processor, cores, memory, accelerator and the load that others put on it."""
    found: dict[str, Any] = {
        "system": f"{platform.system()} {platform.release()}",
        "processor": platform.processor() or platform.machine(),
        "cores": os.cpu_count(),
    }
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.is_file():
        lines = cpuinfo.read_text(encoding="utf-8").splitlines()
        fields = dict(line.split(":", 1) for line in lines if ":" in line)
        fields = {name.strip(): value.strip() for name, value in fields.items()}
        found["processor"] = fields.get("model name", found["processor"])
        found["flags"] = [flag for flag in _CPU_FLAGS if flag in fields.get("flags", "").split()]
    if hasattr(os, "sysconf") and "SC_PHYS_PAGES" in os.sysconf_names:
        found["memory_gb"] = round(
            os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 1e9, 1
        )
    if hasattr(os, "getloadavg"):
        found["load_average"] = [round(load, 2) for load in os.getloadavg()]
    import torch

    if torch.cuda.is_available():
        found["cuda"] = torch.cuda.get_device_name()
    return found


def versions() -> dict[str, str]:
    """Versions of Python, llm_gym and the libraries the figures depend on."""
    found = {"python": platform.python_version()}
    for name in ("llm-gym", *PACKAGES):
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            found[name] = "not installed"
    return found


def commit() -> dict[str, Any]:
    """The commit of the working tree, and whether files differ from it; None outside of git."""

    def git(*arguments: str) -> str | None:
        try:
            answer = subprocess.run(
                ["git", *arguments], cwd=ROOT, capture_output=True, text=True, check=True
            )
        except (OSError, subprocess.CalledProcessError):
            return None
        return answer.stdout.strip()

    changes = git("status", "--porcelain")
    return {"hash": git("rev-parse", "HEAD"), "changed": None if changes is None else bool(changes)}


def write_json(path: Path, content: Any) -> None:
    """Writes a file at once or not at all, so that an interrupted run leaves no half of one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=path.name, suffix=".part")
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        json.dump(content, file, indent=2, allow_nan=False)
        file.write("\n")
    os.replace(temporary, path)


def mean_with_interval(values: ArrayLike) -> dict[str, float]:
    """Mean and its 95 % bootstrap interval."""
    low, high = bootstrap_interval(values)
    return {"mean": float(np.mean(values)), "low": low, "high": high}


def median_with_interval(values: ArrayLike) -> dict[str, float]:
    """Median and its 95 % bootstrap interval."""
    low, high = bootstrap([values], lambda drawn: np.median(drawn, 1))
    return {"median": float(np.median(values)), "low": low, "high": high}


def columns(rows: Sequence[Sequence[str]]) -> str:
    """Rows of texts as lines with columns; the first row is the head, the first column a name."""
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    return "\n".join(
        "  ".join(
            cell.rjust(width) if index else cell.ljust(width)
            for index, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    )


def whole_lines(path: Path) -> list[dict[str, Any]]:
    """The lines of a log of runs, JSON each; none if there is no file.

    A last line that an interruption cut off is dropped from the file, whose other lines are safe
    meanwhile.

    Raises:
        ValueError: Another line is damaged.
    """
    if not path.exists():
        return []
    whole, _, cut_off = path.read_text(encoding="utf-8").rpartition("\n")
    if cut_off:
        temporary = path.with_suffix(".part")
        temporary.write_text(whole + "\n" if whole else "", encoding="utf-8")
        os.replace(temporary, path)
    lines = []
    for number, line in enumerate(whole.splitlines(), start=1):
        try:
            lines.append(json.loads(line))
        except json.JSONDecodeError as error:
            raise ValueError(
                f"{path}, line {number} is not JSON ({error}); delete that line, and what it held "
                "will be done again"
            ) from error
    return lines
