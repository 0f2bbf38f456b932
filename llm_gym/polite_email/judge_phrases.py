"""The wording behind each politeness strategy, as data; for sentences in small letters.

The lists follow the strategies of Danescu-Niculescu-Mizil et al. 2013 (arXiv:1306.6078, table 3)
and what people write in emails. Positive patterns are anchored at the start of a sentence or need
the words around them, so that a word on its own is worth nothing.
"""

from __future__ import annotations

import re

# --- what raises the score -------------------------------------------------------------------

FORMAL_GREETING = re.compile(r"(?:dear|hello|good (?:morning|afternoon|evening|day))\b")
CASUAL_GREETING = re.compile(r"hi\b")
COLD_GREETING = re.compile(r"[a-z. ]+,$")
RUDE_GREETING = re.compile(r"^(?:hey|oi|you there)\b|!$")

WISH = re.compile(
    r"^i hope (?:you are|you're|you had|your|this|all|everything)\b(?! is not)[^.!?]{4,}"
    r"|^it was (?:good|nice|great|lovely) (?:to|seeing|meeting|talking)\b"
    r"|^how are you(?: today)?\?"
)

_LEAD_IN = r"^(?:[^,]{2,40}, )?(?:and |then )?"

INDIRECT_REQUEST = re.compile(
    _LEAD_IN + r"(?:"
    r"(?:could|would|might) you (?:please |kindly |possibly |perhaps |maybe )*(?!please)[a-z]{2,} "
    r"|(?:would|might) it be (?:possible|okay|all right) "
    r"|(?:i was|i am|i'm) (?:just )?wondering (?:if|whether) "
    r"|i would (?:be (?:very |most |so |really )?(?:grateful|thankful|glad|happy)"
    r"|(?:really |very much )?appreciate it) if you (?:could|would) "
    r"|(?:may|might|could) i (?:please |kindly )?[a-z]{2,} "
    r"|please could you |perhaps you could |is there any chance )"
)
DIRECT_QUESTION = re.compile(_LEAD_IN + r"(?:can|will) you (?:please )?[a-z]{2,} ")

PLEASE = re.compile(
    r"\b(?:could|would|can|will) you please (?!please)[a-z]{2,}"
    r"|^please (?!please)[a-z]{2,} [a-z]|\w{2,} \w+, please[.?]$"
)

THANKS_FULL = re.compile(
    r"^(?:i )?(?:thank you|many thanks|thanks)(?: (?:so|very) much| a lot| in advance"
    r"| for (?:your|the|all|taking|helping|reading)\b[^.!?]+)+[.!]$"
    r"|^thank you[.!]$|^i (?:really |very much )?appreciate (?:your|the|any)\b"
    r"|^i am (?:very |so )?grateful for"
)
THANKS_SHORT = re.compile(r"^(?:thanks|many thanks|thx|cheers)[.!]?$")

DEFERENCE = re.compile(
    r"^(?:i am |i'm )?(?:very |so |really )?sorry (?:for|to|about|that|if) \w+"
    r"|^i apologi[sz]e for \w+|^(?:my )?apologies for \w+"
    r"|^i (?:know|realise|realize|understand) (?:that )?(?:you are|you're|you have|your) \w+"
    r"|^i know (?:that )?(?:this|it) is (?:very )?short notice\b|\bno worries if "
    r"|^i (?:fully |completely )?understand if |^(?:please )?take your time[.]"
    r"|^i hope (?:this|it|that) is not (?:a problem|too much)|^(?:there is )?no rush[.]"
    r"|^i would not ask, but \w+|\bif it is not too much trouble\b|\bat your convenience\b"
)

REASON = re.compile(
    r"\b(?:because|the reason is(?: that)?|so that|due to|i would not ask, but) \w+ \w+"
    r"|(?:^|, )since (?:i|we|my|our|the) \w+ \w+|, as (?:i|we|my|our|the) \w+ \w+"
)

FORMAL_CLOSING = re.compile(
    r"(?:(?:with )?(?:kind|best|warm|kindest|warmest) (?:regards|wishes)|regards|all the best"
    r"|yours (?:sincerely|faithfully|truly)|sincerely|(?:many |with )?thanks|thank you"
    r"|respectfully)"
)

# --- what lowers it --------------------------------------------------------------------------

RUDE_CLOSING = re.compile(r"(?:bye|whatever)")

INSULTS = frozenset(
    (
        *("idiot", "idiots", "fool", "fools", "clown", "clowns", "moron", "morons", "imbecile"),
        *("loser", "losers", "jerk", "liar", "liars", "thief", "pig", "pigs", "stupid", "dumb"),
        *("lazy", "useless", "worthless", "pathetic", "hopeless", "incompetent", "ridiculous"),
        *("disgrace", "disgusting", "nonsense", "backside", "crap", "damn"),
    )
)
INSULTING_PHRASES = (
    *("shut up", " joke", "peanuts", " a zoo", "waste my time", "make me sick", "the worst"),
)

#: Verbs that make a command when a sentence starts with them and nothing softens it.
COMMANDS = frozenset(
    (
        *("agree", "allow", "answer", "approve", "arrange", "assist", "book", "bring", "buy"),
        *("call", "cancel", "change", "check", "come", "comment", "cover", "deal", "do", "end"),
        *("explain", "extend", "find", "finish", "fix", "get", "give", "go", "have", "help"),
        *("let", "look", "make", "meet", "move", "offer", "open", "order", "pay", "prepare"),
        *("push", "put", "read", "remove", "repair", "reply", "reserve", "review", "send"),
        *("settle", "share", "show", "sign", "start", "stop", "take", "talk", "teach", "tell"),
        *("wait", "write"),
    )
)
NO_COMMANDS = ("let me know", "tell me if", "take your time", "have a ")

#: Threats, accusations, impatience.
PRESSING_PHRASES = (
    *("or else", "you had better", "you'd better", "i told you", "i asked you", "how hard can"),
    *("stop dreaming", "no excuses", "last chance", "hurry up", "get it done", "listen up"),
    *("wake up", "are you deaf", "are you asleep", "are you blind", "even you can", "do it now"),
    *("wrong with you", "don't care", "do not care", "why can you not", "why can't you"),
    *("sick of", "right now", "you always", "you never", "you only ever", "you must"),
    *("you should", "you owe", "you left", "you forgot", "you promised", "you are always"),
    *("i want you to", "nobody can", "nothing works", "move it", "whatever"),
)

#: Exclamation marks in a row, or capitals that are no abbreviation (for the text as it was typed).
SHOUT = re.compile(r"!{2,}|\b[A-Z]{2,}(?:[ ,]+[A-Z]{2,}\b)+|\b[A-Z]{5,}\b")

TEXT_SPEAK = frozenset(("u", "ur", "pls", "plz", "thx", "cos", "gonna", "wanna"))
