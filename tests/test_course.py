"""The lessons of `docs/course/` run; their exercises can be solved, and be got wrong."""

from __future__ import annotations

import ast
import re
import sys
from importlib import import_module, util
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).parents[1]
COURSE = ROOT / "docs/course"
LESSONS = sorted(COURSE.glob("[0-9][0-9]_*.py"))
NUMBERS = [int(lesson.name[:2]) for lesson in LESSONS]


@pytest.fixture
def course(monkeypatch) -> ModuleType:
    """`docs/course/run.py`, with what lies beside it importable, as in a notebook there."""
    monkeypatch.syspath_prepend(str(COURSE))
    spec = util.spec_from_file_location("course_run", COURSE / "run.py")
    assert spec is not None
    assert spec.loader is not None
    module = util.module_from_spec(spec)
    spec.loader.exec_module(module)
    yield module
    for name in list(sys.modules):
        if name.split(".")[0] in ("checks", "solutions", "small_world", "lesson_page"):
            del sys.modules[name]


def exercises_of(lesson: Path) -> dict[str, str]:
    """Functions that the reader is to write: name and source."""
    text = lesson.read_text(encoding="utf-8")
    return {
        node.name: ast.unparse(node)
        for node in ast.parse(text).body
        if isinstance(node, ast.FunctionDef) and "raise NotImplementedError" in ast.unparse(node)
    }


def test_lessons_are_numbered_and_have_their_place_in_the_index_and_on_the_site():
    assert list(range(1, len(LESSONS) + 1)) == NUMBERS
    index = (COURSE / "README.md").read_text(encoding="utf-8")
    site = (ROOT / "mkdocs.yml").read_text(encoding="utf-8")
    for lesson in LESSONS:
        title = lesson.read_text(encoding="utf-8").split("\n")[1].removeprefix("# # ")
        assert f"[{title}]({lesson.name})" in index
        assert f"course/{lesson.stem}.md" in site


@pytest.mark.parametrize("lesson", LESSONS, ids=lambda lesson: lesson.stem)
def test_links_of_a_lesson_lead_to_files(lesson):
    for target in re.findall(r"\]\(([^)\s#]+)\)", lesson.read_text(encoding="utf-8")):
        assert target.startswith("https:") or (COURSE / target).exists(), target


@pytest.mark.parametrize("lesson", LESSONS, ids=lambda lesson: lesson.stem)
def test_exercises_tell_right_from_wrong_and_from_not_written(lesson, course, capsys):
    number = course.number_of(lesson)
    checks = import_module("checks")
    solutions = import_module(f"solutions.lesson_{number:02}")
    exercises = exercises_of(lesson)
    assert len(exercises) == 2
    for name, source in exercises.items():
        stub: dict[str, object] = {}
        exec(source, stub)
        assert not checks.check(stub[name], lesson=number)
        assert capsys.readouterr().out == f"{name}: not written yet\n"

        def wrong(*arguments, **named):
            return 0.123

        wrong.__name__ = name
        assert not checks.check(wrong, lesson=number)
        assert capsys.readouterr().out.startswith(f"{name}: not yet. ")
        assert checks.check(getattr(solutions, name), lesson=number), capsys.readouterr().out
        capsys.readouterr()


@pytest.mark.slow
@pytest.mark.parametrize("lesson", LESSONS, ids=lambda lesson: lesson.stem)
def test_a_lesson_runs_from_top_to_bottom_with_the_solutions_in_place(lesson, course):
    notebook = course.execute(course.read(lesson, solved=True))
    printed = course.printed(notebook)
    for name in exercises_of(lesson):
        assert f"{name}: right" in printed
    assert re.search(r"your gradient points \d+ degrees away from the true one", printed)
    [(before, after)] = re.findall(r"before: (\d+) degrees, after: ([\d.]+) degrees", printed)
    assert float(after) < float(before) / 2
    assert course.pictures(notebook)
    page = import_module("lesson_page").page_of(notebook, [lesson.stem])
    assert page.count('src="data:image/png') == len(course.pictures(notebook))
    assert f"before: {before} degrees, after: {after} degrees" in page


def test_the_runner_refuses_a_lesson_that_is_not_there(course, monkeypatch, capsys):
    monkeypatch.setattr("sys.argv", ["run.py", "1", "99"])
    with pytest.raises(SystemExit):
        course.main()
    assert "there is no lesson 99" in capsys.readouterr().err
