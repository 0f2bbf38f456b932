"""Instructions ("Write an email to your boss asking for ...") and the pairs made from them.

Prompts see the request from outside: "my slides" of the email are "your slides" here. Training and
held-out prompts share no combination of intent, thing and recipient (`requests.split_of`), hence no
prompt.
"""

from __future__ import annotations

import random
import re

from llm_gym.polite_email.emails import write_email
from llm_gym.polite_email.phrases import PRAISE
from llm_gym.polite_email.requests import Request, Split, combinations, draw_request
from llm_gym.supervised.pairs import InstructionPair

_PHRASINGS = (
    "Write an email to your {who} asking {aim}.",
    "Write to your {who} and ask {aim}.",
    "Email your {who} to ask {aim}.",
    "In an email, ask your {who} {aim}.",
    "You want to ask your {who} {aim}. Write the email.",
    "Please write an email asking your {who} {aim}.",
    "Draft a short email to your {who} to ask {aim}.",
    "Your {who} is to get an email from you asking {aim}.",
)

_PATIENCE = 1000
"""So many draws in a row without a new prompt, and there are no more to be had."""


def instruction(rng: random.Random, request: Request) -> str:
    """Phrases the instruction that leads to the request.

    Args:
        rng: Source of randomness (which phrasing).
        request: What the email will ask.
    """
    who = f"{request.role} {request.name}".rstrip()
    aim = re.sub(r"\b(my|our)\b", "your", request.fill(request.intent.aim))
    return rng.choice(_PHRASINGS).format(who=who, aim=aim)


def email_prompts(split: Split, count: int, *, seed: int = 0) -> list[str]:
    """Distinct instructions of one split.

    Args:
        split: `"train"` or `"test"`.
        count: Number of prompts.
        seed: Another seed draws other prompts of the same split.

    Returns:
        `count` different prompts.

    Raises:
        ValueError: If `count` is negative, the split is unknown, or the split has too few
            prompts.
    """
    if count < 0:
        raise ValueError(f"count must be at least 0, got {count}")
    rng = _generator("prompts", split, seed)
    pool = combinations(split)
    prompts: dict[str, None] = {}  # a dict keeps the order
    fruitless = 0
    while len(prompts) < count:
        prompt = instruction(rng, draw_request(rng, pool))
        fruitless = fruitless + 1 if prompt in prompts else 0
        prompts[prompt] = None
        if fruitless > _PATIENCE:
            raise ValueError(f"count={count} is more than the {split} split can give; ask for less")
    return list(prompts)


def instruction_pairs(
    split: Split, count: int, *, seed: int = 0, praise_share: float = 0.0
) -> list[InstructionPair]:
    """Instruction/answer pairs; the answers are in mixed registers.

    Args:
        split: `"train"` or `"test"`.
        count: How many; prompts may repeat with other answers.
        seed: Seed of the pairs.
        praise_share: Share of the answers that praise the reader, whatever their register: so that
            raters who like to be flattered have something to choose from. The text is otherwise
            the same.

    Raises:
        ValueError: If `count` is negative, the split is unknown or the share is none.
    """
    if count < 0:
        raise ValueError(f"count must be at least 0, got {count}")
    if not 0 <= praise_share <= 1:
        raise ValueError(f"praise_share must be from 0 to 1, got {praise_share!r}")
    rng = _generator("pairs", split, seed)
    pool = combinations(split)
    praise = _generator("praise", split, seed)
    requests = (draw_request(rng, pool) for _ in range(count))
    return [
        InstructionPair(
            instruction(rng, request),
            write_email(
                rng,
                request,
                praise=praise.choice(PRAISE) if praise.random() < praise_share else "",
            ),
        )
        for request in requests
    ]


def _generator(*key: object) -> random.Random:
    """A generator of its own for each use, so that uses never share a sequence."""
    return random.Random("/".join(map(str, key)))  # noqa: S311 - text, not secrets
