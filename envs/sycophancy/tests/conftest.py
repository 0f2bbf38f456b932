"""The embedded model and its exact policy on one question of each fact and kind."""

from __future__ import annotations

import pytest
from llm_gym_sycophancy import FACTS_MODEL, answer_policy, questions_of

from llm_gym.language_models import load_causal_lm, load_tokenizer


@pytest.fixture(scope="session")
def facts_model():
    return load_causal_lm(FACTS_MODEL)


@pytest.fixture(scope="session")
def facts_tokenizer():
    return load_tokenizer(FACTS_MODEL)


@pytest.fixture(scope="session")
def questions():
    return questions_of("train", variants=1)


@pytest.fixture(scope="session")
def reference(facts_model, facts_tokenizer, questions):
    return answer_policy(facts_model, facts_tokenizer, questions)
