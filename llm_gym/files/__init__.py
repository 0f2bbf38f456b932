"""Reports of runs: inline-SVG charts, a self-contained page, and safe display of model text."""

from __future__ import annotations

from typing import TYPE_CHECKING

from llm_gym._submodules import submodule_getter
from llm_gym.files.charts import Series, line_chart, scatter_chart
from llm_gym.files.page import (
    Chapter,
    Comparison,
    Figure,
    Report,
    ShownAnswer,
    render,
    write_report,
)
from llm_gym.files.provenance import commit, machine, versions

__all__ = [
    "Chapter",
    "Comparison",
    "Figure",
    "Report",
    "Series",
    "ShownAnswer",
    "commit",
    "line_chart",
    "machine",
    "render",
    "scatter_chart",
    "versions",
    "write_report",
]

if not TYPE_CHECKING:  # type checkers know the submodules
    __getattr__ = submodule_getter(__name__)
