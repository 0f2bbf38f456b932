"""The lessons of `docs/course/` run; their exercises can be solved, and be got wrong."""

from __future__ import annotations

import ast
import contextlib
import io
import re
import sys
from importlib import import_module, util
from pathlib import Path
from types import ModuleType

import pytest

from tests.products import sampled

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
        if name.split(".")[0] in ("checks", "solutions", "small_world", "voted", "lesson_page"):
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


def degrees_of(lesson: Path, printed: str) -> str:
    """What a lesson prints of its exercises, where all of them are solved; the line at its end."""
    for name in exercises_of(lesson):
        assert f"{name}: right" in printed
    assert re.search(r"your gradient points \d+ degrees away from the true one", printed)
    [(before, after)] = re.findall(r"before: (\d+) degrees, after: ([\d.]+) degrees", printed)
    assert float(after) < float(before) / 2
    return f"before: {before} degrees, after: {after} degrees"


@pytest.mark.slow
@pytest.mark.parametrize("lesson", LESSONS, ids=lambda lesson: lesson.stem)
def test_a_lesson_runs_from_top_to_bottom_with_the_solutions_in_place(lesson, course, monkeypatch):
    """In this process, which has loaded what a kernel would load again for each lesson."""
    import matplotlib.pyplot as plt

    monkeypatch.chdir(COURSE)
    shown: list[int] = []
    monkeypatch.setattr(plt, "show", lambda: shown.append(len(plt.gcf().axes)) or plt.close("all"))
    namespace: dict[str, object] = {"__name__": "__main__"}
    with contextlib.redirect_stdout(io.StringIO()) as printed:
        for cell in course.read(lesson, solved=True).cells:
            if cell.cell_type == "code":
                exec(compile(cell.source, lesson.name, "exec"), namespace)
    assert degrees_of(lesson, printed.getvalue())
    assert shown
    assert min(shown) > 0


@pytest.mark.slow
@pytest.mark.parametrize("lesson", sampled(LESSONS, LESSONS[2]), ids=lambda lesson: lesson.stem)
def test_a_lesson_becomes_a_notebook_and_a_page(lesson, course):
    notebook = course.execute(course.read(lesson, solved=True))
    degrees = degrees_of(lesson, course.printed(notebook))
    assert course.pictures(notebook)
    page = import_module("lesson_page").page_of(notebook, [lesson.stem])
    assert page.count('src="data:image/png') == len(course.pictures(notebook))
    assert degrees in page


def test_the_runner_refuses_a_lesson_that_is_not_there(course, monkeypatch, capsys):
    monkeypatch.setattr("sys.argv", ["run.py", "1", "99"])
    with pytest.raises(SystemExit):
        course.main()
    assert "there is no lesson 99" in capsys.readouterr().err


def test_what_the_runner_writes(course, monkeypatch, tmp_path, capsys):
    """On a lesson of two cells: a page, and a notebook that works where it lies."""
    lesson = tmp_path / "01_short.py"
    lesson.write_text("# %% [markdown]\n# # 1 · Short\n\n# %%\nprint('<b>' + 2 * 'ab')\n")
    monkeypatch.setattr(course, "LESSONS", [lesson])
    monkeypatch.setattr("sys.argv", ["run.py", "--output", str(tmp_path / "out")])
    course.main()
    page = (tmp_path / "out/01_short.html").read_text(encoding="utf-8")
    assert '<pre class="printed">&lt;b&gt;abab</pre>' in page
    assert "<title>1 · Short</title>" in page
    cells = course.jupytext.read(tmp_path / "out/01_short.ipynb").cells
    namespace: dict[str, object] = {}
    monkeypatch.setattr("sys.path", [path for path in sys.path if path != str(COURSE)])
    exec(cells[0].source, namespace)
    assert sys.path[0] == str(COURSE)
    assert "CPU s in all" in capsys.readouterr().out


def test_a_lesson_that_fails_stops_the_runner(course, monkeypatch, tmp_path):
    lesson = tmp_path / "01_wrong.py"
    lesson.write_text("# %% [markdown]\n# # 1 · Wrong\n\n# %%\nassert 1 == 2, 'it rots'\n")
    with pytest.raises(Exception, match="it rots"):
        course.execute(course.read(lesson))
