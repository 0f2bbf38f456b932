"""Who sits in the other seats: functions from what a player has heard to what it says."""

from __future__ import annotations

import re
import zlib
from collections.abc import Callable

_MOVE = re.compile(r"\[[^\[\]\n]{1,20}\]")
_PILE = re.compile(r"pile (\d): (\d+)")


def any_move(heard: str) -> str:
    """One of the moves that the game has last called available, by a checksum of all it heard."""
    line = next((line for line in reversed(heard.splitlines()) if "vailable" in line), "")
    moves = _MOVE.findall(line) or ["[0]"]
    return moves[zlib.crc32(heard.encode()) % len(moves)]


def in_turn(heard: str) -> str:
    """Rock, paper, scissors, rock, ..., by the number of rounds so far."""
    return ("[rock]", "[paper]", "[scissors]")[heard.count("Round result") % 3]


def one_match(heard: str) -> str:
    """Takes one of the first pile that is left."""
    piles = dict(_PILE.findall(heard))  # the last that was said of each
    return f"[{next((pile for pile, left in piles.items() if left != '0'), 0)} 1]"


def any_column(heard: str) -> str:
    """Drops a disc anywhere, by a checksum of all it heard."""
    return f"[col {zlib.crc32(heard.encode()) % 7}]"


def eight_or_more(heard: str) -> str:
    """Rolls until its turn is worth eight points."""
    totals = re.findall(r"turn total is (\d+)", heard)
    return "[hold]" if totals and int(totals[-1]) >= 8 else "[roll]"


PLAYERS: dict[str, Callable[[str], str]] = {
    player.__name__: player for player in (any_move, in_turn, one_match, any_column, eight_or_more)
}
