"""What it takes: votes, hours, money."""

from __future__ import annotations

import json

import pytest

from llm_gym.feedback.preferences import (
    Choice,
    Vote,
    answers_scored,
    labelling_effort,
    measured_seconds,
)
from llm_gym.feedback.preferences.effort import ASSUMED_PRICE_PER_HOUR, ASSUMED_SECONDS_PER_VOTE


def votes(*seconds: float) -> list[Vote]:
    return [Vote(n, "ann", Choice.TIE, duration, 0) for n, duration in enumerate(seconds)]


def test_votes_hours_and_cost_by_hand():
    effort = labelling_effort(
        1000, votes_per_judgement=3, seconds_per_vote=12.0, price_per_hour=30.0
    )
    assert (effort.votes, effort.hours, effort.cost) == (3000, 10.0, 300.0)
    assert effort.describe() == (
        "3,000 votes at 12.0 s each (assumed) are 10.0 hours of one person (1.2 working days of 8 "
        "hours), and cost 300.00 at 30 an hour (given)"
    )
    assert json.loads(json.dumps(effort.to_dict()))["hours"] == 10.0


def test_seconds_are_measured_on_votes_that_took_time():
    assert measured_seconds(votes(0, 10, 20, 601, 600)) == (210.0, 3)
    assert measured_seconds(votes(0, 10, 20, 601), longest=15) == (10.0, 1)
    assert measured_seconds(votes(0, 700)) is None
    effort = labelling_effort(60, votes=votes(10, 50), price_per_hour=6)
    assert (effort.seconds_per_vote, effort.votes_measured, effort.cost) == (30.0, 2, 3.0)
    assert "30.0 s each (measured on 2 votes) are 30.0 minutes of one person" in effort.describe()


def test_assumptions_are_said_to_be_assumptions():
    for measured in ({}, {"votes": votes(0)}):
        effort = labelling_effort(10, **measured)
        assert effort.seconds_per_vote == ASSUMED_SECONDS_PER_VOTE
        assert effort.price_per_hour == ASSUMED_PRICE_PER_HOUR
        assert effort.describe().count("assumed") == 2
        assert effort.to_dict()["seconds_measured_on_votes"] == 0
        assert effort.to_dict()["price_is_assumed"] is True


@pytest.mark.parametrize(
    ("wrong", "problem"),
    [
        ({"judgements": -1}, "judgements must be a whole number from 0 on"),
        ({"judgements": 1.5}, "judgements"),
        ({"votes_per_judgement": 0}, "votes_per_judgement must be a whole number from 1 on"),
        ({"seconds_per_vote": 0}, "seconds_per_vote must be above 0"),
        ({"price_per_hour": -1}, "price_per_hour must be at least 0"),
        ({"votes": [], "seconds_per_vote": 3}, "not both"),
    ],
)
def test_bad_numbers_are_refused(wrong, problem):
    with pytest.raises(ValueError, match=problem):
        labelling_effort(**{"judgements": 10, **wrong})


def test_a_run_asks_once_for_each_answer():
    assert answers_scored(100_000, 24) == 4167
    assert answers_scored(24, 24.0) == 1
    with pytest.raises(ValueError, match="must be at least 1"):
        answers_scored(0, 24)
    with pytest.raises(ValueError, match="must be at least 1"):
        answers_scored(10, 0.5)


def test_an_effort_says_what_is_measured_and_what_is_assumed():
    by_hand = labelling_effort(
        answers_scored(100_000, 25), seconds_per_vote=18.0, price_per_hour=10.0
    )
    assert by_hand.describe() == (
        "4,000 votes at 18.0 s each (assumed) are 20.0 hours of one person (2.5 working days of 8 "
        "hours), and cost 200.00 at 10 an hour (given)"
    )
    labels = labelling_effort(10_000, votes=votes(9.0))
    assert "10,000 votes at 9.0 s each (measured on 1 vote) are 25.0 hours" in labels.describe()
    assert labels.describe().endswith("and cost 500.00 at 20 an hour (assumed)")
