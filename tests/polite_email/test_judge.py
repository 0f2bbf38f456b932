"""The politeness judge: what raises the score, what lowers it, and what must not pay."""

from __future__ import annotations

import json
import random
from pathlib import Path

import numpy as np
import pytest

from llm_gym.polite_email import instruction_pairs
from llm_gym.polite_email.email_text import parse_email, topic_of
from llm_gym.polite_email.judge import PENALTIES, WEIGHTS, PolitenessScorer
from llm_gym.scorers import Scorer

PROMPT = "Write an email to your boss Ms Clark asking for two days off next week."

POLITE = (
    "Dear Ms Clark,\nI hope you are well. Could you please give me two days off next week? I ask "
    "because my sister is getting married. I am sorry for the short notice. Thank you very much "
    "for your help.\nKind regards,\nAnna"
)
NEUTRAL = "Hi Ms Clark,\nI need two days off next week. Let me know.\nAnna"
RUDE = "Hey,\nGive me two days off next week, you idiot. I don't care what you think. Hurry up!!!"

HAND_WRITTEN = [  # prompt, polite, neutral, rude
    (PROMPT, POLITE, NEUTRAL, RUDE),
    (
        "Ask your landlord in an email to repair the heating by Friday.",
        "Hello,\n\nWould it be possible to have the heating repaired by Friday, since we have a "
        "small child? I know that you are busy. Many thanks in advance.\n\nBest wishes,\nOmar",
        "Hello,\nthe heating is broken. Can you repair the heating by Friday?\nOmar",
        "The heating is still broken, you useless fool. Repair the heating by Friday or else.",
    ),
    (
        "Email your colleague to ask for feedback on your slides.",
        "Hi there,\nI was wondering if you could give me some feedback on my slides. Sorry to "
        "bother you, and thanks for taking the time.\nThank you for your help.\nRegards,\nVera",
        "I want some feedback on my slides. They are on the shared drive.\nVera",
        "LOOK AT MY SLIDES NOW!!! You never read anything, you lazy clown.",
    ),
    (
        "Write to a customer and remind them of the unpaid invoice.",
        "Dear customer,\nI hope this message finds you well. May I remind you of the unpaid "
        "invoice? I am sorry if it is paid already. Thank you.\nYours sincerely,\nL. Novak",
        "Hello,\nYour invoice is unpaid. This is to remind you of it.\nL. Novak",
        "You thief, pay the unpaid invoice right now. This is your last chance.",
    ),
]


def score(text: str, prompt: str = PROMPT) -> float:
    return PolitenessScorer()([prompt], [text])[0]


def parts(text: str, prompt: str = PROMPT) -> dict[str, float]:
    answer = PolitenessScorer().score([prompt], [text])
    return {name: values[0] for name, values in answer.parts.items()}


@pytest.mark.parametrize(("prompt", "polite", "neutral", "rude"), HAND_WRITTEN)
def test_hand_written_emails_are_ranked(prompt, polite, neutral, rude):
    """Polite beats neutral beats rude, by margins a person would notice."""
    assert score(polite, prompt) >= score(neutral, prompt) + 25
    assert score(neutral, prompt) >= score(rude, prompt) + 10
    assert score(polite, prompt) >= 60
    assert score(rude, prompt) <= 12


def test_the_excellent_email_gets_all_points_and_a_greeting_instead_of_one_next_to_none():
    assert score(POLITE) == 100.0
    assert score("Hey, what's up") <= 2.0
    assert score("") == 0.0


def test_parts_explain_the_score():
    """Strategies times civility times form is the score."""
    scorer = PolitenessScorer()
    pairs = instruction_pairs("test", 50, seed=3)
    answer = scorer.score([p.prompt for p in pairs], [p.completion for p in pairs])
    assert set(answer.parts) == {*WEIGHTS, *PENALTIES, "civility", "form"}
    strategies = sum(answer.parts[name] for name in WEIGHTS)
    expected = strategies * answer.parts["civility"] * answer.parts["form"]
    np.testing.assert_allclose(answer.values, expected)
    points = -sum(answer.parts[name] for name in PENALTIES)
    np.testing.assert_allclose(answer.parts["civility"], 0.5 ** (points / 25))
    assert isinstance(scorer, Scorer)
    assert sum(WEIGHTS.values()) == 100


