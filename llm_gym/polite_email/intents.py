"""The kinds of request in the generator's world, as data.

Every phrase has the slots `{x}` (the thing) and `{when}`. `aim` follows "ask" in a prompt,
`acts` are what the recipient should do (base form, so that "Could you ...", "Please ..." and a
bare command all fit), `needs` are the same as a statement, `reasons` are clauses that fit
after "because", `gripes` are what an angry writer adds.
"""

from __future__ import annotations

from dataclasses import dataclass

from llm_gym.polite_email.phrases import BY_DAYS, MONTHS, ON_DAYS, PERIODS, TO_DAYS, UNTIL


@dataclass(frozen=True)
class Intent:
    """A kind of request; see the module's docstring for the slots.

    Attributes:
        name: Key of the intent.
        aim: What follows "ask" or "asking" in a prompt.
        roles: Who may be asked.
        things: Fillers of `{x}`.
        whens: Fillers of `{when}`.
        acts: Base-form verb phrases addressed to the recipient.
        needs: First-person or impersonal statements of the request.
        reasons: Clauses that explain it.
        gripes: Sentences of an angry writer about it.
    """

    name: str
    aim: str
    roles: tuple[str, ...]
    things: tuple[str, ...]
    whens: tuple[str, ...]
    acts: tuple[str, ...]
    needs: tuple[str, ...]
    reasons: tuple[str, ...]
    gripes: tuple[str, ...]


_BOSSES = ("boss", "manager", "supervisor", "team leader", "director")
_PEERS = ("colleague", "assistant", "team leader", "manager", "intern")
_HOUSE = ("office manager", "landlord", "caretaker", "help desk")
_DOCUMENTS = (
    *("the sales report", "the budget", "the contract", "the price list", "the meeting notes"),
    *("the project plan", "the March figures", "the customer list", "the new brochure"),
    *("the travel receipts", "the final draft", "the test results"),
)
_FAMILY = (
    *("my sister is getting married", "I am moving house", "my parents are visiting"),
    *("my son is ill", "I have to see a doctor", "my car broke down", "my daughter starts school"),
)
_WORK = (
    *("the client is waiting", "the board meets soon", "I have to finish my part"),
    *("the team depends on it", "my boss keeps asking", "the deadline is close"),
    *("the trade fair is near", "the audit starts soon"),
)

