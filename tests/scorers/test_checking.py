"""What counts as one finite real number per completion."""

from __future__ import annotations

import re
from fractions import Fraction

import numpy as np
import pytest
import torch

from llm_gym.scorers.checking import as_real_vector, finite_number


@pytest.mark.parametrize(
    "raw",
    [
        [1.0, 0.0],
        (1, 0),
        [True, False],
        [np.bool_(True), np.float16(0)],
        np.array([1, 0], dtype=np.uint8),
        np.array([True, False]),
        np.array([1.0, 0], dtype=object),
        torch.tensor([1.0, 0.0], requires_grad=True),
        torch.tensor([1.0, 0.0], dtype=torch.bfloat16),
        torch.tensor([True, False]),
        [torch.tensor(1.0, requires_grad=True), torch.tensor(0)],
        [np.array(1.0), Fraction(0)],
        {"a": 1.0, "b": 0.0}.values(),
    ],
    ids=repr,
)
def test_real_numbers_of_any_kind_pass(raw):
    values, problem, _ = as_real_vector(raw, 2)
    assert problem is None
    assert values.dtype == np.float64
    assert values.tolist() == [1.0, 0.0]


@pytest.mark.parametrize(
    ("raw", "problem", "row"),
    [
        (None, "bare value None", None),
        (1.0, "bare value 1.0", None),
        (np.float32(1), "bare value", None),
        (torch.tensor(1.0), "bare value", None),
        ("10", "a str instead", None),
        (b"10", "a bytes instead", None),
        ({"a": 1, "b": 2}, "a dict instead", None),
        ({1.0, 2.0}, "a set instead", None),
        (iter([1.0, 2.0]), "type list_iterator", None),
        (object(), "type object", None),
        ([1.0], "1 scores for 2", None),
        (np.zeros(3), "3 scores for 2", None),
        (np.zeros((2, 1)), r"an array of shape \(1,\)", 0),
        (torch.zeros(2, 1), r"\[0.0\] instead", 0),
        ([1.0, None], "None instead", 1),
        ([1.0, "2"], "'2' instead", 1),
        (np.array(["1", "2"]), "'1'", 0),
        ([1.0, 2j], "2j instead", 1),
        (np.array([1j, 2]), r"1j\)? instead", 0),
        ([0.0, float("nan")], "nan, which is not finite", 1),
        ([float("-inf"), 0.0], "-inf, which is not finite", 0),
        (torch.tensor([0.0, float("inf")]), "inf, which is not finite", 1),
        ([1, 10**400], "inf, which is not finite", 1),
        ([3e38, 1e39], r"1e\+39, which is beyond float32 \(3\.4e\+38 at most\)", 1),
        (np.array([-1e200, 0.0]), r"-1e\+200, which is beyond float32", 0),
        ([None, 10**300], "None instead", 0),
        ([1.0, "x" * 500], "a str instead", 1),
    ],
    ids=lambda value: repr(value)[:40].partition(" at 0x")[0],
)
def test_everything_else_is_named(raw, problem, row):
    outcome = as_real_vector(raw, 2)
    assert outcome.problem is not None
    assert re.search(problem, outcome.problem)
    assert outcome.row == row


def test_the_result_does_not_share_memory_with_the_scorer():
    raw = np.zeros(2)
    as_real_vector(raw, 2).values[0] = 1.0
    assert raw[0] == 0.0


@pytest.mark.parametrize("value", ["1", None, True, 1j])
def test_finite_number_wants_a_number(value):
    with pytest.raises(TypeError, match="factor must be a number"):
        finite_number("factor", value)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_finite_number_wants_a_finite_one(value):
    with pytest.raises(ValueError, match="factor must be finite"):
        finite_number("factor", value)


def test_finite_number_accepts_numpy():
    assert finite_number("factor", np.float32(0.5)) == 0.5
