"""Kuhn poker against a strategy: best responses, values and exploitability, exactly.

H. W. Kuhn, A Simplified Two-Person Poker, 1950. Three cards, an ante of one, one bet of one. A
strategy is the probability of a bet at each of the twelve places (card, what was said), where a
bet after a bet is a call.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from llm_gym_known_optimum.talks.talk import Outcome, Talk, solve

__all__ = ["PLACES", "KuhnPoker", "Strategy", "equilibrium", "exploitability"]

Strategy = Mapping[tuple[int, str], float]

NAMES = ("jack", "queen", "king")
PLACES = [(card, said) for said in ("", "pb", "p", "b") for card in range(3)]
"""All places: the card (0 to 2), and what both have said (p is a pass, b a bet)."""

_ENDS = ("pp", "pbp", "pbb", "bp", "bb")
_SAYS = {"pass": "p", "bet": "b"}


def equilibrium(bluff: float = 0.0) -> dict[tuple[int, str], float]:
    """One of Kuhn's equilibria.

    Args:
        bluff: How often the first player bets with a jack, from 0 to 1/3.

    Raises:
        ValueError: It is outside.
    """
    if not 0 <= bluff <= 1 / 3:
        raise ValueError(f"bluff={bluff!r} must be from 0 to 1/3")
    first = {"": (bluff, 0.0, 3 * bluff), "pb": (0.0, bluff + 1 / 3, 1.0)}
    second = {"p": (1 / 3, 0.0, 1.0), "b": (0.0, 1 / 3, 1.0)}
    shares = first | second
    return {(card, said): shares[said][card] for card, said in PLACES}


def payoff(said: str, first: int, second: int) -> float:
    """What the first player wins at an end."""
    if said in ("pbp", "bp"):  # who passed has lost the ante
        return -1.0 if said == "pbp" else 1.0
    stake = 2.0 if said.endswith("bb") else 1.0
    return stake if first > second else -stake


class KuhnPoker(Talk):
    """See `llm_gym_known_optimum.talks.task.KuhnPokerEnv`.

    A state is (seat, card, what was said, probabilities of the opponent's cards).

    Args:
        opponent: Strategy of the opponent; None is `equilibrium()`.
        seat: Seat of the agent, 0 or 1; None: either, equally likely.

    Attributes:
        opponent: The same; it may be changed between conversations.

    Raises:
        ValueError: A place is missing, or a probability is none; the seat is another.
    """

    options: ClassVar = ("opponent", "seat")
    words = ("pass", "bet")
    world_words = ("first", "second", *NAMES, "passed", "raised", "over")
    longest = (3, 1)
    max_turns = 2
    forfeit = least = -2.0
    most = 2.0

    def __init__(self, opponent: Strategy | None = None, seat: int | None = None) -> None:
        if seat not in (None, 0, 1):
            raise ValueError(f"seat={seat!r} must be 0, 1 or None")
        self.seats = (0, 1) if seat is None else (seat,)
        self.opponent = equilibrium() if opponent is None else dict(opponent)
        for place in PLACES:
            share = self.opponent.get(place, -1.0)
            if not 0 <= share <= 1:
                raise ValueError(
                    f"opponent={opponent!r} has {share} at {place}, but every place needs the "
                    "probability of a bet there"
                )

    def beginnings(self) -> list[Outcome]:
        """A seat and a card, and in the second seat what the opponent has said."""
        found = []
        for card in range(3):
            unknown = tuple(0.0 if other == card else 0.5 for other in range(3))
            share = 1 / (3 * len(self.seats))
            if 0 in self.seats:
                found.append(Outcome(share, f"first {NAMES[card]}", 0.0, (0, card, "", unknown)))
            if 1 in self.seats:
                found += [
                    Outcome(share * p, f"second {NAMES[card]} {text}", 0.0, (1, card, said, cards))
                    for said, text, p, cards in self._heard("", unknown)
                ]
        return found

    def _heard(
        self, said: str, cards: tuple[float, ...]
    ) -> list[tuple[str, str, float, tuple[float, ...]]]:
        """What the opponent may say: all that was said then, its word, how likely, its cards."""
        bets = [p * self.opponent[card, said] if p else 0.0 for card, p in enumerate(cards)]
        found = []
        for word, text in (("b", "raised"), ("p", "passed")):
            joint = [b if word == "b" else p - b for b, p in zip(bets, cards, strict=True)]
            share = sum(joint)
            if share > 0:
                found.append((said + word, text, share, tuple(p / share for p in joint)))
        return found

    def outcomes(self, state: tuple[int, int, str, tuple[float, ...]], word: str) -> list[Outcome]:
        """The end, or what the opponent says to it."""
        seat, card, said, cards = state
        said += _SAYS[word]
        if said in _ENDS:
            return self._ends(seat, card, said, cards)
        found = []
        for after, text, share, theirs in self._heard(said, cards):
            if after in _ENDS:
                ends = self._ends(seat, card, after, theirs)
                found += [
                    Outcome(share * one.probability, "over", one.reward, None) for one in ends
                ]
            else:
                found.append(Outcome(share, text, 0.0, (seat, card, after, theirs)))
        return found

    @staticmethod
    def _ends(seat: int, card: int, said: str, cards: tuple[float, ...]) -> list[Outcome]:
        pays = [
            payoff(said, card, other) if seat == 0 else -payoff(said, other, card)
            for other in range(3)
        ]
        return [Outcome(p, "over", pay, None) for p, pay in zip(cards, pays, strict=True) if p]

    def conversation(self, card: int, said: str) -> tuple[int, ...]:
        """Tokens that an agent has read at a place."""
        texts: dict[str, str] = {
            "": f"first {NAMES[card]}",
            "pb": f"first {NAMES[card]} pass raised",
            "p": f"second {NAMES[card]} passed",
            "b": f"second {NAMES[card]} raised",
        }
        return self.ids(texts[said])


def exploitability(strategy: Strategy) -> float:
    """What a best response wins against a strategy, a mean over both seats; 0 in equilibrium.

    Half of what is known as NashConv.
    """
    return solve(KuhnPoker(strategy)).value


def strategy_from(talk: KuhnPoker, shares: Any) -> dict[tuple[int, str], float]:
    """A strategy from probabilities of the words at all places.

    Args:
        talk: The game.
        shares: Function of conversations (tokens each) that returns probabilities `(B, V)`
            (`word_probabilities`). What is none of the two words counts for nothing.
    """
    said = shares([talk.conversation(*place) for place in PLACES])
    return {
        place: float(row[1] / (row[0] + row[1])) for place, row in zip(PLACES, said, strict=True)
    }
