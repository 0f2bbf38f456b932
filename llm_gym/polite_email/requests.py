"""What people at the office ask one another for.

An `Intent` is a kind of request (time off, a document, a repair, ...) with the words for it; a
`Request` is one of them with every slot filled. Its combination of intent, thing and recipient
decides whether it belongs to the training or to the held-out split.
"""

from __future__ import annotations

import itertools
import zlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from llm_gym.polite_email.intents import INTENTS, Intent
from llm_gym.polite_email.phrases import FIRST_NAMES, SURNAMES

if TYPE_CHECKING:
    import random

Split = Literal["train", "test"]

_HELD_OUT_IN = 6
"""One combination in this many is held out."""


@dataclass(frozen=True)
class Request:
    """One request: who is asked for what, when, and why.

    Attributes:
        intent: The kind of request and its phrases.
        thing: What it is about, as the writer calls it ("the sales report", "my slides").
        when: Time phrase ("by Friday").
        role: Who is asked, from the writer's view ("boss", "landlord").
        name: The recipient's name if it is known ("Anna", "Ms Clark"), else the empty string.
        reason: Why, as a clause ("the client is waiting").
    """

    intent: Intent
    thing: str
    when: str
    role: str
    name: str
    reason: str

    def fill(self, phrase: str) -> str:
        """Puts thing and time into a phrase such as `"send me {x} {when}"`."""
        return phrase.format(x=self.thing, when=self.when)


def split_of(intent: str, thing: str, role: str) -> Split:
    """The split a combination belongs to: a fixed hash, so it never depends on a seed.

    Args:
        intent: Name of the intent.
        thing: What the request is about.
        role: Who is asked.

    Returns:
        `"test"` for about one combination in six, else `"train"`.
    """
    key = f"{intent}|{thing}|{role}".encode()
    return "test" if zlib.crc32(key) % _HELD_OUT_IN == 0 else "train"


def combinations(split: Split) -> list[tuple[Intent, str, str]]:
    """All (intent, thing, role) combinations of a split, in a fixed order.

    Raises:
        ValueError: If the split is unknown.
    """
    if split not in ("train", "test"):
        raise ValueError(f'split must be "train" or "test", got {split!r}')
    return [
        (intent, thing, role)
        for intent in INTENTS
        for thing, role in itertools.product(intent.things, intent.roles)
        if split_of(intent.name, thing, role) == split
    ]


def draw_request(rng: random.Random, pool: list[tuple[Intent, str, str]]) -> Request:
    """Draws a combination and fill in the rest.

    Args:
        rng: Source of randomness.
        pool: What `combinations` returned.
    """
    intent, thing, role = rng.choice(pool)
    return Request(
        intent=intent,
        thing=thing,
        when=rng.choice(intent.whens),
        role=role,
        name=draw_recipient_name(rng) if rng.random() < 0.6 else "",
        reason=rng.choice(intent.reasons),
    )


def draw_recipient_name(rng: random.Random) -> str:
    """A first name, or a title with a surname."""
    if rng.random() < 0.6:
        return rng.choice(FIRST_NAMES)
    return f"{rng.choice(('Mr', 'Ms'))} {rng.choice(SURNAMES)}"
