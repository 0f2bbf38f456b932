"""Sizes and changes, against series that can be judged by eye."""

from __future__ import annotations

import numpy as np
import pytest

from llm_gym.runs.doctor.measures import (
    after_rollouts,
    change,
    nats_per_answer,
    noise,
    rank_correlation,
    repeats,
)
from llm_gym.runs.doctor.record import Curve, RunRecord


def curve(values):
    places = np.arange(len(values))
    return Curve(places, np.asarray(values, dtype=float), places)


def test_noise_is_that_about_the_course():
    rng = np.random.default_rng(0)
    steep = curve(np.linspace(0, 100, 400) + rng.normal(scale=3, size=400))
    assert noise(steep) == pytest.approx(3, rel=0.1)


def test_two_values_tell_no_noise():
    assert noise(curve([1, 2])) == np.inf
    assert noise(curve([1, 2, 1])) < np.inf


def test_an_answer_is_as_far_away_as_all_its_tokens():
    """Lengths of rows that do not tell the divergence lie between those of rows that do."""
    rows = [{"step": i, "rollout/ep_len_mean": 10.0 * (i + 1)} for i in range(3)]
    for row in (0, 2):
        rows[row]["rollout/kl_k3_per_token"] = 0.5
    assert nats_per_answer(RunRecord(rows)).values.tolist() == [5.0, 15.0]
    told = [{"step": i, "rollout/kl_per_sequence": 7.0} for i in range(3)]
    assert nats_per_answer(RunRecord(told)).values.tolist() == [7.0] * 3


def test_a_change_must_be_beyond_the_noise():
    shakes = np.random.default_rng(0).normal(size=40)
    assert not change(curve(shakes)).is_rise
    assert not change(curve(shakes + np.linspace(0, 0.5, 40))).is_rise
    assert change(curve(shakes + np.linspace(0, 5, 40))).is_rise
    assert change(curve(shakes - np.linspace(0, 5, 40))).is_fall


def test_an_update_is_told_in_the_row_after_its_rollout():
    rows = [{"step": i, "rollout/a": 10.0 * i} for i in range(4)]
    for i in (1, 2, 3):
        rows[i]["train/b"] = 10.0 * (i - 1)
    played, learnt = after_rollouts(RunRecord(rows), "rollout/a", "train/b")
    assert played.values.tolist() == learnt.values.tolist() == [0.0, 10.0, 20.0]


def test_parts_of_a_curve():
    whole = curve(range(8))
    assert whole.part(0, 0.25).values.tolist() == [0, 1]
    assert whole.part(0.75).values.tolist() == [6, 7]
    assert whole.part(0, 0.0).values.tolist() == [0]
    assert len(curve([]).part(0.5)) == 0


def test_words_that_were_said_a_moment_ago():
    assert repeats("you are " * 10) == pytest.approx(0.9)
    assert repeats("Dear Anna, could we meet at noon on Monday? Thank you.") == 0.0
    assert repeats("too short") is None


def test_ranks_share_what_is_tied():
    assert rank_correlation([1, 2, 3, 4], [10, 20, 30, 1000]) == pytest.approx(1)
    assert rank_correlation([1, 1, 2, 2], [5, 5, 3, 3]) == pytest.approx(-1)
    assert rank_correlation([1, 1, 1], [1, 2, 3]) == 0
