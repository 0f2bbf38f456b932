"""An email taken apart: greeting line, sentences of the body, sign-off, and how well it is written.

What a judge of emails needs to know before it looks for politeness. One pass of a tokeniser and a
few compiled expressions; time linear in the length of the text.
"""

from __future__ import annotations

import itertools
import re
from functools import lru_cache
from typing import NamedTuple


class Email(NamedTuple):
    """The parts of an email.

    Attributes:
        text: The whole text, without white space around it.
        lower: The same in small letters.
        greeting: First line if it is one, else the empty string.
        body: Sentences between greeting and sign-off, each with its end mark.
        closing: Closing phrase ("Kind regards,"), else the empty string.
        signature: Name under it, or on a last line of its own, else the empty string.
        tokens: Words, line breaks and the marks `. , ! ?` of the whole text.
        words: The words among them, in small letters.
    """

    text: str
    lower: str
    greeting: str
    body: tuple[str, ...]
    closing: str
    signature: str
    tokens: list[str]
    words: list[str]


class Topic(NamedTuple):
    """What a prompt asks to write about.

    Attributes:
        stems: Stems of its content words.
        names: Names in it, in small letters.
    """

    stems: frozenset[str]
    names: frozenset[str]


_GREETING = re.compile(
    r"(?:dear|hello|hi|hey|oi|good (?:morning|afternoon|evening|day)|you there)\b[^.?]{0,40}$"
    r"|[A-Z][a-z]+(?: [A-Z][a-z]+){0,2}[,!]$",
    re.IGNORECASE,
)
_CLOSING = re.compile(
    r"(?:(?:with )?(?:kind|best|warm|kindest|warmest) (?:regards|wishes)|regards|best|cheers"
    r"|yours(?: (?:sincerely|faithfully|truly))?|sincerely|all the best"
    r"|(?:many |with )?thanks(?: again| so much| a lot)?|thank you|respectfully|bye|whatever)"
    r"[,.!]?$",
    re.IGNORECASE,
)
_SIGNATURE = re.compile(
    r"(?!(?:Kind|Warm|Yours|Many|With|All|Thank)$)[A-Za-z][\w'-]*\.?(?: [A-Z][\w'-]*\.?){0,2}$"
)
_SENTENCE = re.compile(r"[^.!?\n]+(?:[.!?]+(?=\s|$)|\n|$)|[.!?]+")
_TOKEN = re.compile(r"[^\W_]+(?:'[^\W_]+)?|[.,!?\n]")

# Two neighbours that no English sentence has. Verbs and nouns are left out: too many are both.
_ARTICLES = ("a", "an", "the", "my", "your", "our")
_PREPOSITIONS = ("of", "for", "by", "at", "with")
_AUXILIARIES = ("could", "would", "should", "can", "will")
_JOINTS = ("and", "or", "but", "because", "if", "is", "are", "was")
_PRONOUNS = ("i", "we", "they", "he")
_MARKS = (".", ",", "!", "?", "\n")
_BROKEN_PAIRS = frozenset(
    itertools.chain(
        itertools.product(
            _ARTICLES,
            (
                *(*_ARTICLES, *_PREPOSITIONS, *_AUXILIARIES, *_JOINTS, *_PRONOUNS, *_MARKS),
                *("to", "you", "me", "us", "please", "thank", "thanks"),
            ),
        ),
        itertools.product(
            _AUXILIARIES, (*_ARTICLES, *_PREPOSITIONS, *_AUXILIARIES, *_JOINTS, *_MARKS, "to")
        ),
        itertools.product(_PREPOSITIONS, (*_PREPOSITIONS, *_AUXILIARIES, *_JOINTS, *_PRONOUNS)),
        itertools.product(_PRONOUNS, (*_PRONOUNS, *_ARTICLES, *_PREPOSITIONS, "me", "is")),
        itertools.product(("and", "or", "because", "if", "very", "of", "i"), _MARKS),
        itertools.product(("please",), ("please", "thank", "you", *_JOINTS, *_PREPOSITIONS)),
        itertools.product(("you", "me"), ("is", *_PRONOUNS)),
        itertools.product((",",), (".", ",", "!", "?")),
    )
)
_STARTERS = frozenset(
    (
        *("Dear", "Hello", "Could", "Would", "Please", "Thank", "Thanks", "Many", "Kind", "Best"),
        *("Regards", "The", "This", "If", "It", "My", "Your", "We", "You", "Sorry", "Yours"),
        *("Warm", "Perhaps"),
    )
)

