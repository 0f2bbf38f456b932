"""Questions: splits that share nothing, determinism, and what cannot be drawn."""

from __future__ import annotations

import random

import numpy as np
import pytest
from llm_gym_reasoning.questions import draw_questions, make_dataset, split_of

from llm_gym.testing.conformance import assert_same

ONE_DIGIT = {"min_terms": 2, "max_terms": 2, "min_digits": 1, "max_digits": 1}


def texts(rows):
    return [row["prompt"] for row in rows]


@pytest.mark.parametrize("task", ["chain_sum", "spell_backward", "gcd", "word_ladder", "maze"])
def test_splits_share_no_question_whatever_the_seed(task):
    train, test = set(), set()
    for seed in range(2):
        rows = draw_questions(task, size=20, test_size=8, seed=seed).rows
        assert [len(rows["train"]), len(rows["test"])] == [20, 8]
        train |= set(texts(rows["train"]))
        test |= set(texts(rows["test"]))
    assert not train & test


def test_even_a_tiny_world_is_split_without_overlap():
    # Two one-digit terms and a sign: 200 questions, all of which are here.
    every = [
        f"State the final answer to the following arithmetic problem: {a} {sign} {b} ="
        for a in range(10)
        for sign in "+-"
        for b in range(10)
    ]
    counts = {split: sum(split_of(text) == split for text in every) for split in ("train", "test")}
    rows = draw_questions(
        "chain_sum", ONE_DIGIT, size=counts["train"] - 5, test_size=counts["test"] - 2
    ).rows
    assert set(texts(rows["train"])) < set(every)
    assert len(set(texts(rows["train"]))) == len(rows["train"])
    assert not set(texts(rows["train"])) & set(texts(rows["test"]))
    with pytest.raises(ValueError, match=rf"found {counts['train']} of size=1000"):
        draw_questions("chain_sum", ONE_DIGIT, size=1000, test_size=1)


def test_one_question_in_five_is_for_testing():
    share = np.mean([split_of(str(number)) == "test" for number in range(10_000)])
    assert abs(share - 0.2) < 0.016  # 4 standard deviations of 10,000 draws


def test_the_draw_is_deterministic_and_depends_on_the_seed():
    first, again, reseeded = (
        draw_questions("gcd", size=30, test_size=5, seed=seed).rows for seed in (4, 4, 5)
    )
    assert first == again
    # reasoning-gym's own seeds 4 and 5 would share all questions but one.
    assert len(set(texts(first["train"])) & set(texts(reseeded["train"]))) < 5


def test_more_questions_keep_the_first_ones():
    few = draw_questions("spell_backward", size=10, test_size=4).rows
    many = draw_questions("spell_backward", size=40, test_size=4).rows
    assert many["train"][:10] == few["train"]


@pytest.mark.parametrize("task", ["pool_matrix", "chain_sum"])
def test_global_generators_are_left_alone(task):
    before = random.getstate(), np.random.get_state()  # noqa: NPY002 -- the thing under test
    draw_questions(task, size=3, test_size=1)
    assert_same(list(before), [random.getstate(), np.random.get_state()], "unchanged")  # noqa: NPY002


def test_entries_are_the_datasets_own():
    row = draw_questions("gcd", size=3, test_size=1).rows["train"][0]
    entry = make_dataset("gcd")[row["entry"]["metadata"]["source_index"]]
    assert row["entry"] == entry
    assert row["prompt"] == entry["question"]


@pytest.mark.parametrize(("name", "value"), [("size", 1.5), ("seed", True), ("test_size", "3")])
def test_numbers_must_be_integers(name, value):
    with pytest.raises(TypeError, match=name):
        draw_questions("gcd", **{name: value})