INTENTS: tuple[Intent, ...] = (
    Intent(
        name="time off",
        aim="for {x} {when}",
        roles=_BOSSES,
        things=(
            *("one day off", "two days off", "three days off", "four days off", "a week off"),
            *("two weeks off", "a morning off", "an afternoon off", "a long weekend off"),
        ),
        whens=PERIODS,
        acts=("give me {x} {when}", "let me take {x} {when}", "let me have {x} {when}"),
        needs=("I need {x} {when}", "I want to take {x} {when}", "I am taking {x} {when}"),
        reasons=(*_FAMILY, "I am very tired"),
        gripes=("You always say no", "I never get a break here"),
    ),
    Intent(
        name="document",
        aim="for {x} {when}",
        roles=(*_PEERS, "accountant", "supplier"),
        things=_DOCUMENTS,
        whens=BY_DAYS,
        acts=("send me {x} {when}", "let me have {x} {when}", "share {x} with me {when}"),
        needs=("I need {x} {when}", "I must have {x} {when}", "I am still waiting for {x}"),
        reasons=_WORK,
        gripes=("You are always late", "I asked you three times"),
    ),
    Intent(
        name="meeting",
        aim="to move {x} {when}",
        roles=(*_PEERS, "client", "director"),
        things=(
            *("the budget meeting", "the sales meeting", "our weekly call", "the interview"),
            *("the project review", "the training session", "our lunch", "the planning meeting"),
            *("the team meeting", "the safety talk"),
        ),
        whens=TO_DAYS,
        acts=("move {x} {when}", "push {x} {when}", "change {x} {when}"),
        needs=("I need to move {x} {when}", "I want {x} moved {when}", "We must move {x} {when}"),
        reasons=(*_FAMILY, "I have another call", "my train is late", "two of us cannot come"),
        gripes=("You never ask before you plan", "Your meetings waste my time"),
    ),
    Intent(
        name="repair",
        aim="to have {x} repaired {when}",
        roles=(*_HOUSE, "colleague"),
        things=(
            *("the printer", "the heating", "the coffee machine", "my laptop", "the front door"),
            *("the window", "the lift", "my phone", "the projector", "the scanner"),
            *("the air conditioning", "the kitchen light"),
        ),
        whens=BY_DAYS,
        acts=("repair {x} {when}", "have {x} repaired {when}", "fix {x} {when}"),
        needs=("I need {x} repaired {when}", "I want {x} fixed {when}", "We need {x} {when}"),
        reasons=("nobody can work like this", "visitors are coming", "the whole floor needs it"),
        gripes=("It has been broken for weeks", "Nothing works in this place"),
    ),
    Intent(
        name="pay",
        aim="for {x} {when}",
        roles=_BOSSES,
        things=(
            *("a pay rise", "a higher salary", "a promotion", "a bonus", "a better contract"),
            *("a permanent contract", "more holidays", "a travel allowance"),
        ),
        whens=("this year", "next year", "this summer", *(f"from {month}" for month in MONTHS)),
        acts=("give me {x} {when}", "offer me {x} {when}", "agree to {x} {when}"),
        needs=("I want {x} {when}", "I expect {x} {when}", "I would like {x} {when}"),
        reasons=(
            *("I have worked here for five years", "my work has doubled", "my rent has gone up"),
            *("I brought in three new clients", "I finished the course", "I have a new baby"),
        ),
        gripes=("You pay me peanuts", "You promised this last year"),
    ),
    Intent(
        name="help",
        aim="for help with {x} {when}",
        roles=(*_PEERS, "help desk"),
        things=(
            *("the new software", "the spreadsheet", "the presentation", "my tax form"),
            *("the website", "the stock list", "the training course", "the phone system"),
            *("my application", "the newsletter", "the office move"),
        ),
        whens=ON_DAYS,
        acts=(
            "help me with {x} {when}",
            "show me how to do {x} {when}",
            "assist me with {x} {when}",
        ),
        needs=("I need help with {x} {when}", "I want help with {x} {when}"),
        reasons=(
            "I have never done this before",
            "I am new here",
            "it is too much for one",
            *_WORK,
        ),
        gripes=("You never help anyone", "You left me alone with this mess"),
    ),
    Intent(
        name="extension",
        aim="for more time for {x}, {when}",
        roles=(*_BOSSES, "client", "teacher"),
        things=(*_DOCUMENTS, "my essay", "the translation"),
        whens=UNTIL,
        acts=("give me {when} to finish {x}", "wait {when} for {x}", "give me more time for {x}"),
        needs=("I need {when} to finish {x}", "I need more time for {x}"),
        reasons=(*_FAMILY, "some numbers are missing", "my computer crashed", "I was ill"),
        gripes=("Your deadline is a joke", "Nobody can work that fast"),
    ),
    Intent(
        name="place",
        aim="to work {x} {when}",
        roles=_BOSSES,
        things=(
            *("from home", "part time", "the early shift", "the late shift", "shorter hours"),
            *("in the quiet room", "in another team", "from the other office"),
        ),
        whens=(*ON_DAYS, *PERIODS[1:5]),
        acts=("let me work {x} {when}", "allow me to work {x} {when}"),
        needs=("I need to work {x} {when}", "I want to work {x} {when}", "I will work {x} {when}"),
        reasons=(*_FAMILY, "the trains are on strike", "the office is too loud"),
        gripes=("Your office is a zoo", "Everyone else may do it"),
    ),
    Intent(
        name="equipment",
        aim="for {x} {when}",
        roles=("office manager", "boss", "help desk", "assistant", "supplier"),
        things=(
            *("a new chair", "a second screen", "a new keyboard", "a standing desk", "a headset"),
            *("a desk lamp", "a work phone", "a new laptop", "more paper", "a better camera"),
        ),
        whens=BY_DAYS,
        acts=("order {x} for me {when}", "get me {x} {when}", "find me {x} {when}"),
        needs=("I need {x} {when}", "I want {x} {when}"),
        reasons=("my back hurts", "the old one is broken", "I have many video calls", *_WORK[:3]),
        gripes=("You save money on all of us", "I have waited for months"),
    ),
    Intent(
        name="feedback",
        aim="for feedback on {x} {when}",
        roles=(*_PEERS, "teacher", "director"),
        things=(
            *("my slides", "my report", "my first draft", "my plan", "my design", "my essay"),
            *("my speech", "my idea", "my article", "the new logo", "the survey"),
        ),
        whens=BY_DAYS,
        acts=("give me feedback on {x} {when}", "look at {x} {when}", "comment on {x} {when}"),
        needs=("I need feedback on {x} {when}", "I want your feedback on {x} {when}"),
        reasons=(*_WORK[:6], "I want to improve it", "this is new to me"),
        gripes=("You never read anything", "You only ever complain"),
    ),
    Intent(
        name="payment",
        aim="for payment of {x} {when}",
        roles=("client", "customer", "accountant", "tenant", "boss"),
        things=(
            *("the March invoice", "the last invoice", "the deposit", "the course fee"),
            *("my travel costs", "my overtime", "the repair bill", "the July rent"),
            *("the second order", "my expenses"),
        ),
        whens=BY_DAYS,
        acts=("pay {x} {when}", "settle {x} {when}", "arrange payment of {x} {when}"),
        needs=("I expect payment of {x} {when}", "I need payment of {x} {when}"),
        reasons=("it is two weeks late", "we have bills to pay", "the year ends soon"),
        gripes=("You owe us money", "You are a thief"),
    ),
    Intent(
        name="booking",
        aim="to book {x} {when}",
        roles=("assistant", "receptionist", "office manager", "intern"),
        things=(
            *("a meeting room", "a train ticket", "a hotel room", "a taxi", "a table for six"),
            *("the big hall", "a projector", "a company car", "a flight", "a parking space"),
        ),
        whens=ON_DAYS,
        acts=("book {x} for me {when}", "book {x} {when}", "reserve {x} {when}"),
        needs=("I need {x} {when}", "I want {x} booked {when}"),
        reasons=("a client is coming", "I have to be in Leeds", "we are ten people", *_WORK[6:]),
        gripes=("You forgot it last time", "You cannot even use a phone"),
    ),
    Intent(
        name="access",
        aim="for access to {x} {when}",
        roles=("help desk", "manager", "office manager", "client"),
        things=(
            *("the shared drive", "the archive", "the building", "the database", "the calendar"),
            *("the car park", "the payroll system", "the test server", "the lab", "the safe"),
        ),
        whens=BY_DAYS,
        acts=("give me access to {x} {when}", "let me into {x} {when}", "open {x} to me {when}"),
        needs=("I need access to {x} {when}", "I want access to {x} {when}"),
        reasons=(
            "I joined the team",
            "I have to work late",
            "my password does not work",
            *_WORK[:3],
        ),
        gripes=("I have been locked out for days", "Your rules are nonsense"),
    ),
    Intent(
        name="nuisance",
        aim="to do something about {x} {when}",
        roles=(*_HOUSE, "neighbour", "colleague"),
        things=(
            *("the noise", "the cold office", "the dirty kitchen", "the loud music"),
            *("the bad coffee", "the slow network", "the smell", "the full bins", "the wet floor"),
        ),
        whens=BY_DAYS,
        acts=("do something about {x} {when}", "deal with {x} {when}", "look into {x} {when}"),
        needs=("Something must happen about {x} {when}", "I want an end to {x} {when}"),
        reasons=("I cannot work", "people are complaining", "visitors are coming", "I get ill"),
        gripes=("You live like a pig", "You never care about others"),
    ),
    Intent(
        name="cover",
        aim="to cover {x} {when}",
        roles=("colleague", "assistant", "intern", "team leader"),
        things=(
            *("my shift", "my phone", "my inbox", "the front desk", "my class", "the late shift"),
            *("the stand at the fair", "my clients"),
        ),
        whens=ON_DAYS,
        acts=("cover {x} {when}", "take over {x} {when}", "look after {x} {when}"),
        needs=("I need you to cover {x} {when}", "I need cover for {x} {when}"),
        reasons=(*_FAMILY, "I have a course", "I am at a conference"),
        gripes=("You owe me one", "You do nothing all day"),
    ),
    Intent(
        name="letter",
        aim="for {x} {when}",
        roles=("boss", "teacher", "director", "manager", "former boss"),
        things=(
            *("a reference letter", "a short reference", "a letter for the bank"),
            *("a work certificate", "a copy of my contract", "a letter for my visa"),
        ),
        whens=BY_DAYS,
        acts=("write me {x} {when}", "send me {x} {when}", "prepare {x} {when}"),
        needs=("I need {x} {when}", "I must have {x} {when}"),
        reasons=("I am applying for a flat", "I am applying for a course", "the bank wants it"),
        gripes=("It takes you two minutes", "You forgot me again"),
    ),
    Intent(
        name="talk",
        aim="to talk about {x} {when}",
        roles=(*_PEERS, "client", "director", "neighbour"),
        things=(
            *("the new project", "my contract", "the complaints", "the office party", "the prices"),
            *("the delay", "the new rules", "the job offer", "our plans", "the budget cuts"),
        ),
        whens=ON_DAYS,
        acts=(
            "talk to me about {x} {when}",
            "meet me about {x} {when}",
            "call me about {x} {when}",
        ),
        needs=("I want to talk about {x} {when}", "We must talk about {x} {when}"),
        reasons=(
            "there are open questions",
            "I am worried",
            "we have to decide",
            "things went wrong",
        ),
        gripes=("You always hide from me", "I know what you did"),
    ),
    Intent(
        name="cancel",
        aim="to cancel {x} {when}",
        roles=("supplier", "assistant", "receptionist", "landlord"),
        things=(
            *(
                "the order",
                "the subscription",
                "the cleaning contract",
                "the delivery",
                "the tickets",
            ),
            *("the insurance", "the tickets", "the hotel booking", "the phone contract"),
        ),
        whens=BY_DAYS,
        acts=("cancel {x} {when}", "stop {x} {when}", "end {x} {when}"),
        needs=("I want to cancel {x} {when}", "I need to cancel {x} {when}"),
        reasons=("our plans have changed", "it is too expensive", "we do not need it any more"),
        gripes=("Your service is a disgrace", "You sent the wrong thing again"),
    ),
    Intent(
        name="update",
        aim="for an update on {x} {when}",
        roles=(*_PEERS, "supplier", "client", "landlord"),
        things=(
            *("the delivery", "the new project", "the repairs", "the job offer", "the order"),
            *("my application", "the building work", "the survey", "the refund"),
        ),
        whens=BY_DAYS,
        acts=("send me an update on {x} {when}", "tell me more about {x} {when}"),
        needs=("I need an update on {x} {when}", "I want news about {x} {when}"),
        reasons=(*_WORK[:6], "I have heard nothing for a week", "people are asking me"),
        gripes=("You never answer", "I am tired of waiting"),
    ),
)