@pytest.mark.parametrize(
    ("strategy", "sentence"),
    [
        ("wish", "I hope you are well."),
        ("request", "Could you give me two days off next week?"),
        ("request", "I would be very grateful if you could give me two days off."),
        ("request", "If you have a moment, could you look at my two days off?"),
        ("please", "Please give me two days off."),
        ("gratitude", "Thank you for your help."),
        ("gratitude", "I really appreciate your help."),
        ("deference", "I apologise for asking so late."),
        ("deference", "I understand if this is not possible."),
        ("reason", "It matters because my sister is getting married."),
    ],
)
def test_each_strategy_is_recognised(strategy, sentence):
    assert parts(f"Hi,\nIt is about next week. {sentence}\nAnna")[strategy] == WEIGHTS[strategy]
    assert parts("Hi,\nIt is about next week.\nAnna")[strategy] == 0


@pytest.mark.parametrize(
    ("penalty", "sentence"),
    [
        ("insults", "You are an idiot."),
        ("commands", "Give me two days off."),
        ("pressure", "I don't care what you think."),
        ("shouting", "It is about NEXT WEEK and I am waiting."),
        ("shouting", "I am waiting!!!"),
        ("carelessness", "thx if u can help."),
        ("carelessness", "would not ask, but it matters."),
    ],
)
def test_each_penalty_is_recognised(penalty, sentence):
    assert parts(f"Hi,\nIt is about next week. {sentence}\nAnna")[penalty] < 0
    assert parts("Hi,\nIt is about next week.\nAnna")[penalty] == 0


@pytest.mark.parametrize(
    "sentence", ["Do you have time?", "Have you seen it?", "Let me know.", "Please send it soon."]
)
def test_questions_and_softened_imperatives_are_no_commands(sentence):
    assert parts(f"Hi,\nIt is about next week. {sentence}\nAnna")["commands"] == 0


def test_penalties_grow_more_slowly_with_each_occurrence_up_to_a_limit():
    points = [parts("You fool. " * n)["insults"] for n in range(7)]
    steps = -np.diff(points)
    assert steps[0] == 25
    assert steps[1] == 10
    assert points[-1] == points[-2] == -45


@pytest.mark.parametrize(
    "stuffed",
    [
        "please " * 20,
        "Please please please please give me two days off next week please please.",
        "thank you sorry please dear kind regards could you would you I hope grateful",
        "Thank you. Sorry. Please. Could you? Would you? Because. Kind regards.",
        "Dear Dear Dear\nplease\nthank you\nsorry\nKind regards,\nPlease",
        "Dear Ms Clark, Thank you very much. Thank you so much. Many thanks. Thanks a lot.",
        PROMPT,
        PROMPT + " please thank you sorry kind regards",
    ],
)
def test_keyword_stuffing_does_not_pay(stuffed):
    """No list of polite words beats a plain neutral email."""
    assert score(stuffed) < score(NEUTRAL)


def emails() -> list[tuple[str, str]]:
    """The hand-written emails and 60 of the generator's."""
    written = [(prompt, text) for prompt, *texts in HAND_WRITTEN for text in texts]
    pairs = instruction_pairs("test", 60, seed=5)
    return written + [(pair.prompt, pair.completion) for pair in pairs]


@pytest.mark.parametrize(
    "repeat",
    [
        lambda text: f"{text}\n{text}",
        lambda text: f"{text} {text}",
        lambda text: text.replace(". ", ". Thank you very much. Thank you very much. ", 1),
        lambda text: " ".join(word for word in text.split(" ") for _ in range(2)),
        lambda text: text.replace("lease ", "lease please "),
    ],
    ids=["whole", "whole on one line", "thanks twice", "every word", "please"],
)
def test_repeating_does_not_pay(repeat):
    """Not for an email that has thanks already, which every one gets here."""
    for prompt, text in emails():
        lines = text.split("\n")
        lines[-1:] = ["Thank you very much.", lines[-1]]
        thankful = "\n".join(lines)
        assert score(repeat(thankful), prompt) <= score(thankful, prompt) + 1e-9


def test_cutting_a_polite_email_off_never_pays():
    """At every word; inside a sentence it costs at least a quarter."""
    words = POLITE.split(" ")
    cuts = [" ".join(words[:count]) for count in range(1, len(words))]
    assert max(map(score, cuts)) < score(POLITE)
    unfinished = [cut for cut in cuts if cut[-1] not in ".?," and "regards" not in cut]
    assert max(map(score, unfinished)) < 0.75 * score(POLITE)