_STOP = frozenset(
    (
        *("about", "again", "also", "and", "any", "are", "asking", "ask", "been", "body", "can"),
        *("compose", "could", "dear", "draft", "email", "emails", "for", "formal", "friendly"),
        *("from", "get", "give", "has", "have", "her", "him", "his", "into", "its", "kind"),
        *("kindly", "letter", "mail", "message", "more", "need", "note", "our", "out", "please"),
        *("polite", "politely", "request", "short", "she", "some", "something", "that", "the"),
        *("their", "them", "then", "there", "they", "this", "today", "want", "wants", "was"),
        *("will", "with", "would", "write", "writing", "you", "your", "yours"),
        # Who is addressed is no topic.
        *("accountant", "assistant", "boss", "caretaker", "client", "colleague", "coworker"),
        *("customer", "desk", "director", "former", "help", "intern", "landlord", "leader"),
        *("manager", "neighbour", "neighbor", "office", "professor", "receptionist"),
        *("supervisor", "supplier", "teacher", "team", "tenant"),
    )
)
_CALENDAR = frozenset(
    (
        *("monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday"),
        *("january", "february", "march", "april", "may", "june", "july", "august"),
        *("september", "october", "november", "december"),
    )
)
_TITLES = frozenset(("mr", "ms", "mrs", "dr", "prof"))


def parse_email(text: str) -> Email:
    """Takes an email apart.

    Args:
        text: Any text; what has no greeting or sign-off is all body.
    """
    text = text.strip()
    lines = [line for raw in text.split("\n") if (line := raw.strip())]
    greeting = closing = signature = ""
    if len(lines) > 1 and _GREETING.match(lines[0]):
        greeting = lines.pop(0)
    if len(lines) > 1 and _SIGNATURE.match(lines[-1]) and not _CLOSING.match(lines[-1]):
        signature = lines.pop()
    if len(lines) > 1 and _CLOSING.match(lines[-1]):
        closing = lines.pop()
    body = tuple(s for raw in _SENTENCE.findall("\n".join(lines)) if (s := raw.strip()))
    tokens = _TOKEN.findall(text)
    words = [token.lower() for token in tokens if token[0].isalnum()]
    return Email(text, text.lower(), greeting, body, closing, signature, tokens, words)


@lru_cache(maxsize=4096)
def topic_of(prompt: str) -> Topic:
    """The content words and names of a prompt.

    Capitalised words inside a sentence are names, unless they are days or months. Words about the
    task itself ("write", "email") and about who is addressed ("boss") are no content.

    Args:
        prompt: The instruction.
    """
    stems, names = set(), set()
    starts = True
    for token in re.findall(r"[^\W_]+|[.!?:\n]", prompt):
        lower = token.lower()
        if not starts and token[0].isupper() and lower not in _CALENDAR:
            if lower not in _TITLES and len(token) > 1:
                names.add(lower)
        elif len(token) > 2 and lower not in _STOP:
            stems.add(stem(lower))
        starts = not token[0].isalnum()
    return Topic(frozenset(stems), frozenset(names))


@lru_cache(maxsize=4096)
def stem(word: str) -> str:
    """A crude stem: the word without a common ending, at most six letters of it.

    Args:
        word: In small letters.
    """
    for ending in ("ing", "ed", "es", "s"):
        if word.endswith(ending) and len(word) - len(ending) >= 3:
            word = word[: -len(ending)]
            break
    return word[:6]


def form_factor(email: Email) -> float:
    """How well-formed the text is: 1 for a whole, coherent email, near 0 for word salad.

    The product of four judgements: whole (not cut off, with a real sentence), not repetitive, in
    word order, neither very short nor very long.

    Args:
        email: What `parse_email` returned.
    """
    return _completeness(email) * _freshness(email) * _word_order(email) * _length(email)


def _completeness(email: Email) -> float:
    if not any(sentence.count(" ") >= 3 for sentence in email.body):
        return 0.2
    ends_well = email.body[-1][-1] in ".!?"
    if email.closing and not email.signature:
        return 1.0 if ends_well and email.closing[-1] in ".!" else 0.7
    if ends_well:
        return 1.0
    return 0.8 if email.signature else 0.5


def _freshness(email: Email) -> float:
    """Repeated sentences, repeated phrases of four words, and doubled words cost."""
    words = email.words
    twice = len(email.body) - len({sentence.lower().rstrip(".!?") for sentence in email.body})
    doubled = sum(a == b for a, b in itertools.pairwise(email.tokens) if a[0].isalnum())
    phrases = list(zip(words, words[1:], words[2:], words[3:], strict=False))
    repeated = 1 - len(set(phrases)) / len(phrases) if phrases else 0.0
    return 0.5**twice * 0.6**doubled * max(0.0, 1 - 2 * repeated)


def _word_order(email: Email) -> float:
    """Impossible neighbours, sentence starters inside sentences, and scraps of sentences cost."""
    tokens = email.tokens
    lower = [token.lower() for token in tokens]
    wrong = sum(pair in _BROKEN_PAIRS for pair in itertools.pairwise(lower))
    for before, token in itertools.pairwise(tokens):
        wrong += token in _STARTERS and before[0].islower()
    scraps = sum(" " not in sentence for sentence in email.body)
    return 0.65**wrong * 0.9 ** max(0, scraps - 1)


def _length(email: Email) -> float:
    """Full marks from 10 to 80 words."""
    count = len(email.words)
    if count < 10:
        return count / 10
    return 1.0 if count <= 80 else max(0.1, 1 - (count - 80) / 60)
