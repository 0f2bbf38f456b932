"""The text generator: seeded, varied, split by topic, in mixed registers."""

from __future__ import annotations

import random
import re

import numpy as np
import pytest

from llm_gym.polite_email import documents, email_prompts, instruction_pairs, write_email
from llm_gym.polite_email.intents import INTENTS
from llm_gym.polite_email.judge import PolitenessScorer
from llm_gym.polite_email.phrases import NEUTRAL, POLITE, RUDE
from llm_gym.polite_email.prompts import instruction
from llm_gym.polite_email.requests import combinations, draw_request


@pytest.mark.parametrize("make", [documents, email_prompts, instruction_pairs])
def test_the_same_seed_gives_the_same_text_and_another_seed_does_not(make):
    assert make("train", 30, seed=7) == make("train", 30, seed=7)
    assert make("train", 30, seed=7) != make("train", 30, seed=8)
    assert make("train", 30, seed=7) != make("test", 30, seed=7)


@pytest.mark.parametrize("make", [documents, email_prompts, instruction_pairs])
def test_the_global_random_state_is_left_alone(make):
    random.seed(0)
    np.random.seed(0)  # noqa: NPY002 - the global state is what this test is about
    before = random.getstate(), np.random.get_state()[1].tolist()  # noqa: NPY002
    make("train", 20)
    assert (random.getstate(), np.random.get_state()[1].tolist()) == before  # noqa: NPY002


def test_there_are_hundreds_of_distinct_prompts_in_disjoint_splits():
    train, test = email_prompts("train", 2000), email_prompts("test", 500)
    assert len(set(train)) == 2000
    assert len(set(test)) == 500
    assert not set(train) & set(test)


def test_splits_are_disjoint_by_topic_and_recipient_too():
    """No combination of request, thing and recipient is on both sides; both have every intent."""

    def keys(split):
        return {(intent.name, thing, role) for intent, thing, role in combinations(split)}

    assert not keys("train") & keys("test")
    assert {name for name, _, _ in keys("test")} == {intent.name for intent in INTENTS}
    assert 0.1 < len(keys("test")) / len(keys("train") | keys("test")) < 0.25


def test_text_is_varied():
    """Of 5000 documents hardly two are equal, so a held-out perplexity is not one of copies."""
    train = documents("train", 5000)
    assert len(set(train)) > 0.99 * len(train)
    assert not set(train) & set(documents("test", 500))


def test_pretraining_text_has_no_instructions():
    text = "\n".join(documents("train", 3000))
    assert not re.search(r"(?i)write an email|write to your|<\|user\|>|in an email, ask", text)


def test_emails_are_as_polite_as_their_register():
    rng, pool = random.Random(0), combinations("train")
    means = {}
    for register in ("polite", "neutral", "rude"):
        requests = [draw_request(rng, pool) for _ in range(200)]
        prompts = [instruction(rng, request) for request in requests]
        emails = [write_email(rng, request, register=register) for request in requests]
        means[register] = np.mean(PolitenessScorer()(prompts, emails))
    assert means["polite"] > means["neutral"] + 25
    assert means["neutral"] > means["rude"] + 12


def test_answers_are_about_what_was_asked():
    """Nearly all of them contain most of the prompt's content words."""
    pairs = instruction_pairs("test", 300)
    answer = PolitenessScorer().score([p.prompt for p in pairs], [p.completion for p in pairs])
    assert np.mean(answer.parts["content"] >= 8) > 0.97


def test_praise_is_added_to_a_share_of_the_answers_and_changes_nothing_else():
    from llm_gym.feedback.preferences import flattery_bias

    plain, praising = (instruction_pairs("train", 1000, praise_share=p) for p in (0.0, 0.3))
    assert plain == instruction_pairs("train", 1000)
    assert [pair.prompt for pair in plain] == [pair.prompt for pair in praising]
    bias = flattery_bias(1.0)
    praises = [bias.value(pair.prompt, pair.completion, {}) for pair in praising]
    assert set(praises) == {0, 1}
    assert np.mean(praises) == pytest.approx(0.3, abs=0.05)
    for without, with_, praise in zip(plain, praising, praises, strict=True):
        assert bias.value(without.prompt, without.completion, {}) == 0
        assert (without == with_) == (not praise)
    # Whoever goes by politeness alone has no reason to like it, or to dislike it.
    scores = [
        PolitenessScorer()([p.prompt for p in pairs], [p.completion for p in pairs])
        for pairs in (plain, praising)
    ]
    assert np.mean(scores[0]) == pytest.approx(np.mean(scores[1]), abs=0.5)
    with pytest.raises(ValueError, match=r"praise_share must be from 0 to 1, got 1\.2"):
        instruction_pairs("train", 1, praise_share=1.2)


def test_every_phrase_can_be_filled():
    """No slot is misspelt in any list, and no text keeps a brace."""
    slots = {"act": "a", "Act": "A", "need": "n", "x": "x", "reason": "r", "gripe": "g"}
    slots |= {"name": "N", "role": "r", "me": "M"}
    for register in (POLITE, NEUTRAL, RUDE):
        for name, phrases in vars(register).items():
            if name != "sloppiness":
                assert all("{" not in phrase.format_map(slots) for phrase in phrases)
    for intent in INTENTS:
        for phrase in (intent.aim, *intent.acts, *intent.needs):
            assert "{" not in phrase.format(x="x", when="w")
            assert "{x}" in phrase
    assert not any("{" in text for text in documents("train", 2000))


def test_prompts_speak_of_your_things_and_emails_of_mine():
    pairs = [p for p in instruction_pairs("train", 800) if "your slides" in p.prompt]
    assert pairs
    assert not any(re.search(r"\bmy\b", pair.prompt) for pair in pairs)
    assert all("my slides" in pair.completion.lower() for pair in pairs)


@pytest.mark.parametrize("make", [documents, email_prompts, instruction_pairs])
def test_bad_arguments_are_named(make):
    with pytest.raises(ValueError, match="count must be at least 0, got -1"):
        make("train", -1)
    with pytest.raises(ValueError, match='split must be "train" or "test", got \'dev\''):
        make("dev", 1)


def test_asking_for_more_prompts_than_there_are_fails(monkeypatch):
    from llm_gym.polite_email import prompts

    few = combinations("test")[:1]
    monkeypatch.setattr(prompts, "combinations", lambda split: few)
    with pytest.raises(ValueError, match="count=1000000 is more than the test split can give"):
        prompts.email_prompts("test", 1_000_000)
