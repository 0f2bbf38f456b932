"""Parts of what is done to a rollout's rewards, each by itself."""

from __future__ import annotations

import numpy as np
import pytest

from llm_gym.learning import shaping
from llm_gym.learning.buffer import Segment
from llm_gym.learning.divergence import DivergenceError
from llm_gym.learning.objective import KLPenalty
from llm_gym.learning.shaping import EpisodeSums, RewardShaping


def segments(lengths):
    return [
        Segment(env, 3, 3 + length // 2, np.zeros(length - length // 2, dtype=np.int64), True)
        for env, length in enumerate(lengths)
    ]


@pytest.mark.parametrize(
    ("lengths", "chunks"),
    [
        ([], []),
        ([100], [[100]]),  # longer than a pass may be, and cannot be parted
        ([8, 8, 8, 8, 8], [[8, 8], [8, 8], [8]]),  # 16 each
        ([7, 3, 6, 5, 2, 4], [[7, 6], [5, 4, 3], [2]]),  # 14, 15 and 2, padding included
        ([16, 1, 1, 1], [[16], [1, 1, 1]]),
        ([1] * 18, [[1] * 16, [1] * 2]),
        ([9, 8], [[9], [8]]),
    ],
)
def test_no_pass_has_more_tokens_than_it_may_with_its_padding(lengths, chunks, monkeypatch):
    monkeypatch.setattr(shaping, "_TOKENS_PER_PASS", 16)
    found = shaping._chunks(segments(lengths))
    assert [[segment.num_tokens for segment in chunk] for chunk in found] == chunks


@pytest.mark.parametrize(
    ("rewards", "returns"),
    [([1.0, np.inf], [1.0]), ([3e38, 3e38], [np.inf]), ([np.nan], [np.nan]), ([-np.inf], [])],
)
def test_rewards_of_answers_ended_or_not_must_be_numbers(rewards, returns):
    ended = EpisodeSums(np.array(returns, np.float32), np.zeros(len(returns), np.float32))
    rewards = np.array(rewards, np.float32)
    with pytest.raises(DivergenceError, match="beyond float32"):
        shaping._check_finite(rewards, np.zeros_like(rewards), ended)


def test_log_ratios_must_be_numbers_and_both_may_be():
    ended = EpisodeSums(np.ones(1, np.float32), np.ones(1, np.float32))
    shaping._check_finite(np.ones(2, np.float32), np.zeros(2, np.float32), ended)
    with pytest.raises(DivergenceError, match="NaN or infinite"):
        shaping._check_finite(np.ones(2, np.float32), np.array([0, -np.inf], np.float32), ended)


def test_settings_of_shaping_are_given_by_name():
    with pytest.raises(TypeError, match="positional argument"):
        RewardShaping(KLPenalty(), True, None)
