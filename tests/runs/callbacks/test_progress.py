from __future__ import annotations

import pytest

from llm_gym.files.page import duration
from llm_gym.runs.callbacks.progress import sparkline


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0 s"), (59.4, "59 s"), (59.6, "1 min 00 s"), (200, "3 min 20 s"), (7500, "2 h 05 min")],
)
def test_duration(seconds, text):
    assert duration(seconds) == text


def test_sparkline_goes_from_lowest_to_highest():
    assert sparkline([0, 7]) == "▁█"
    assert sparkline([3, 3, 3]) == "▁▁▁"
    assert sparkline([5]) == "▁"


def test_sparkline_averages_what_does_not_fit():
    assert sparkline([0, 0, 4, 10, 7, 7], width=3) == "▁██"
