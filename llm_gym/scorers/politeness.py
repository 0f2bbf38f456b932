"""A rule-based judge of how polite an email is, from 0 to 100.

The strategies are those of Danescu-Niculescu-Mizil et al., "A computational approach to politeness
with application to social factors" (ACL 2013, arXiv:1306.6078), table 3, which in turn follow
Brown and Levinson, "Politeness: some universals in language usage" (1987): gratitude, deference,
greeting, apology, please, indirect and hedged requests, reasons raise politeness; direct commands,
direct accusations and negative words lower it. What an email needs besides, a topic, a sign-off,
whole sentences, comes from what people expect of an email.

Each strategy counts once, at its best form, so that saying please three times is worth no more than
once; phrases only count where they make a sentence, and everything good is multiplied by how
well-formed the text is, so lists of nice words, repetition and cut-off texts do not pay.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from types import MappingProxyType
from typing import NamedTuple

import numpy as np

from llm_gym.scorers.email_text import Email, Topic, form_factor, parse_email, stem, topic_of
from llm_gym.scorers.protocol import Columns, Scorer, Scores

__all__ = ["PolitenessScorer"]

#: Points for each strategy at its best; they add up to a little more than 100, so that an excellent
#: email may leave one out.
WEIGHTS: Mapping[str, float] = MappingProxyType(
    {
        "greeting": 10.0,
        "wish": 6.0,
        "request": 18.0,
        "please": 6.0,
        "gratitude": 14.0,
        "deference": 12.0,
        "reason": 12.0,
        "sign_off": 14.0,
        "content": 18.0,
    }
)


class Penalty(NamedTuple):
    """Points lost.

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

#: So many penalty points halve the score.
PENALTY_HALF_LIFE = 25.0


def _compiled(pattern: str) -> re.Pattern[str]:
    return re.compile(pattern)  # for sentences in small letters


_INDIRECT = _compiled(
    r"^(?:[^,]{2,40}, )?(?:and |then )?(?:"
    r"(?:could|would|might) you (?:please |kindly |possibly |perhaps |maybe )*(?!please)[a-z]{2,} "
    r"|(?:would|might) it be (?:possible|okay|all right) "
    r"|(?:i was|i am|i'm) (?:just )?wondering (?:if|whether) "
    r"|i would (?:be (?:very |most |so |really )?(?:grateful|thankful|glad|happy)"
    r"|(?:really |very much )?appreciate it) if you (?:could|would) "
    r"|(?:may|might|could) i (?:please |kindly )?(?:ask|have|request|take)\b"
    r"|please could you |perhaps you could |is there any chance )"
)
_DIRECT_QUESTION = _compiled(r"^(?:[^,]{2,40}, )?(?:can|will) you (?:please )?[a-z]{2,} ")
_PLEASE = _compiled(
    r"\b(?:could|would|can|will) you please (?!please)[a-z]{2,}|^please (?!please)[a-z]{2,} [a-z]"
    r"|\w{2,} \w+, please[.?]$|^please could you "
)
_THANKS_FULL = _compiled(
    r"^(?:i )?(?:thank you|many thanks|thanks)(?: (?:so|very) much| a lot| in advance|"
    r" for (?:your|the|all|taking|helping|reading)\b[^.!?]+)+[.!]$"
    r"|^thank you[.!]$|^i (?:really |very much )?appreciate (?:your|the|any)\b"
    r"|^i am (?:very |so )?grateful for"
)
_THANKS_SHORT = _compiled(r"^(?:thanks|many thanks|thx|cheers)[.!]?$")
_DEFERENCE = _compiled(
    r"^(?:i am |i'm )?(?:very |so |really )?sorry (?:for|to|about|that|if) \w+"
    r"|^i apologi[sz]e for \w+|^(?:my )?apologies for \w+"
    r"|^i (?:know|realise|realize|understand) (?:that )?(?:you are|you're|you have|your) \w+"
    r"|^i (?:fully |completely )?understand if |^(?:please )?take your time[.]"
    r"|^i hope (?:this|it|that) is not (?:a problem|too much)|^(?:there is )?no rush[.]"
    r"|^i would not ask, but \w+|\bif it is not too much trouble\b|\bat your convenience\b"
)
_WISH = _compiled(
    r"^i hope (?:you are|you're|you had|your|this|all|everything)\b(?! is not)[^.!?]{4,}"
    r"|^it was (?:good|nice|great|lovely) (?:to|seeing|meeting|talking)\b|^how are you(?: today)?\?"
)
_REASON = _compiled(
    r"\b(?:because|the reason is(?: that)?|so that|due to|i would not ask, but) \w+ \w+"
    r"|(?:^|, )since (?:i|we|my|our|the) \w+ \w+|, as (?:i|we|my|our|the) \w+ \w+"
)
_FORMAL_CLOSING = _compiled(
    r"^(?:(?:with )?(?:kind|best|warm|kindest)(?:est)? (?:regards|wishes)|regards|all the best"
    r"|yours (?:sincerely|faithfully|truly)|sincerely|many thanks|respectfully)"
)
_RUDE_CLOSING = _compiled(r"^(?:bye|whatever)")
_FORMAL_GREETING = _compiled(r"^(?:dear|hello|good (?:morning|afternoon|evening|day))\b")
_CASUAL_GREETING = _compiled(r"^hi\b")
_COLD_GREETING = _compiled(r"^[a-z ]+,$")
_RUDE_GREETING = _compiled(r"^(?:hey|oi|you there)\b|!$")

