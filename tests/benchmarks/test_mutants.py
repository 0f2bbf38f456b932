"""Faults that are put in are found again, fit the code as it is, and are counted rightly."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from benchmarks.faults import fitting as fittings
from benchmarks.faults import mutants, mutation
from benchmarks.faults.fitting import Fitting, functions_at, words
from benchmarks.faults.swap import CannotSwapError, loaded_functions, swap
from benchmarks.faults.workshop import Workshop

TWO = '''"""Doubles."""


def double(x: int | None) -> int | None:
    """Twice as much."""
    return 2 * x


def triple(x):
    return 3 * x
'''


def test_the_injected_faults_fit_the_code():
    """Where this fails, much code has moved: the entries in `injected/` have to follow it.

    A few may lag behind, whatever change is at hand; the tool names them and tries none before
    they fit.
    """
    found, misfits = mutants.read_mutants(), []
    for mutant in found:
        try:
            mutants.texts_of([mutant])
        except ValueError as error:
            misfits.append(str(error))
    assert len(found) >= 127
    assert len({(m.file, m.old, m.new) for m in found}) == len(found)
    assert all(mutant.old != mutant.new for mutant in found)
    assert len(misfits) <= len(found) // 50, "\n".join(misfits)


def test_a_fault_whose_place_is_gone_is_named():
    once, gone, twice = (
        mutants.Mutant("llm_gym/__init__.py", old, "?", "breaks")
        for old in ("__version__ = ", "no such text", "import")
    )
    mutants.texts_of([once])
    with pytest.raises(ValueError, match=r"(?s)'no such text' stands there 0 times.*'import'"):
        mutants.texts_of([once, gone, twice])


def test_equivalent_mutants_are_not_counted():
    caught, missed = (
        mutants.Mutant("llm_gym/__init__.py", "__version__ = ", new, new) for new in ("a", "b")
    )
    same = missed._replace(new="c", equivalent="the same")
    text = mutants.texts_of([caught])[caught.file]
    results = {caught.key(text): "test_x", missed.key(text): "", same.key(text): ""}
    row = mutants.row_of([caught, missed, same], results)
    assert (row.good, row.tried) == (1, 2)
    assert row.failures == ["llm_gym/__init__.py: b"]


def test_annotations_and_docstrings_are_no_change():
    for old, new in (("int | None)", "int + None)"), ("-> int | None", "-> 0"), ("Twice", "Half")):
        assert not mutation.is_change(TWO, TWO.replace(old, new))
    assert mutation.is_change(TWO, TWO.replace("2 * x", "2 + x"))
    assert not mutation.is_change(TWO, TWO.replace("2 * x", "2 * * x"))  # no Python, so no mutant


def test_a_line_belongs_to_the_innermost_function():
    assert functions_at(TWO, range(6, 7)) == {"double"}
    assert functions_at(TWO, range(6, 11)) == {"double", "triple"}
    assert functions_at(TWO, range(1, 5)) == set()  # not the line that its arguments stand on


def test_words_of_names_are_told_apart():
    assert words("x = self.first_ratio(2) # Of It") == {"self", "first", "ratio"}


def test_verdicts_are_read_as_they_are_written(tmp_path):
    change = mutation.change_of("a.py", TWO, TWO.replace("2 * x", "2 | x"))
    assert change == mutation.Change("a.py", "return 2 * x", "return 2 | x")
    longer = TWO.replace("def triple", "\n@cache\ndef triple")  # an empty line goes with it
    assert mutation.change_of("a.py", longer, TWO) == mutation.Change("a.py", "@cache", "")
    table = tmp_path / "survivors.md"
    table.write_text(f"# Title\n\n{mutation.row_in_table(change, 'equivalent: x is 2')}\n")
    assert mutation.verdicts(table) == {change: "equivalent: x is 2"}
    row = mutation.row_of({change: ""}, mutation.verdicts(table))
    assert (row.good, row.tried) == (0, 0)
    assert mutation.row_of({change: ""}, {change: "mended"}).tried == 1
    mutation.verdicts()  # the real table can be read


@pytest.fixture
def tree(tmp_path):
    """A library of two functions, of which tests notice one."""
    root = tmp_path / "root"
    (root / "llm_gym" / "learning").mkdir(parents=True)
    (root / "tests" / "learning").mkdir(parents=True)
    for package in ("llm_gym", "llm_gym/learning", "tests", "tests/learning", "benchmarks"):
        (root / package).mkdir(exist_ok=True)
        (root / package / "__init__.py").touch()
    shutil.copytree(Path(mutants.__file__).parent, root / "benchmarks" / "faults")
    (root / "llm_gym" / "learning" / "two.py").write_text(TWO)
    for name in ("double", "triple"):
        (root / "tests" / "learning" / f"test_{name}.py").write_text(
            f"from llm_gym.learning.two import {name}\n\n"
            f"def test_{name}():\n    assert {name}(2) == {name}(2)\n"
        )
    with (root / "tests" / "learning" / "test_double.py").open("a") as file:
        file.write("    assert double(3) == 6\n")
    subprocess.run(["git", "init", "-q"], cwd=root, check=True)
    return root


def test_a_fault_is_seen_by_the_tests_that_call_what_it_is_in(tree, tmp_path, monkeypatch):
    file = "llm_gym/learning/two.py"
    monkeypatch.setattr("benchmarks.faults.fitting.ALSO", ())
    whole = [["tests/learning/test_double.py"]]
    with Workshop(tmp_path / "copy", tree, whole) as workshop:
        fitting = Fitting(workshop, tmp_path / "reach.json")
        groups = fitting.groups(file, TWO, range(6, 7))
        assert groups == [["tests/learning/test_double.py::test_double"]]
        failed = workshop.failing_on(file, TWO.replace("2 * x", "2 + x"), groups)
        assert failed == "tests/learning/test_double.py::test_double"
        others = fitting.groups(file, TWO, range(10, 11))
        assert others == [["tests/learning/test_triple.py::test_triple"]]
        assert workshop.failing_on(file, TWO.replace("3 * x", "x"), others) is None
        assert workshop.failing_on(file, TWO.replace("3 * x", "x"), []) is None  # nothing calls it
        assert workshop.failing(whole) is None  # the file is as it was
        monkeypatch.setattr("benchmarks.faults.workshop.SECONDS", 2.0)
        assert workshop.failing_on(file, "while True:\n    pass\n", whole) == "timeout"
        joined = fitting.groups("llm_gym/learning/joined.py", TWO, range(6, 7))
        assert [group[-2:] for group in joined] == [
            ["tests/parallel/test_processes.py", "tests/parallel/test_parallel.py"]
        ]
        # Line 1 is in no function: a default of one, perhaps.
        assert fitting.groups(file, TWO, range(1, 2))[0] == ["tests/test_signatures.py"]
        # What was found out is kept, for files that are as they were.
        (workshop.folder / "tests/learning/test_double.py").write_text("\n\ndef test_new(): pass\n")
        asked = []
        reach = fittings._reach
        monkeypatch.setattr(fittings, "_reach", lambda *a: asked.append(a[1]) or reach(*a))
        fitting = Fitting(workshop, tmp_path / "reach.json")
        assert asked == ["tests/learning/test_double.py"]
        assert fitting.groups(file, TWO, range(6, 7)) == []
        assert fitting.groups(file, TWO, range(10, 11)) == others
    with pytest.raises(ValueError, match="no copy of the tree"):
        Workshop(tree / "llm_gym", tree)


def test_a_fault_is_seen_where_library_and_tests_are_loaded_once(tree, tmp_path, monkeypatch):
    file, double = "llm_gym/learning/two.py", ["tests/learning/test_double.py"]
    (tree / file).write_text(f"{TWO}\n\nONE = 1\n")
    text = (tree / file).read_text()
    test = "tests/learning/test_double.py::test_double"
    with Workshop(tmp_path / "copy", tree, [double]) as workshop:
        workshop.collect(double)
        # What is done on loading is tried by loading.
        assert workshop.failing_on(file, text.replace("ONE = 1", "double = abs"), [double]) == test
        monkeypatch.setattr(workshop, "failing", None)
        assert workshop.failing_on(file, text.replace("2 * x", "2 + x"), [double]) == test
        # A fault is gone with the process that it was tried in.
        assert workshop.failing_on(file, text.replace("3 * x", "x"), [double]) is None


def test_tests_of_other_rooms_are_asked_of_faults_near_them(tmp_path):
    pages = tmp_path / "tests" / "stages" / "pages"
    pages.mkdir(parents=True)
    for name, text in (
        ("stages/test_chat", ""),
        ("stages/test_rlhf", ""),
        ("stages/test_other", "from llm_gym.stages.pages.table import f"),
        ("stages/pages/test_table", ""),
        ("stages/pages/test_beside", ""),
        ("stages/pages/test_browser", ""),
    ):
        (tmp_path / "tests" / f"{name}.py").write_text(text)

    def asked(*faulty):
        found = fittings.test_files(tmp_path, [f"llm_gym/{file}.py" for file in faulty])
        return {Path(file).stem for file in found if file.startswith("tests/stages")}

    assert asked() == asked("learning/kl") == set()
    assert asked("stages/chat") == {"test_chat"}
    assert asked("stages/rlhf/shown", "learning/kl") == {"test_rlhf"}
    assert asked("stages/pages/table") == {"test_other", "test_table", "test_beside"}
    (pages / "test_browser.py").write_text("import llm_gym.stages.pages.table")
    assert "test_browser" in asked("stages/pages/table")


def test_a_plugins_faults_are_seen_by_the_tests_beside_it_and_by_those_that_import_the_module(
    tmp_path,
):
    for name, text in (
        ("envs/kite/tests/test_wind", ""),
        ("envs/boat/tests/test_sea", ""),
        ("envs/boat/tests/test_both", "from llm_gym_kite.sails.big import hoist"),
        ("tests/stages/test_tour", "import llm_gym_kite.sails.big"),
        ("tests/stages/test_big", ""),
    ):
        path = tmp_path / f"{name}.py"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    found = fittings.test_files(tmp_path, ["envs/kite/llm_gym_kite/sails/big.py"])
    known = [file for file in found if file not in fittings.ALSO]
    assert {Path(file).stem for file in known} == {"test_wind", "test_both", "test_tour"}


def test_another_seed_draws_others(tmp_path):
    def item(number):
        mutation = SimpleNamespace(
            module_path=tmp_path / "a.py", operator_name="o", operator_args={}, occurrence=number
        )
        return SimpleNamespace(mutations=[mutation], job_id=number)

    session: Any = SimpleNamespace(work_items=[item(number) for number in range(400)])

    def drawn(share, seed):
        return [job for job, _ in mutation._drawn(session, share, seed, tmp_path)]

    some, others = drawn(0.25, 0), drawn(0.25, 1)
    assert 60 < len(some) < 140
    assert 60 < len(others) < 140
    assert len(set(some) & set(others)) < 60  # a quarter of a quarter: 25
    assert drawn(0.5, 1)[: len(others)] == others == drawn(0.25, 1)


def test_code_is_swapped_in_all_functions_that_have_it_and_nowhere_else():
    old = TWO + "\n\nclass A:\n    def f(self, k=1):\n        return [k + i for i in range(2)]\n"
    space = {}
    exec(compile(old, "two.py", "exec"), space)
    functions = loaded_functions("two.py")
    held, method = space["triple"], space["A"]().f
    swap("two.py", old, "# A line more\n" + old.replace("3 * x", "4 * x"), functions)
    assert (held(2), space["double"](2), method()) == (8, 4, [1, 2])
    swap("two.py", old, old.replace("k + i", "k - i"), functions)
    assert method() == [1, 0]
    for new in (
        old.replace("k=1", "k=2"),
        old.replace("(x):", "(x, *y):").replace("def triple", "@staticmethod\ndef triple"),
        old + "\nB = 1\n",
        old,
    ):
        with pytest.raises(CannotSwapError):
            swap("two.py", old, new, functions)
    with pytest.raises(CannotSwapError):  # it was loaded as another file
        swap("other.py", old, old.replace("3 * x", "4 * x"), functions)


def test_what_takes_the_processor_for_long_hangs(tree, tmp_path):
    file, double = "llm_gym/learning/two.py", ["tests/learning/test_double.py"]
    tester = tree / "benchmarks" / "faults" / "tester.py"
    tester.write_text(tester.read_text().replace("LONGEST = 30", "LONGEST = 2"))
    hanging = TWO.replace("    return 2", "    while True:\n        pass\n    return 2")
    with Workshop(tmp_path / "copy", tree, [double]) as workshop:
        assert workshop.failing_on(file, hanging, [double]) == "timeout"


def test_a_share_is_part_of_a_larger_one():
    mutants_ = mutants.read_mutants()[:60]
    some, more = (mutants.drawn(mutants_, share) for share in (0.3, 0.6))
    assert 0 < len(some) < len(more) < 60
    assert set(some) < set(more)
    assert mutants.drawn(mutants_, 1.0) == mutants_


def test_a_tree_that_fails_as_it_is_is_no_ground_for_faults(tree, tmp_path):
    whole = [["tests/learning/test_double.py"]]
    (tree / "llm_gym" / "learning" / "two.py").write_text(TWO.replace("2 * x", "2 + x"))
    with (
        pytest.raises(RuntimeError, match=r"test_double fails on the tree as it is"),
        Workshop(tmp_path / "copy", tree, whole),
    ):
        pass
