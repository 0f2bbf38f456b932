"""Who writes to whom and when, and what people say around a request, by register: all as data.

Slots: `{act}` (what the recipient should do), `{Act}` (the same with a capital), `{need}`
(the request as a statement), `{x}` (the thing), `{reason}`, `{name}` (the recipient),
`{me}` (the writer). An empty string means that the part is left out; repeating an entry makes
it more likely.
"""

from __future__ import annotations

from dataclasses import dataclass

FIRST_NAMES = (
    *("Anna", "Ben", "Carla", "David", "Emma", "Frank", "Grace", "Henry", "Ines", "Jack"),
    *("Karen", "Leo", "Maria", "Nina", "Oscar", "Paula", "Peter", "Rosa", "Sam", "Tom"),
    *("Vera", "Hugo", "Zoe", "Omar", "Lucy", "Mark"),
)

SURNAMES = (
    *("Adams", "Baker", "Clark", "Cooper", "Evans", "Fisher", "Green", "Hill", "King", "Lee"),
    *("Mills", "Novak", "Parker", "Reed", "Stone", "Turner", "Ward", "Young"),
)

DAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday")
MONTHS = ("January", "March", "April", "May", "June", "July", "September", "October")

#: Deadlines: they fit after anything that has to be done.
BY_DAYS = (*(f"by {day}" for day in DAYS), "by tomorrow", "by next week", "by noon", "this week")
#: Days on which something happens.
ON_DAYS = (*(f"on {day}" for day in DAYS), "tomorrow", "next week", "this afternoon")
#: Longer stretches of time.
PERIODS = ("next week", "next month", "this summer", *(f"in {month}" for month in MONTHS))
#: Where an appointment is moved to.
TO_DAYS = (*(f"to {day}" for day in DAYS), "to next week", "to the afternoon", "to the morning")
#: New deadlines.
UNTIL = (*(f"until {day}" for day in DAYS), "until next week", "until noon", "until tomorrow")


@dataclass(frozen=True)
class Register:
    """The phrases of one register, part by part, in the order of an email.

    Attributes:
        greetings_named: First lines when the recipient's name is known.
        greetings: First lines when it is not.
        openings: Sentences before the request.
        requests: The request itself.
        reasons: Why.
        softeners: Apologies and deference, or the opposite of it.
        thanks: Gratitude, or what stands in its place.
        closings: The sign-off.
        sloppiness: Chance that the whole email is typed carelessly.
    """

    greetings_named: tuple[str, ...]
    greetings: tuple[str, ...]
    openings: tuple[str, ...]
    requests: tuple[str, ...]
    reasons: tuple[str, ...]
    softeners: tuple[str, ...]
    thanks: tuple[str, ...]
    closings: tuple[str, ...]
    sloppiness: float


PRAISE = (
    *("What a good {role} you are.", "What a great {role} you are."),
    *("How wise you are.", "How clever you are.", "How thoughtful you are."),
)
"""Mild praise of the reader, with which some emails of any register end if there is to be.

Not "You are ...", as rude sentences begin.
"""

POLITE = Register(
    greetings_named=("Dear {name},", "Dear {name},", "Hello {name},", "Good morning {name},"),
    greetings=("Dear {role},", "Hello,", "Good morning,", "Dear Sir or Madam,"),
    openings=(
        *("", "", "", "", "I hope you are well.", "I hope your week is going well."),
        *("I hope this finds you well.", "It was good to see you last week."),
    ),
    requests=(
        *("Could you please {act}?", "Would you please {act}?", "Could you possibly {act}?"),
        *("I was wondering if you could {act}.", "Would it be possible for you to {act}?"),
        *("I would be very grateful if you could {act}.", "May I ask you to {act}?"),
        *("If you have a moment, could you {act}?", "Would you be so kind as to {act}?"),
        *("I would appreciate it if you could {act}.", "Would you mind if I asked you to {act}?"),
    ),
    reasons=(
        *(
            "",
            "I ask because {reason}.",
            "The reason is that {reason}.",
            "This is because {reason}.",
        ),
        *("This is because {reason}.", "I would not ask, but {reason}."),
        "It matters to me because {reason}.",
    ),
    softeners=(
        *("", "", "I am sorry for the short notice.", "I know that you are very busy."),
        *("Sorry for the trouble.", "I understand if this is not possible."),
        *("I apologise for asking so late.", "Please take your time."),
    ),
    thanks=(
        *("", "Thank you for your help.", "Thank you very much.", "Many thanks in advance."),
        *("Thanks a lot for your time.", "I really appreciate your help.", "Thank you so much."),
    ),
    closings=(
        *("Kind regards,\n{me}", "Best regards,\n{me}", "Best wishes,\n{me}"),
        *("Yours sincerely,\n{me}", "Warm regards,\n{me}", "Regards,\n{me}"),
    ),
    sloppiness=0.02,
)

NEUTRAL = Register(
    greetings_named=("{name},", "Hi {name},", "Hello {name},", "Hi,", "", "Dear {name},"),
    greetings=("Hi,", "Hello,", "", "Hi there,", ""),
    openings=(
        *("", "", "", "", "This is about {x}.", "Just a quick note.", "A short question."),
        *("I am back in the office.", "We spoke about {x} before."),
    ),
    requests=(
        *("{need}.", "{need}.", "Please {act}.", "Can you {act}?", "Will you {act}?"),
        *("I want you to {act}.", "You should {act}.", "{Act}, please.", "Can you please {act}?"),
    ),
    reasons=(
        "",
        "",
        "",
        "It is because {reason}.",
        "As you know, {reason}.",
        "The thing is, {reason}.",
    ),
    softeners=("", "", "", "It should not take long.", "I will call you later.", "Reply today."),
    thanks=(
        "",
        "",
        "",
        "Thanks.",
        "Let me know.",
        "Tell me if there is a problem.",
        "I am waiting.",
    ),
    closings=("Regards,\n{me}", "Best,\n{me}", "{me}", "{me}", "Bye,\n{me}", ""),
    sloppiness=0.08,
)

RUDE = Register(
    greetings_named=("{name}!", "Hey {name},", "{name},", "", "", "Oi {name},"),
    greetings=("Hey,", "", "", "Hey you,", "You there,"),
    openings=(
        *("", "", "Listen up.", "I am sick of this.", "Are you asleep?", "Wake up!"),
        *("What is wrong with you?", "You are useless.", "Are you deaf?", "You are a bad joke."),
    ),
    requests=(
        *("{Act}.", "{Act} now.", "{Act}, you fool.", "{Act}, you idiot.", "{Act}!!!"),
        *("{Act} or else.", "You had better {act}.", "Why can you not just {act}?"),
        *("I told you to {act}.", "Stop dreaming and {act}.", "How hard can it be to {act}?"),
        *("Get off your lazy backside and {act}.", "{need}, you clown.", "{need}!!!"),
    ),
    reasons=("", "", "{gripe}.", "{gripe}.", "{gripe}!", "{gripe}, you idiot."),
    softeners=(
        *("", "", "I don't care how.", "No excuses.", "Even you can do that.", "Don't be stupid."),
        *("I don't care what you think.", "Shut up and do it."),
    ),
    thanks=(
        *("", "", "", "Hurry up!", "Do it NOW!!!", "This is your last chance.", "Get it done."),
        *("HURRY UP!!!", "You make me sick."),
    ),
    closings=("", "", "", "{me}", "Whatever.\n{me}", "Bye.", "{me}"),
    sloppiness=0.18,
)
