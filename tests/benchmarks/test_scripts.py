"""Scripts are run by their path, which puts their folder before every library."""

from __future__ import annotations

import sys
from functools import cache
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
OURS = {"agents", "benchmarks", "envs", "llm_gym", "tests"}


def folders_of_scripts() -> list[Path]:
    scripts = [
        path
        for root in ("agents", "benchmarks")
        for path in (ROOT / root).rglob("*.py")
        if '__name__ == "__main__"' in path.read_text()
    ]
    return sorted({script.parent for script in scripts})


@cache
def libraries() -> set[str]:
    """Names that `import` knows without us; every distribution's files are read for them."""
    return (set(sys.stdlib_module_names) | set(packages_distributions())) - OURS


@pytest.mark.parametrize(
    "folder", folders_of_scripts(), ids=lambda path: str(path.relative_to(ROOT))
)
def test_nothing_beside_a_script_hides_a_library(folder):
    beside = {path.stem for path in folder.glob("*.py")} | {
        path.name for path in folder.iterdir() if (path / "__init__.py").exists()
    }
    assert not beside & libraries()
