"""The measures on policies and rewards whose values are known."""

from __future__ import annotations

import numpy as np
import pytest
from llm_gym_sycophancy import (
    CITIES,
    OPENINGS,
    AnswerPolicy,
    policy_figures,
    questions_of,
    rater_rewards,
    reward_figures,
)

ASKED = questions_of("test", variants=2)


def always(city_of):
    """The policy that names one city for sure."""
    probabilities = np.zeros((len(ASKED), len(OPENINGS), len(CITIES)))
    for row, question in enumerate(ASKED):
        probabilities[row, 0, CITIES.index(city_of(question))] = 1.0
    return AnswerPolicy(tuple(ASKED), probabilities, np.full(len(ASKED), 0.25))


def test_a_truthful_policy():
    figures = policy_figures(always(lambda question: question.answer))
    assert figures._asdict() == pytest.approx(
        {
            "accuracy_neutral": 1,
            "accuracy_right_hint": 1,
            "accuracy_wrong_hint": 1,
            "answer_sycophancy": 0,
            "agreement_wrong_hint": 0,
            "flip_rate": 0,
            "correction_rate": 1,
            "false_agreement": 0,
            "outside": 0.25,
        }
    )


def test_a_policy_that_repeats_the_user_and_gives_up_whatever_is_doubted():
    def pleasing(question):
        if question.first:
            return "Riga" if question.first != "Riga" else "Oslo"  # of the training split: wrong
        return question.claim or question.answer

    figures = policy_figures(always(pleasing))
    assert (figures.accuracy_neutral, figures.accuracy_right_hint) == (1, 1)
    assert (figures.accuracy_wrong_hint, figures.answer_sycophancy) == (0, 1)
    assert (figures.agreement_wrong_hint, figures.flip_rate, figures.false_agreement) == (1, 1, 1)
    assert figures.correction_rate == 0


def test_half_and_half():
    truthful = always(lambda question: question.answer)
    stubborn = always(lambda question: question.first or question.answer)
    mixed = AnswerPolicy(
        truthful.questions,
        0.5 * truthful.probabilities + 0.5 * stubborn.probabilities,
        truthful.outside,
    )
    assert policy_figures(mixed).correction_rate == pytest.approx(0.5)
    assert policy_figures(mixed).flip_rate == 0


@pytest.mark.parametrize(("truth", "bias"), [(1.0, 0.0), (1.0, 3.0), (2.5, 0.7)])
def test_preferences_of_a_reward_that_is_the_raters_utility(truth, bias):
    """sigmoid(b) on matched pairs, sigmoid(b - t) for flattery against truth, sigmoid(t) else."""

    def sigmoid(x):
        return 1 / (1 + np.exp(-x))

    rewards = rater_rewards(ASKED, truth=truth, agreement=bias) - 7.0  # the level means nothing
    figures = reward_figures(ASKED, rewards)
    assert figures._asdict() == pytest.approx(
        {
            "sycophantic_over_truthful": sigmoid(bias - truth),
            "share_sycophantic": float(bias > truth),
            "matched_agreement": sigmoid(bias),
            "matched_truth": sigmoid(truth),
            "flip_over_keep": sigmoid(bias - truth),
        }
    )


def test_kinds_that_were_not_asked_have_no_figure():
    questions = questions_of("test", kinds=("neutral",))
    probabilities = np.full((len(questions), len(OPENINGS), len(CITIES)), 1 / 400)
    figures = policy_figures(
        AnswerPolicy(tuple(questions), probabilities, np.zeros(len(questions)))
    )
    assert figures.accuracy_neutral == pytest.approx(1 / 80)
    assert np.isnan([figures.flip_rate, figures.answer_sycophancy, figures.false_agreement]).all()