_INSULTS = frozenset(
    (
        *("idiot", "idiots", "fool", "fools", "clown", "clowns", "moron", "morons", "imbecile"),
        *("loser", "losers", "jerk", "liar", "liars", "thief", "pig", "pigs", "stupid", "dumb"),
        *("lazy", "useless", "worthless", "pathetic", "hopeless", "incompetent", "ridiculous"),
        *("disgrace", "disgusting", "nonsense", "backside", "crap", "damn"),
    )
)
_INSULTING = ("shut up", " joke", "peanuts", " a zoo", "waste my time", "make me sick", "the worst")
_COMMANDS = frozenset(
    (
        *("agree", "allow", "answer", "approve", "arrange", "assist", "book", "bring", "buy"),
        *("call", "cancel", "change", "check", "comment", "come", "cover", "deal", "do", "end"),
        *("explain", "extend", "find", "finish", "fix", "get", "give", "go", "have", "help"),
        *("let", "look", "make", "meet", "move", "offer", "open", "order", "pay", "prepare"),
        *("push", "put", "read", "remove", "repair", "reply", "reserve", "review", "send"),
        *("settle", "share", "show", "sign", "start", "stop", "take", "talk", "tell", "wait"),
        "write",
    )
)
_NO_COMMANDS = ("let me know", "tell me if", "take your time", "have a ")
_PRESSING = (
    *("or else", "you had better", "you'd better", "i told you", "i asked you", "how hard can"),
    *("stop dreaming", "no excuses", "last chance", "hurry up", "get it done", "listen up"),
    *("wake up", "are you deaf", "are you asleep", "are you blind", "even you can", "do it now"),
    *("wrong with you", "don't care", "do not care", "why can you not", "why can't you"),
    *("sick of", "right now", "you always", "you never", "you only ever", "you must"),
    *("you should", "you owe", "you left", "you forgot", "you promised", "you are always"),
    *("i want you to", "nobody can", "nothing works", "move it", "whatever"),
)
_SHOUT = re.compile(r"!{2,}|\b[A-Z]{3,}\b(?:[ ,]+\b[A-Z]{2,}\b)*")
_TEXT_SPEAK = frozenset(("u", "ur", "pls", "plz", "thx", "cos", "gonna", "wanna"))


class PolitenessScorer(Scorer):
    """Judges how polite an email is, from 0 to 100.

    ``score = clip(form * (sum of strategies) - sum of penalties, 0, 100)``; the strategies, the
    penalties (negative) and ``form`` (0 to 1) are the score's parts.

    Strategies (most points, `WEIGHTS`), each counted once, at its best form:

    ======== ====== ==========================================================================
    greeting     10 "Dear Anna,"; less for "Hi,"; the wrong name is worth little
    wish          6 "I hope you are well."
    request      18 indirect: "Could you ...?", "I was wondering if ..."; 6 for "Can you ...?"
    please        6 before a verb, or at the end of a request
    gratitude    14 "Thank you for your help."; less for "Thanks."
    deference    12 an apology, or respect for the reader's time
    reason       12 why: "because ...", "The reason is that ..."
    sign_off     14 "Kind regards," and a name; less without one of them
    content      18 share of the prompt's content words that occur
    ======== ====== ==========================================================================

    Penalties (`PENALTIES`), growing more slowly with each occurrence up to a limit: insults, bare
    commands, pressure (threats, accusations, "I don't care"), shouting (capitals, "!!"),
    carelessness (no capitals, text-speak).

    ``form`` is below 1 for text that is cut off, repetitive, out of order, too short or too long
    (`email_text.form_factor`), and for one that does not mention what the prompt is about.

    Args:
        name: Name in messages.

    Example:
        >>> from llm_gym.scorers import PolitenessScorer
        >>> PolitenessScorer()(["Write an email to your boss asking for a day off."], ["What's up"])
        [0.0]
    """

    def __init__(self, *, name: str = "politeness") -> None:
        self.name = name

    def compute(self, prompts: list[str], completions: list[str], columns: Columns) -> Scores:
        """Judge each email by itself. See `Scorer.compute`."""
        rows = [
            _judge(prompt, completion)
            for prompt, completion in zip(prompts, completions, strict=True)
        ]
        table = {name: np.array([row[name] for row in rows]) for name in rows[0]}
        strategies = sum((table[name] for name in WEIGHTS), np.zeros(len(rows)))
        return Scores(np.minimum(100.0, strategies * table["civility"] * table["form"]), table)

    def __repr__(self) -> str:
        return "PolitenessScorer()"


