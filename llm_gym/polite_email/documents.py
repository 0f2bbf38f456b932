"""The pre-training text: notes, chats, little stories, minutes, letters and replies of an office.

This is what the base model reads. There are no instructions in it, so a model that has only been
pre-trained continues text and does not answer.
"""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

from llm_gym.polite_email.emails import write_email
from llm_gym.polite_email.phrases import DAYS, FIRST_NAMES
from llm_gym.polite_email.requests import Request, Split, combinations, draw_request

if TYPE_CHECKING:
    from collections.abc import Callable

    from llm_gym.polite_email.intents import Intent

_MOODS = ("kind", "tired", "angry", "calm", "busy", "happy", "late", "quiet")
_PLACES = ("in the kitchen", "in the lift", "by the printer", "in the car park", "on the phone")
_ANSWERS = (
    *("Yes, of course.", "No, sorry.", "Let me check first.", "I will do it today.", "Not again!"),
    *("Ask someone else.", "Give me an hour.", "It is already done.", "That is fine with me."),
    *("I would love to help.", "You must be joking.", "Maybe tomorrow.", "Remind me later."),
)
_ENDS = (
    *("{b} said yes at once.", "{b} said no.", "{b} did not answer.", "In the end {b} agreed."),
    *("{a} went home early.", "{a} was not happy about it.", "They both laughed."),
    *("{b} promised to think about it.", "Nobody spoke about it again.", "{a} said thank you."),
)


def documents(split: Split, count: int, *, seed: int = 0) -> list[str]:
    """Writes documents of the office: emails in mixed registers, notes, chats, stories, minutes.

    Args:
        split: `"train"` or `"test"`; test documents use combinations of topic and recipient
            that no training document has.
        count: How many documents.
        seed: Seed of the documents.

    Raises:
        ValueError: If `count` is negative or the split is unknown.
    """
    if count < 0:
        raise ValueError(f"count must be at least 0, got {count}")
    rng = random.Random(f"documents/{split}/{seed}")  # noqa: S311 - text, not secrets
    pool = combinations(split)
    return [write_document(rng, pool) for _ in range(count)]


def write_document(rng: random.Random, pool: list[tuple[Intent, str, str]]) -> str:
    """Writes one document: an email in half of the cases, else another kind of text.

    Args:
        rng: Source of randomness.
        pool: The combinations of topic and recipient that may occur (`requests.combinations`).
    """
    request = draw_request(rng, pool)
    a, b = rng.sample(FIRST_NAMES, 2)
    kinds: tuple[Callable[[random.Random, Request, str, str], str], ...]
    kinds = (_email, _email, _headed, _headed, _thread, _story, _story, _chat, _note, _minutes)
    return rng.choice(kinds)(rng, request, a, b)


def _email(rng: random.Random, request: Request, a: str, b: str) -> str:
    return write_email(rng, request)


def _headed(rng: random.Random, request: Request, a: str, b: str) -> str:
    """An email under its header lines."""
    to = f"{request.role} {request.name}".rstrip()
    subject = rng.choice((request.thing, f"{request.thing} {request.when}"))
    return f"To: {to}\nSubject: {subject}\n\n{write_email(rng, request)}"


def _thread(rng: random.Random, request: Request, a: str, b: str) -> str:
    """An email with its answer."""
    answer = f"{rng.choice(_ANSWERS)} {rng.choice(('I mean', 'So much for', 'As for'))}"
    return f"{write_email(rng, request)}\n\nRe: {request.thing}\n{answer} {request.thing}.\n{b}"


def _story(rng: random.Random, request: Request, a: str, b: str) -> str:
    act = request.fill(rng.choice(request.intent.acts))
    day, mood, place = rng.choice(DAYS), rng.choice(_MOODS), rng.choice(_PLACES)
    start = rng.choice(
        (
            f"On {day} {a} met {b} {place}.",
            f"{a} was {mood} on {day}.",
            f"It was {day}, and {b} was {mood}.",
            f"{a} and {b} have shared an office for years.",
        )
    )
    middle = rng.choice(
        (
            f'"{_capital(request.fill(rng.choice(request.intent.needs)))}," {a} said.',
            f"{a} thought about {request.thing} because {request.reason}.",
            f'"Can you {act}?" {a} asked.',
            f'{b} was the {request.role}, so {a} asked: "Could you {act}?"',
            f'"{_capital(act)}!" {a} shouted.',
        )
    )
    again = rng.choice(("", f"{b} had forgotten {request.thing}.", f"{b} was {mood} too."))
    end = rng.choice(_ENDS).format(a=a, b=b)
    return " ".join(part for part in (start, middle, again, end) if part)


def _chat(rng: random.Random, request: Request, a: str, b: str) -> str:
    act = request.fill(rng.choice(request.intent.acts))
    opening = rng.choice((f"can you {act}?", f"please {act}", f"any news about {request.thing}?"))
    lines = [f"{a}: {opening}", f"{b}: {rng.choice(_ANSWERS)}"]
    if rng.random() < 0.6:
        lines.append(f"{a}: {rng.choice((f'ok. {request.reason}', 'thanks!', 'fine', 'why not?'))}")
    if rng.random() < 0.3:
        lines.append(f"{b}: {rng.choice(_ANSWERS)}")
    return "\n".join(lines)


def _note(rng: random.Random, request: Request, a: str, b: str) -> str:
    return rng.choice(
        (
            f"To do on {rng.choice(DAYS)}: {request.thing}, call {a}, answer {b}.",
            f"Note for {a}: {b} called about {request.thing}. {_capital(request.reason)}.",
            f"Do not forget {request.thing} {request.when}. Ask {b}, the {request.role}.",
            f"{_capital(request.thing)}: {b} will know more {rng.choice(('soon', 'tomorrow'))}.",
        )
    )


def _minutes(rng: random.Random, request: Request, a: str, b: str) -> str:
    need = request.fill(rng.choice(request.intent.needs))
    return (
        f"Minutes of {rng.choice(DAYS)}. Present: {a}, {b}. {a} spoke about {request.thing}. "
        f"{rng.choice((f'{b} said: {need}.', f'{b} agreed.', f'{b} was against it.'))} "
        f"{rng.choice((f'The reason: {request.reason}.', 'No decision was made.', 'All agreed.'))}"
    )


def _capital(text: str) -> str:
    return text[0].upper() + text[1:]
