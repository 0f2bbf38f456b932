"""Who writes to whom, and when: the word lists that every kind of text in the corpus shares."""

from __future__ import annotations

__all__ = [
    "BY_DAYS",
    "DAYS",
    "FIRST_NAMES",
    "MONTHS",
    "ON_DAYS",
    "PERIODS",
    "SURNAMES",
    "TO_DAYS",
    "UNTIL",
]

FIRST_NAMES = (
    *("Anna", "Ben", "Carla", "David", "Emma", "Frank", "Grace", "Henry", "Ines", "Jack"),
    *("Karen", "Leo", "Maria", "Nina", "Oscar", "Paula", "Peter", "Rosa", "Sam", "Tom"),
    *("Vera", "Hugo", "Zoe", "Omar", "Lucy", "Mark"),
)

SURNAMES = (
    *("Adams", "Baker", "Clark", "Cooper", "Evans", "Fisher", "Green", "Hill", "King", "Lee"),
    *("Mills", "Novak", "Parker", "Reed", "Stone", "Turner", "Ward", "Young"),
)

DAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday")
MONTHS = ("January", "March", "April", "May", "June", "July", "September", "October")

#: Deadlines: they fit after anything that has to be done.
BY_DAYS = (*(f"by {day}" for day in DAYS), "by tomorrow", "by next week", "by noon", "this week")
#: Days on which something happens.
ON_DAYS = (*(f"on {day}" for day in DAYS), "tomorrow", "next week", "this afternoon")
#: Longer stretches of time.
PERIODS = ("next week", "next month", "this summer", *(f"in {month}" for month in MONTHS))
#: Where an appointment is moved to.
TO_DAYS = (*(f"to {day}" for day in DAYS), "to next week", "to the afternoon", "to the morning")
#: New deadlines.
UNTIL = (*(f"until {day}" for day in DAYS), "until next week", "until noon", "until tomorrow")