@pytest.mark.parametrize(
    "filler",
    [
        "This is an email about a thing that I write because emails are written. " * 6,
        "and so on and on and on " * 10,
        "The weather is fine and the sun is out and we all like it very well here today. " * 4,
        "blah " * 60,
        "\n" * 50,
        " . . . . . . . .",
    ],
)
def test_padding_does_not_pay(filler):
    greeting, body, *rest = POLITE.split("\n")
    padded = "\n".join([greeting, f"{body} {filler}", *rest])
    assert score(padded) <= score(POLITE)
    if filler.strip(" .\n"):
        assert score(padded) < 0.8 * score(POLITE)


def test_shuffled_words_of_a_polite_email_score_low():
    rng = random.Random(0)
    scores = []
    for _ in range(100):
        words = POLITE.split()
        rng.shuffle(words)
        scores.append(score(" ".join(words)))
    assert max(scores) < 15
    assert np.mean(scores) < 5


def test_another_topic_is_worth_little():
    other = "Write an email to your boss Ms Clark asking to repair the coffee machine."
    assert score(POLITE, other) < 0.35 * score(POLITE)


def test_the_right_person_has_to_be_greeted():
    assert score(POLITE.replace("Ms Clark", "Mr Hill")) < score(POLITE)


def test_no_prompt_topic_is_no_fault_of_the_email():
    assert score(POLITE, "Write.") == 100.0


def test_scores_of_any_text_are_within_bounds():
    """Control characters, other scripts, marks only: a number from 0 to 100 each."""
    rng = random.Random(1)
    alphabet = "aA .,!?\n\t\x00\u200bé漢🙂'-_1you please"
    texts = ["".join(rng.choices(alphabet, k=rng.randrange(60))) for _ in range(300)]
    values = PolitenessScorer().score([PROMPT] * 300, texts).values
    assert ((values >= 0) & (values <= 100)).all()


def test_a_batch_is_scored_like_its_rows():
    pairs = instruction_pairs("test", 20, seed=1)
    together = PolitenessScorer()([p.prompt for p in pairs], [p.completion for p in pairs])
    assert together == [score(p.completion, p.prompt) for p in pairs]


def test_generated_registers_are_ranked_and_spread():
    """A learner that starts from the generator's mixture has far to rise, and can see where to."""
    pairs = instruction_pairs("test", 600, seed=2)
    values = np.array(PolitenessScorer()([p.prompt for p in pairs], [p.completion for p in pairs]))
    assert 32 < values.mean() < 48
    assert values.std() > 20
    assert (values > 80).mean() > 0.05


def test_an_email_is_taken_apart():
    email = parse_email("Dear Ann,\n\nCould you come? Thank you.\nKind regards,\nTom Hill\n")
    assert email.greeting == "Dear Ann,"
    assert email.body == ("Could you come?", "Thank you.")
    assert (email.closing, email.signature) == ("Kind regards,", "Tom Hill")


def test_a_topic_has_content_words_and_names_only():
    topic = topic_of("Write an email to your boss Ms Clark asking for two days off in May.")
    assert topic.names == {"clark"}
    assert topic.stems == {"two", "day", "off", "may"}


def test_the_judge_agrees_with_people():
    """On requests rated by people (Danescu-Niculescu-Mizil et al. 2013), though they are no emails.

    Requests that use a strategy were rated politer than the rest, insulting ones ruder, and of a
    polite and a rude request (top and bottom quarter) the judge prefers the polite one.
    """
    path = Path(__file__).parents[3] / "shared" / "data" / "politeness" / "wikipedia.jsonl"
    if not path.is_file():
        pytest.skip(f"the ratings are not here: {path}")
    rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    human = np.array([row["score"] for row in rows])
    judged = PolitenessScorer().score(["Write."] * len(rows), [row["text"] for row in rows]).parts
    for strategy in ("request", "please", "gratitude", "deference"):
        assert human[judged[strategy] > 0].mean() > human.mean() + 0.3
    for penalty in ("insults", "pressure", "shouting"):
        assert human[judged[penalty] < 0].mean() < human.mean() - 0.1
    # Greeting and sign-off are left out: these are single requests.
    points = sum(judged[name] for name in ("request", "please", "gratitude", "deference", "reason"))
    values = points * judged["civility"] + judged["civility"]
    low, high = np.quantile(human, [0.25, 0.75])
    polite, rude = values[human >= high][:, None], values[human <= low]
    assert (polite > rude).mean() + 0.5 * (polite == rude).mean() > 0.6
