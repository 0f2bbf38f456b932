"""A rule-based judge of how polite an email is, from 0 to 100.

The strategies are those of Danescu-Niculescu-Mizil et al., "A computational approach to politeness
with application to social factors" (ACL 2013, arXiv:1306.6078), table 3, which in turn follow
Brown and Levinson, "Politeness: some universals in language usage" (1987): gratitude, deference,
greeting, apology, please, indirect and hedged requests and reasons raise politeness; direct
commands, accusations and negative words lower it. What an email needs besides (a topic, a sign-off,
whole sentences) comes from what people expect of an email.

Each strategy counts once, at its best form, so that saying please three times is worth no more than
once; phrases only count where they make a sentence; and everything is multiplied by how well-formed
the text is, so lists of nice words, repetition and cut-off texts do not pay.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from types import MappingProxyType
from typing import NamedTuple

import numpy as np

from llm_gym.polite_email import judge_phrases as phrases
from llm_gym.polite_email.email_text import Email, Topic, form_factor, parse_email, stem, topic_of
from llm_gym.scorers.protocol import Columns, Scorer, Scores

#: Points for each strategy at its best; they add up to 100.
WEIGHTS: Mapping[str, float] = MappingProxyType(
    {
        "greeting": 9.0,
        "wish": 5.0,
        "request": 17.0,
        "please": 5.0,
        "gratitude": 13.0,
        "deference": 11.0,
        "reason": 11.0,
        "sign_off": 13.0,
        "content": 16.0,
    }
)


class Penalty(NamedTuple):
    """Penalty points.

    Attributes:
        first: For the first occurrence.
        further: For each one after it.
        most: At most so many altogether.
    """

    first: float
    further: float
    most: float


PENALTIES: Mapping[str, Penalty] = MappingProxyType(
    {
        "insults": Penalty(25.0, 10.0, 45.0),
        "commands": Penalty(12.0, 6.0, 24.0),
        "pressure": Penalty(14.0, 7.0, 30.0),
        "shouting": Penalty(12.0, 6.0, 24.0),
        "carelessness": Penalty(8.0, 4.0, 16.0),
    }
)

#: So many penalty points halve the score. Halving, not subtracting, leaves no email at a flat 0
#: from which no small step would lead up.
PENALTY_HALF_LIFE = 25.0


class PolitenessScorer(Scorer):
    """Judges how polite an email is, from 0 to 100.

    `score = sum of strategies * civility * form`.

    Strategies (most points, `WEIGHTS`), each counted once, at its best form:

    ======== ====== ==========================================================================
    greeting      9 "Dear Anna,"; less for "Hi,"; the wrong name is worth half
    wish          5 "I hope you are well."
    request      17 indirect: "Could you ...?", "I was wondering if ..."; less for "Can you"
    please        5 before a verb, or at the end of a request
    gratitude    13 "Thank you for your help."; less for "Thanks."
    deference    11 an apology, or respect for the reader's time
    reason       11 why: "because ...", "The reason is that ..."
    sign_off     13 "Kind regards," and a name; less without one of them
    content      16 share of the prompt's content words that occur
    ======== ====== ==========================================================================

    `civility = 0.5 ** (penalty points / 25)`, with points (`PENALTIES`) that grow more slowly
    with each occurrence, up to a limit: insults, bare commands, pressure (threats, accusations,
    "I don't care"), shouting (capitals, "!!"), carelessness (small letters, text-speak).

    `form` is 1 for a whole, coherent email on its topic, and less for text that is cut off,
    repetitive, out of order, too short, too long (`email_text.form_factor`) or about something
    else.

    All of these are parts of the score: strategies in points, penalties in minus points, the two
    factors between 0 and 1.

    Args:
        name: Name in messages.

    Example:
        >>> from llm_gym.scorers import PolitenessScorer
        >>> prompt = "Write an email to your boss asking for a day off."
        >>> PolitenessScorer()([prompt], ["Hey, what's up"])
        [0.0]
    """

    highest = 100.0
    factors = ("civility", "form")

    def __init__(self, *, name: str = "politeness") -> None:
        self.name = name

    def compute(self, prompts: list[str], completions: list[str], columns: Columns) -> Scores:
        """Judges each email by itself. See `Scorer.compute`."""
        rows = [judge(prompt, text) for prompt, text in zip(prompts, completions, strict=True)]
        parts = {name: np.array([row[name] for row in rows]) for name in rows[0]}
        strategies = np.sum([parts[name] for name in WEIGHTS], axis=0)
        return Scores(strategies * parts["civility"] * parts["form"], parts)

    def __repr__(self) -> str:
        return "PolitenessScorer()"


def judge(prompt: str, completion: str) -> dict[str, float]:
    """The parts of one email's score.

    Args:
        prompt: The instruction, without a template.
        completion: The email.

    Returns:
        Points of each strategy, minus points of each penalty, and the factors "civility" and
        "form".
    """
    email, topic = parse_email(completion), topic_of(prompt)
    sentences = [sentence.lower() for sentence in email.body]
    coverage = _coverage(email, topic)
    shares = {
        "greeting": _greeting(email, topic),
        "wish": _occurs(phrases.WISH, sentences),
        "request": _request(sentences),
        "please": _occurs(phrases.PLEASE, sentences),
        "gratitude": _gratitude(email, sentences),
        "deference": _occurs(phrases.DEFERENCE, sentences),
        "reason": _occurs(phrases.REASON, sentences),
        "sign_off": _sign_off(email),
        "content": coverage,
    }
    counts = {
        "insults": sum(word in phrases.INSULTS for word in email.words)
        + _count(phrases.INSULTING_PHRASES, email),
        "commands": sum(map(_is_command, sentences)),
        "pressure": _count(phrases.PRESSING_PHRASES, email),
        "shouting": len(phrases.SHOUT.findall(email.text)),
        "carelessness": _carelessness(email),
    }
    points = {name: share * WEIGHTS[name] for name, share in shares.items()}
    minus = {name: 0.0 - _penalty(PENALTIES[name], count) for name, count in counts.items()}
    civility = 0.5 ** (-sum(minus.values()) / PENALTY_HALF_LIFE)
    # Half of the prompt's words will do ("fix" for "have repaired"); with none it is another email.
    on_topic = 0.25 + 0.75 * min(1.0, coverage / 0.5)
    return {**points, **minus, "civility": civility, "form": form_factor(email) * on_topic}


def _occurs(pattern: re.Pattern[str], sentences: list[str]) -> float:
    return float(any(map(pattern.search, sentences)))


def _greeting(email: Email, topic: Topic) -> float:
    greeting = email.greeting.lower()
    if not greeting or phrases.RUDE_GREETING.search(greeting):
        return 0.0
    right = not topic.names or any(name in greeting for name in topic.names)
    if phrases.FORMAL_GREETING.match(greeting):
        return 1.0 if right else 0.5
    if phrases.CASUAL_GREETING.match(greeting):
        return 0.6 if right else 0.3
    return 0.3 if phrases.COLD_GREETING.match(greeting) and right else 0.0


def _request(sentences: list[str]) -> float:
    """Indirect requests in full, direct questions a third; fewer than 6 words ask for nothing."""
    long_enough = [sentence for sentence in sentences if sentence.count(" ") >= 5]
    if _occurs(phrases.INDIRECT_REQUEST, long_enough):
        return 1.0
    return _occurs(phrases.DIRECT_QUESTION, long_enough) / 3


def _gratitude(email: Email, sentences: list[str]) -> float:
    if _occurs(phrases.THANKS_FULL, sentences):
        return 1.0
    short = "thank" in email.closing.lower() or _occurs(phrases.THANKS_SHORT, sentences)
    return 0.6 if short else 0.0


def _sign_off(email: Email) -> float:
    closing = email.closing.lower()
    if not closing:
        return 0.3 if email.signature else 0.0
    if phrases.RUDE_CLOSING.match(closing):
        return 0.0
    share = 1.0 if phrases.FORMAL_CLOSING.match(closing) else 0.7
    return share if email.signature else 0.5 * share


def _coverage(email: Email, topic: Topic) -> float:
    """Share of the prompt's content words that occur in the email; 1 if the prompt has none."""
    if not topic.stems:
        return 1.0
    return len(topic.stems.intersection(map(stem, email.words))) / len(topic.stems)


def _is_command(sentence: str) -> bool:
    first = sentence.split(" ", 1)[0].rstrip(",")
    if first not in phrases.COMMANDS or "please" in sentence or sentence.endswith("?"):
        return False
    return not sentence.startswith(phrases.NO_COMMANDS)


def _count(words: tuple[str, ...], email: Email) -> int:
    return sum(map(email.lower.count, words))


def _carelessness(email: Email) -> int:
    """One if a sentence begins with a small letter, and one for each word of text-speak.

    Not counted is the first of several sentences: after "Hello Anna," some begin small.
    """
    careless = any(sentence[0].islower() for sentence in email.body[1:] or email.body)
    return careless + sum(word in phrases.TEXT_SPEAK for word in email.words)


def _penalty(penalty: Penalty, count: int) -> float:
    return min(penalty.most, penalty.first + (count - 1) * penalty.further) if count else 0.0