def _judge(prompt: str, completion: str) -> dict[str, float]:
    """The parts of one email's score: points for strategies, minus points, and the form factor."""
    email, topic = parse_email(completion), topic_of(prompt)
    sentences = [sentence.lower() for sentence in email.body]
    coverage = _coverage(email, topic)
    shares = {
        "greeting": _greeting(email, topic),
        "wish": float(_any(_WISH, sentences)),
        "request": _request(sentences),
        "please": float(_any(_PLEASE, sentences)),
        "gratitude": 1.0 if _any(_THANKS_FULL, sentences) else 0.6 * _any(_THANKS_SHORT, sentences),
        "deference": float(_any(_DEFERENCE, sentences)),
        "reason": float(_any(_REASON, sentences)),
        "sign_off": _sign_off(email),
        "content": coverage,
    }
    counts = {
        "insults": sum(word in _INSULTS for word in email.words) + _count(_INSULTING, email),
        "commands": sum(map(_is_command, sentences)),
        "pressure": _count(_PRESSING, email),
        "shouting": len(_SHOUT.findall(email.text)),
        "carelessness": _carelessness(email),
    }
    points = {name: share * WEIGHTS[name] for name, share in shares.items()}
    minus = {name: -_penalty(PENALTIES[name], count) for name, count in counts.items()}
    # Half of the prompt's words will do ("fix" for "have repaired"); none is an email about nothing.
    on_topic = 0.25 + 0.75 * min(1.0, coverage / 0.5)
    civility = 0.5 ** (-sum(minus.values()) / PENALTY_HALF_LIFE)
    return {**points, **minus, "civility": civility, "form": form_factor(email) * on_topic}


def _any(pattern: re.Pattern[str], sentences: list[str]) -> bool:
    return any(map(pattern.search, sentences))


def _greeting(email: Email, topic: Topic) -> float:
    greeting = email.greeting.lower()
    if not greeting or _RUDE_GREETING.search(greeting):
        return 0.0
    right = not topic.names or any(name in greeting for name in topic.names)
    if _FORMAL_GREETING.match(greeting):
        return 1.0 if right else 0.5
    if _CASUAL_GREETING.match(greeting):
        return 0.6 if right else 0.3
    return 0.3 if _COLD_GREETING.match(greeting) and right else 0.0


def _request(sentences: list[str]) -> float:
    """Indirect requests in full; a direct question is a third; scraps of fewer than 6 words none."""
    asked = [sentence for sentence in sentences if sentence.count(" ") >= 5]
    if any(_INDIRECT.search(sentence) for sentence in asked):
        return 1.0
    return 1 / 3 if any(_DIRECT_QUESTION.search(sentence) for sentence in asked) else 0.0


def _sign_off(email: Email) -> float:
    phrase = email.closing.lower()
    if _RUDE_CLOSING.match(phrase):
        return 0.0
    if not email.closing:
        return 0.3 if email.signature else 0.0
    closing = 1.0 if _FORMAL_CLOSING.match(phrase) else 0.7
    return closing if email.signature else 0.5 * closing


def _coverage(email: Email, topic: Topic) -> float:
    """Share of the prompt's content words that occur in the email; 1 if the prompt has none."""
    if not topic.stems:
        return 1.0
    return len(topic.stems.intersection(map(stem, email.words))) / len(topic.stems)


def _is_command(sentence: str) -> bool:
    first = sentence.split(" ", 1)[0].rstrip(",")
    return first in _COMMANDS and "please" not in sentence and not sentence.startswith(_NO_COMMANDS)


def _count(phrases: tuple[str, ...], email: Email) -> int:
    return sum(map(email.lower.count, phrases))


def _carelessness(email: Email) -> int:
    """Sentences that begin with a small letter (counted once), and text-speak."""
    small = sum(sentence[0].islower() for sentence in email.body)
    return int(2 * small >= len(email.body) > 0) + sum(word in _TEXT_SPEAK for word in email.words)


def _penalty(penalty: Penalty, count: int) -> float:
    if not count:
        return 0.0
    return min(penalty.most, penalty.first + (count - 1) * penalty.further)
