"""Blackjack with an infinite deck, exactly.

Rules of Sutton and Barto, Reinforcement Learning (2nd ed.), example 5.1, as Gymnasium's
`Blackjack-v1` has them with `sab=True`.
"""

from __future__ import annotations

from collections import defaultdict
from functools import cache
from typing import ClassVar

from llm_gym_known_optimum.talks.talk import Outcome, Talk

__all__ = ["Blackjack", "dealer_ends"]

Hand = tuple[int, bool]

CARDS = {card: (4 if card == 10 else 1) / 13 for card in range(1, 11)}
"""Probabilities of ace to ten; pictures count ten."""

_NATURAL, _BUST = 21, 21


def with_card(hand: Hand, card: int) -> Hand:
    """Total and whether an ace counts 11, after a card."""
    total, usable = hand
    total += card
    if card == 1 and total + 10 <= 21:
        total, usable = total + 10, True
    if total > 21 and usable:
        total, usable = total - 10, False
    return total, usable


@cache
def dealer_ends(hand: Hand) -> dict[int, float]:
    """Probabilities of the dealer's last total, drawing below 17; above 21 is one entry, 22."""
    if hand[0] >= 17:
        return {min(hand[0], 22): 1.0}
    ends: dict[int, float] = defaultdict(float)
    for card, probability in CARDS.items():
        for end, share in dealer_ends(with_card(hand, card)).items():
            ends[end] += probability * share
    return dict(ends)


class Blackjack(Talk):
    """See `llm_gym_known_optimum.talks.task.BlackjackEnv`.

    A state is (total, usable ace, dealer's card, whether it is a natural).
    """

    options: ClassVar = ()
    words = ("hit", "stick")
    longest = (2, 1)
    max_turns = 20  # each card adds one or more to the total with aces as one, which begins at two
    least = -1.0

    def __init__(self) -> None:
        hard = [f"hard{total}" for total in range(4, 22)]
        soft = [f"soft{total}" for total in range(12, 22)]
        shown = [f"dealer{card}" for card in CARDS]
        self.world_words = (*shown, *hard, *soft, "natural", "bust", "won", "drawn", "lost")
        self._beginnings = self._all_beginnings()

    def _all_beginnings(self) -> list[Outcome]:
        starts: dict[tuple[int, bool, int, bool], float] = defaultdict(float)
        for one, p in CARDS.items():
            for two, q in CARDS.items():
                total, usable = with_card(with_card((0, False), one), two)
                for card, r in CARDS.items():
                    starts[total, usable, card, total == _NATURAL] += p * q * r
        return [
            Outcome(probability, f"dealer{state[2]} {told(state[:2], state[3])}", 0.0, state)
            for state, probability in starts.items()
        ]

    def beginnings(self) -> list[Outcome]:
        """Two cards, and one of the dealer's."""
        return self._beginnings

    def outcomes(self, state: tuple[int, bool, int, bool], word: str) -> list[Outcome]:
        """Another card, or what the dealer makes of it."""
        total, usable, shown, natural = state
        if word == "stick":
            return _compared(total, shown, natural)
        found: dict[tuple[str, Hand | None], float] = defaultdict(float)
        for card, probability in CARDS.items():
            hand = with_card((total, usable), card)
            bust = hand[0] > _BUST
            found["bust" if bust else told(hand), None if bust else hand] += probability
        return [
            Outcome(probability, text, -1.0, None)
            if hand is None
            else Outcome(probability, text, 0.0, (*hand, shown, False))
            for (text, hand), probability in found.items()
        ]


def told(hand: Hand, natural: bool = False) -> str:
    """The word for a hand."""
    return "natural" if natural else f"{'soft' if hand[1] else 'hard'}{hand[0]}"


@cache
def _compared(total: int, shown: int, natural: bool) -> list[Outcome]:
    """Won, drawn and lost; a natural wins against all but a natural."""
    shares: dict[float, float] = defaultdict(float)
    for card, probability in CARDS.items():
        hand = with_card(with_card((0, False), shown), card)
        if natural and hand[0] != _NATURAL:
            shares[1.0] += probability
            continue
        for end, share in dealer_ends(hand).items():
            pays = 1.0 if end > 21 or end < total else 0.0 if end == total else -1.0
            shares[pays] += probability * share
    texts = {1.0: "won", 0.0: "drawn", -1.0: "lost"}
    return [Outcome(share, texts[pays], pays, None) for pays, share in shares.items()]
