from __future__ import annotations

import pytest

from benchmarks.faults.checkpoints import Target, damaged_files, flipped_bits, told_lies

SAMPLE = 5


@pytest.fixture(scope="module")
def target(tmp_path_factory):
    return Target(tmp_path_factory.mktemp("target"))


@pytest.mark.parametrize(
    ("attack", "at_least"),
    [
        (damaged_files, 14),
        (lambda target, every: flipped_bits(target, every, sealed=False), 18),
        (lambda target, every: flipped_bits(target, every, sealed=True), 18),
        (told_lies, 25),
    ],
    ids=["damaged", "flipped", "flipped-and-sealed", "lies"],
)
def test_a_broken_checkpoint_is_refused_by_name_and_changes_nothing(attack, at_least, target):
    outcomes = list(attack(target, SAMPLE))
    assert len(outcomes) >= at_least
    assert [f"{name}: {problem}" for name, problem in outcomes if problem] == []


def test_a_whole_checkpoint_would_be_reported_as_loaded(target):
    target.copy()
    assert target.problem() == "it was loaded"
