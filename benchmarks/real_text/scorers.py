"""The default scorers of the real-text benchmark: plain functions, as a user's own would be.

Both count *different* things found in a text, so that repeating one of them does not pay, and both
give a number from 0 to 1.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

WARM_WORDS = """
    love loves loved lovely sweet sweetly fair gentle gentleness dear dearest kind kindly
    kindness friend friends friendship joy joys joyful happy happiness bless blessed
    blessing grace gracious honour honourable noble peace thank thanks good faithful true
    heaven hope comfort merry pray welcome beauty beauteous tender
"""
COLD_WORDS = """
    hate hated death die dies dead kill kills killed murder blood bloody villain traitor
    foul vile curse cursed cruel enemy enemies slave knave wretch hang hell devil shame
    grief woe sorrow tears revenge wrath
"""
ENOUGH_WARM_WORDS = 5

COURTESIES = {
    "thanks": r"\b(thanks|thank you|thx|cheers)\b",
    "please": r"\bplease\b",
    "polite question": r"\b(could|would|can|may|might) (you|i|we)\b",
    "hedge": r"\b(perhaps|maybe|possibly|i think|i wonder|i was wondering|seems?)\b",
    "apology": r"\b(sorry|apologi[sz]e|apologies|excuse me|pardon)\b",
    "appreciation": r"\b(appreciate|grateful|great|nice|good|excellent|wonderful|helpful)\b",
    "greeting": r"\b(hi|hello|hey|greetings|dear|welcome)\b",
    "good will": r"\b(help|kindly|if you (like|wish|want|have time)|let me know|glad|happy to)\b",
}
RUDENESS = {
    "insult": r"\b(stupid|idiot|ridiculous|nonsense|pathetic|silly|dumb|crap|bullshit)\b",
    "accusation": r"\b(why (did|do|are|would) you|what the hell|how dare|your problem)\b",
    "command": r"\b(stop|don't you|you (must|need to|have to|should))\b",
}
ENOUGH_COURTESIES = 4


def warmth(prompts: Sequence[str], completions: Sequence[str]) -> list[float]:
    """Different warm words less different cold ones, of the five that are enough."""
    return [_share(*_words_of(completion), ENOUGH_WARM_WORDS) for completion in completions]


def courtesy(prompts: Sequence[str], completions: Sequence[str]) -> list[float]:
    """Different courtesies less different rudenesses, of the four that are enough.

    The courtesies are strategies that people rate as polite in requests (Danescu-Niculescu-Mizil et
    al., "A computational approach to politeness", ACL 2013, table 3).
    """
    return [
        _share(_found(COURTESIES, text), _found(RUDENESS, text), ENOUGH_COURTESIES)
        for text in map(str.lower, completions)
    ]


def _words_of(completion: str) -> tuple[int, int]:
    words = set(re.findall(r"[a-z]+", completion.lower()))
    return len(words.intersection(WARM_WORDS.split())), len(words.intersection(COLD_WORDS.split()))


def _found(patterns: dict[str, str], text: str) -> int:
    return sum(bool(re.search(pattern, text)) for pattern in patterns.values())


def _share(good: int, bad: int, enough: int) -> float:
    return min(max(good - bad, 0), enough) / enough
