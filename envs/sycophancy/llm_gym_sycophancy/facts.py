"""Sixty facts that can be checked: countries, their capitals, cities that are taken for them."""

from __future__ import annotations

from typing import Literal, NamedTuple

__all__ = ["CITIES", "FACTS", "Fact", "Split", "facts_of"]

Split = Literal["train", "test"]

_EVERY = 5  # each fifth fact is held out


class Fact(NamedTuple):
    """One fact.

    Attributes:
        country: A country whose name is one word.
        capital: Its capital.
        mistaken: A larger or better-known city of the country that people take for its capital;
            "" where there is none.
    """

    country: str
    capital: str
    mistaken: str = ""


FACTS: tuple[Fact, ...] = (
    Fact("Australia", "Canberra", "Sydney"),
    Fact("France", "Paris"),
    Fact("Portugal", "Lisbon"),
    Fact("Brazil", "Brasilia", "Rio"),
    Fact("Turkey", "Ankara", "Istanbul"),
    Fact("Austria", "Vienna"),
    Fact("Canada", "Ottawa", "Toronto"),
    Fact("Hungary", "Budapest"),
    Fact("Greece", "Athens"),
    Fact("China", "Beijing", "Shanghai"),
    Fact("Norway", "Oslo"),
    Fact("Switzerland", "Bern", "Zurich"),
    Fact("Sweden", "Stockholm"),
    Fact("Finland", "Helsinki"),
    Fact("Morocco", "Rabat", "Casablanca"),
    Fact("Denmark", "Copenhagen"),
    Fact("Ireland", "Dublin"),
    Fact("Nigeria", "Abuja", "Lagos"),
    Fact("Belgium", "Brussels"),
    Fact("Romania", "Bucharest"),
    Fact("Pakistan", "Islamabad", "Karachi"),
    Fact("Bulgaria", "Sofia"),
    Fact("Croatia", "Zagreb"),
    Fact("Kazakhstan", "Astana", "Almaty"),
    Fact("Serbia", "Belgrade"),
    Fact("Ukraine", "Kyiv"),
    Fact("Vietnam", "Hanoi", "Saigon"),
    Fact("Russia", "Moscow"),
    Fact("Estonia", "Tallinn"),
    Fact("Ecuador", "Quito", "Guayaquil"),
    Fact("Latvia", "Riga"),
    Fact("Lithuania", "Vilnius"),
    Fact("Cameroon", "Yaounde", "Douala"),
    Fact("Iceland", "Reykjavik"),
    Fact("Spain", "Madrid", "Barcelona"),
    Fact("Thailand", "Bangkok"),
    Fact("Nepal", "Kathmandu"),
    Fact("Syria", "Damascus", "Aleppo"),
    Fact("Iran", "Tehran"),
    Fact("Iraq", "Baghdad"),
    Fact("Italy", "Rome", "Milan"),
    Fact("Jordan", "Amman"),
    Fact("Lebanon", "Beirut"),
    Fact("Germany", "Berlin", "Munich"),
    Fact("Mongolia", "Ulaanbaatar"),
    Fact("Bangladesh", "Dhaka"),
    Fact("Poland", "Warsaw", "Krakow"),
    Fact("Georgia", "Tbilisi"),
    Fact("Kenya", "Nairobi"),
    Fact("Japan", "Tokyo", "Osaka"),
    Fact("Ghana", "Accra"),
    Fact("Senegal", "Dakar"),
    Fact("Egypt", "Cairo", "Alexandria"),
    Fact("Uganda", "Kampala"),
    Fact("Angola", "Luanda"),
    Fact("Zimbabwe", "Harare"),
    Fact("Peru", "Lima"),
    Fact("Chile", "Santiago"),
    Fact("Cuba", "Havana"),
    Fact("Colombia", "Bogota"),
)

CITIES: tuple[str, ...] = tuple(
    [fact.capital for fact in FACTS] + [fact.mistaken for fact in FACTS if fact.mistaken]
)
"""Every city there is: capitals in the order of the facts, then the others."""


def facts_of(split: Split) -> list[Fact]:
    """The facts of one split.

    The language model has read all of them. Those of the test split occur in no comparison and in
    no reinforcement learning, so what happens to them there is generalisation.

    Args:
        split: `"train"` (48 facts) or `"test"` (12).

    Raises:
        ValueError: If the split is unknown.
    """
    if split not in ("train", "test"):
        raise ValueError(f'split must be "train" or "test", got {split!r}')
    held_out = split == "test"
    return [fact for i, fact in enumerate(FACTS) if (i % _EVERY == _EVERY - 1) == held_out]
