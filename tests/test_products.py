"""What is left to `make test-rest` has no value that `make test` does not try."""

from __future__ import annotations

import pytest

from tests.products import covering, sampled


def kept(cases):
    return [case.values for case in cases if not case.marks]


@pytest.mark.parametrize("sizes", [(2, 2), (3, 2), (4, 4), (2, 3, 7), (5, 5, 2), (1, 3), (6,)])
def test_every_value_is_in_a_case_that_is_kept(sizes):
    axes = [[f"{which}{n}" for n in range(size)] for which, size in zip("abc", sizes, strict=False)]
    cases = covering(*axes)
    assert len({case.values for case in cases}) == len(cases)
    for which, axis in enumerate(axes):
        assert [value for value in axis if value in {case[which] for case in kept(cases)}] == axis
        assert {case.values[which] for case in cases} == set(axis)
    assert len(kept(cases)) < len(cases) or len(sizes) == 1 or 1 in sizes


def test_values_of_short_axes_meet_each_other():
    met = {case[1:] for case in kept(covering(range(8), "ab", "xy"))}
    assert met == {("a", "x"), ("b", "x"), ("a", "y"), ("b", "y")}


def test_a_sample_is_of_the_table():
    cases = sampled("abc", "b")
    assert [getattr(case, "values", case) for case in cases] == [("a",), "b", ("c",)]
    assert [case.marks[0].name for case in cases if case != "b"] == ["rest", "rest"]
    with pytest.raises(ValueError, match=r"\['d'\] are no cases"):
        sampled("abc", "d")
