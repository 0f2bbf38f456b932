"""The oldest set of libraries that is tested is the one that pyproject.toml promises."""

from __future__ import annotations

import re
from pathlib import Path

from packaging.requirements import Requirement
from packaging.version import Version

ROOT = Path(__file__).parents[1]
EXTRAS = ["baselines", "contrib", "label", "lora", "parquet", "plots", "render", "tensorboard"]
NOT_TESTED = {"torch"}  # whose old builds bring gigabytes of CUDA libraries


def array_of(name: str, text: str) -> list[str]:
    """The strings of an array of pyproject.toml, which Python 3.10 has no reader for."""
    [inside] = re.findall(rf"^{name} = \[(.*?)\]$", text, re.MULTILINE | re.DOTALL)
    return re.findall(r'"([^"]+)"', inside)


def lower_bounds() -> dict[str, Version]:
    """Of the library's own requirements and of its extras for users, the plug-ins' included."""
    texts = [file.read_text(encoding="utf-8") for file in (ROOT / "pyproject.toml", *plugins())]
    rows = [row for text in texts for row in array_of("dependencies", text)]
    for extra in EXTRAS:
        [inside] = re.findall(rf"^{extra} = \[(.*?)\]$", texts[0], re.MULTILINE)
        rows += re.findall(r'"([^"]+)"', inside)
    bounds: dict[str, Version] = {}
    for requirement in map(Requirement, rows):
        [least] = [part.version for part in requirement.specifier if part.operator == ">="]
        assert bounds.setdefault(requirement.name, Version(least)) == Version(least), requirement
    return bounds


def plugins() -> list[Path]:
    return [ROOT / "envs" / name / "pyproject.toml" for name in ("autopilot", "known_optimum")]


def test_the_oldest_set_is_that_of_the_lower_bounds():
    lines = (ROOT / "constraints-oldest.txt").read_text(encoding="utf-8").splitlines()
    pins = dict(line.split("==") for line in lines if not line.startswith("#"))
    bounds = {name: bound for name, bound in lower_bounds().items() if name != "llm-gym"}
    assert {name: Version(pins[name]) for name in bounds.keys() - NOT_TESTED} == {
        name: bound for name, bound in bounds.items() if name not in NOT_TESTED
    }
    assert pins.keys() == bounds.keys()
