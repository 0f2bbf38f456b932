"""Emails in mixed registers: polite, neutral and rude, complete and sloppy.

A register is drawn for the whole email and may be left for single parts, because people are rarely
consistent: a rude email may still say thank you, and a polite one may forget to.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Literal

from llm_gym.polite_email.phrases import FIRST_NAMES, NEUTRAL, POLITE, RUDE, Register

if TYPE_CHECKING:
    import random

    from llm_gym.polite_email.requests import Request

RegisterName = Literal["polite", "neutral", "rude"]

_REGISTERS: dict[RegisterName, Register] = {"polite": POLITE, "neutral": NEUTRAL, "rude": RUDE}

REGISTER_SHARES: dict[RegisterName, float] = {"polite": 0.42, "neutral": 0.37, "rude": 0.21}
"""How often each register is chosen for a whole email."""

_STAY = 0.84
"""Chance that a part keeps the register of the email."""

_CARELESS = {
    r"\byou are\b": "ur",
    r"\byou\b": "u",
    r"\byour\b": "ur",
    r"\bplease\b": "pls",
    r"\bthanks\b": "thx",
    r"\bbecause\b": "cos",
}


def write_email(
    rng: random.Random,
    request: Request,
    *,
    register: RegisterName | None = None,
    praise: str = "",
) -> str:
    """Writes one email that makes the request.

    Args:
        rng: Source of randomness.
        request: What is asked of whom.
        register: Register of the email; `None` draws it by `REGISTER_SHARES`. Single parts may
            still be in another.
        praise: One of `phrases.PRAISE`, the last sentence before the sign-off; empty for none.

    Returns:
        Lines joined by newlines: greeting, body, sign-off; any of the outer two may be missing.
    """
    if register is None:
        register = rng.choices(list(REGISTER_SHARES), weights=list(REGISTER_SHARES.values()))[0]
    act = request.fill(rng.choice(request.intent.acts))
    slots = {
        "act": act,
        "Act": act[0].upper() + act[1:],
        "need": request.fill(rng.choice(request.intent.needs)),
        "x": request.thing,
        "reason": request.reason,
        "gripe": rng.choice(request.intent.gripes),
        "name": request.name,
        "role": request.role,
        "me": rng.choice([name for name in FIRST_NAMES if name != request.name]),
    }

    def part(field: str) -> str:
        options: tuple[str, ...] = getattr(_nearby(rng, register), field)
        return rng.choice(options).format_map(slots)

    greeting = part("greetings_named" if request.name else "greetings")
    sentences = [part(name) for name in ("openings", "requests", "reasons", "softeners", "thanks")]
    sentences.append(praise.format_map(slots))
    body = " ".join(sentence for sentence in sentences if sentence)
    email = "\n".join(line for line in (greeting, body, part("closings")) if line)
    return (
        _typed_carelessly(rng, email) if rng.random() < _REGISTERS[register].sloppiness else email
    )


def _nearby(rng: random.Random, register: RegisterName) -> Register:
    """The email's register, or now and then another."""
    if rng.random() < _STAY:
        return _REGISTERS[register]
    return _REGISTERS[rng.choice([name for name in _REGISTERS if name != register])]


def _typed_carelessly(rng: random.Random, email: str) -> str:
    """All small letters; short forms and no last full stop in half of them."""
    email = email.lower()
    if rng.random() < 0.5:
        for pattern, short in _CARELESS.items():
            email = re.sub(pattern, short, email)
        email = email.rstrip(".")
    return email
