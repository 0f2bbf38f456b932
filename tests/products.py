"""Tables of cases: `make test` takes those that have every value, `make test-rest` the others."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import count, product
from typing import Any

import pytest


def sampled(cases: Iterable[Any], *kept: Any) -> list[Any]:
    """Cases of which those that are not kept are marked `rest`.

    Raises:
        ValueError: If one that is to be kept is no case.
    """
    cases = list(cases)
    if missing := [case for case in kept if case not in cases]:
        raise ValueError(f"kept={missing} are no cases: these are {cases}")
    return [case if case in kept else pytest.param(case, marks=pytest.mark.rest) for case in cases]


def covering(*axes: Iterable[Any]) -> list[Any]:
    """All combinations; those that are not needed for every value to be tried are marked `rest`.

    The longest axis runs through its values, the others count beside it, the first the fastest.
    """
    tables = [list(axis) for axis in axes]
    longest = max(range(len(tables)), key=lambda place: len(tables[place]))
    tried: set[tuple[int, ...]] = set()
    for number in count():
        place, left = [], number
        for which, table in enumerate(tables):
            if which == longest:
                place.append(number % len(table))
            else:
                place.append(left % len(table))
                left //= len(table)
        tried.add(tuple(place))
        seen = [{place[which] for place in tried} for which in range(len(tables))]
        if list(map(len, seen)) == list(map(len, tables)):
            break
    combinations = []
    for place in product(*(range(len(table)) for table in tables)):
        case = [table[which] for which, table in zip(place, tables, strict=True)]
        marks = () if place in tried else pytest.mark.rest
        combinations.append(pytest.param(*case, marks=marks))
    return combinations
