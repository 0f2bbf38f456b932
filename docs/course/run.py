"""Runs the lessons as notebooks, and writes each with what it printed and drew.

    python docs/course/run.py                  # all ten, into runs/course
    python docs/course/run.py 3 4              # two of them

Each becomes a notebook (`.ipynb`) and a page (`.html`) that needs nothing else. What a lesson
asserts is checked by that; the first that fails stops the run.
"""

from __future__ import annotations

import argparse
import os
from pathlib import Path
from typing import Any

import jupytext
import nbformat
from lesson_page import page_of
from nbclient import NotebookClient

HERE = Path(__file__).resolve().parent
LESSONS = sorted(HERE.glob("[0-9][0-9]_*.py"))


# A notebook that lies elsewhere finds what the lessons import.
_FROM_ELSEWHERE = f"import sys\n\nsys.path.insert(0, {str(HERE)!r})"


def number_of(lesson: Path) -> int:
    """The number that a lesson's name begins with."""
    return int(lesson.name[:2])


def read(lesson: Path, *, solved: bool = False) -> Any:
    """A lesson as a notebook.

    Args:
        lesson: Its file.
        solved: Take the solutions in place of the functions that the reader is to write.
    """
    notebook = jupytext.read(lesson)
    notebook.metadata["kernelspec"] = {"name": "python3", "display_name": "Python 3"}
    for cell in notebook.cells:
        if solved and "raise NotImplementedError" in cell.source:
            name = cell.source.split("def ")[1].split("(")[0]
            cell.source = f"from solutions.lesson_{number_of(lesson):02} import {name}"
    return notebook


def execute(notebook: Any) -> Any:
    """Runs a notebook where the lessons lie, in a kernel of its own.

    Raises:
        nbclient.exceptions.CellExecutionError: A cell failed; the message has the cell.
    """
    resources = {"metadata": {"path": str(HERE)}}
    # Below errors, a kernel says each time that loopback is not encrypted.
    quiet = ["--IPKernelApp.log_level=ERROR"]
    client = NotebookClient(notebook, timeout=900, resources=resources, extra_arguments=quiet)
    return client.execute()


def printed(notebook: Any) -> str:
    """What the cells of a notebook wrote to standard output."""
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", [])]
    return "".join(output.text for output in outputs if output.get("name") == "stdout")


def pictures(notebook: Any) -> list[str]:
    """The pictures it drew, PNG in base64."""
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", [])]
    return [out.data["image/png"] for out in outputs if "image/png" in out.get("data", {})]


def _children_seconds() -> float:
    times = os.times()
    return times.children_user + times.children_system


def main() -> None:
    """Runs the lessons that were asked for."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("lessons", nargs="*", type=int, help="numbers; all by default")
    parser.add_argument("--output", type=Path, default=Path("runs/course"))
    arguments = parser.parse_args()
    unknown = set(arguments.lessons) - {number_of(lesson) for lesson in LESSONS}
    if unknown:
        parser.error(f"there is no lesson {min(unknown)}; there are 1 to {len(LESSONS)}")
    arguments.output.mkdir(parents=True, exist_ok=True)
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    total = 0.0
    for lesson in LESSONS:
        if arguments.lessons and number_of(lesson) not in arguments.lessons:
            continue
        before = _children_seconds()
        notebook = execute(read(lesson))
        seconds = _children_seconds() - before
        total += seconds
        page = arguments.output / f"{lesson.stem}.html"
        page.write_text(page_of(notebook, [other.stem for other in LESSONS]), encoding="utf-8")
        notebook.cells.insert(0, nbformat.v4.new_code_cell(_FROM_ELSEWHERE))
        nbformat.write(notebook, page.with_suffix(".ipynb"))
        print(f"{seconds:6.1f} CPU s  {page}", flush=True)
    print(f"{total:6.1f} CPU s in all")


if __name__ == "__main__":
    main()
