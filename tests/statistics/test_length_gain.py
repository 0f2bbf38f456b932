"""The part of a gain that is not length."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest

from llm_gym.statistics.length_gain import length_gain


def test_two_buckets_by_hand():
    """Short answers gain 2 and long ones 4; three short ones became long.

    Before: lengths 5, 5, 5, 25 with rewards 0, 0, 0, 10. After: 5, 25, 25, 25 with 2, 14, 14, 14.
    Gain (2 + 14 * 3) / 4 - 10 / 4 = 8.5. NRG: short gain 2 with 3 + 1 answers, long gain 4 with
    1 + 3: 3.
    """
    result = length_gain([0, 0, 0, 10], [5, 5, 5, 25], [2, 14, 14, 14], [5, 25, 25, 25])
    assert result.gain == 8.5
    assert result.non_length_gain == 3.0
    assert result.covered == 1.0
    assert [(b.start, b.stop, b.before, b.after, b.gain) for b in result.buckets] == [
        (0, 20, 3, 1, 2.0),
        (20, 40, 1, 3, 4.0),
    ]


def test_a_reward_of_length_alone_gains_nothing_else():
    rng = np.random.default_rng(0)
    before, after = rng.integers(0, 60, 400), rng.integers(20, 100, 400)
    result = length_gain(before // 20, before, after // 20, after)
    assert result.gain > 1
    assert result.non_length_gain == pytest.approx(0.0, abs=1e-12)
    assert result.share == pytest.approx(0.0, abs=1e-12)
    assert result.covered < 0.9  # nothing was ever as long as the longest


def test_equal_lengths_gain_everything_else():
    rng = np.random.default_rng(0)
    lengths = rng.integers(0, 100, 300)
    before = rng.normal(0, 1, 300)
    result = length_gain(before, lengths, before + 0.5, lengths)
    assert result.share == pytest.approx(1.0)
    low, high = result.share_interval
    assert low == pytest.approx(high) == pytest.approx(1.0)
    assert (result.mean_length_before, result.covered) == (lengths.mean(), 1.0)


def test_intervals_cover_a_known_share():
    """Reward = bucket number + 1 after training: non-length gain 1, whatever lengths do."""
    rng = np.random.default_rng(2)
    covered = 0
    for _ in range(100):
        before, after = rng.integers(0, 80, 150), rng.integers(0, 100, 150)
        noise = rng.normal(0, 1, (2, 150))
        result = length_gain(
            before // 20 + noise[0], before, after // 20 + 1 + noise[1], after, resamples=300
        )
        low, high = result.non_length_interval
        covered += low <= 1.0 <= high
    assert covered >= 86  # of 100, at 95 %


def test_lengths_without_an_overlap_have_no_answer():
    result = length_gain([0.0, 0.0], [5, 6], [1.0, 1.0], [100, 101])
    assert result.gain == 1.0
    assert result.covered == 0.0
    assert result.non_length_gain is result.non_length_interval is result.share is None
    json.dumps(result.to_dict(), allow_nan=False)


def test_no_share_of_a_gain_that_may_be_nothing():
    rng = np.random.default_rng(0)
    lengths = rng.integers(0, 40, 50)
    result = length_gain(rng.normal(size=50), lengths, rng.normal(size=50), lengths)
    assert result.gain_interval[0] < 0 < result.gain_interval[1]
    assert result.share is None
    assert result.non_length_gain is not None


@pytest.mark.parametrize(
    ("arguments", "kwargs", "message"),
    [
        (([1.0], [1], [1.0, 2.0], [1, 2]), {}, "one number a prompt"),
        (([1.0], [-1], [1.0], [1]), {}, "lengths_before contains a negative"),
        (([math.nan], [1], [1.0], [1]), {}, "rewards_before contains NaN"),
        (([1.0], [1], [1.0], [1]), {"bucket": 0}, "bucket=0"),
        (([], [], [], []), {}, "one number a prompt"),
    ],
)
def test_bad_input_is_refused(arguments, kwargs, message):
    with pytest.raises(ValueError, match=message):
        length_gain(*arguments, **kwargs)
