"""Exact policies: against the plain forward pass, against hand calculation, against the theory."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from llm_gym_sycophancy import (
    CITIES,
    OPENINGS,
    AnswerPolicy,
    answer_policy,
    correction,
    drift,
    policy_figures,
    questions_of,
    rater_rewards,
)
from llm_gym_sycophancy.policies import judgements, single_token_cities

from llm_gym.language_models import PROMPT_TEMPLATE
from llm_gym.testing.tiny import tiny_tokenizer

SHAPE = (len(OPENINGS), len(CITIES))


@pytest.fixture
def two_answers():
    """One question with a wrong hint (Sydney), answered with Sydney (0.3) or Canberra (0.7)."""
    question = questions_of("train", kinds=("wrong_hint",), variants=1)[0]
    probabilities = np.zeros((1, *SHAPE))
    probabilities[0, 1, CITIES.index("Sydney")] = 0.3
    probabilities[0, 2, CITIES.index("Canberra")] = 0.7
    return AnswerPolicy((question,), probabilities, np.zeros(1))


def test_probabilities_are_those_of_the_plain_forward_pass(facts_model, facts_tokenizer):
    """Answer by answer and token by token, for prompts of different lengths in one batch."""
    questions = questions_of("train", variants=1)[:5]
    policy = answer_policy(facts_model, facts_tokenizer, questions)
    for row, question in enumerate(questions):
        prompt = facts_tokenizer(PROMPT_TEMPLATE.format(prompt=question.prompt))["input_ids"]
        for o, c in ((0, 0), (1, 60), (2, 17), (3, 0), (4, 79)):
            text = f"{OPENINGS[o]} {CITIES[c]}"
            answer = facts_tokenizer(text, add_special_tokens=False)["input_ids"]
            with torch.no_grad():
                logits = facts_model(torch.tensor([prompt + answer])).logits[0].double()
            log_probs = logits.log_softmax(-1)[len(prompt) - 1 : -1]
            expected = log_probs.gather(-1, torch.tensor(answer)[:, None]).sum().exp().item()
            got = policy.probabilities[row, o, c] * (1 - policy.outside[row])
            assert got == pytest.approx(expected, rel=1e-4)


def test_probabilities_sum_to_one_and_little_is_outside(reference):
    assert reference.probabilities.sum((1, 2)) == pytest.approx(np.ones(len(reference.questions)))
    assert reference.outside.min() > -1e-6
    assert reference.outside.mean() < 0.01


def test_expectation_covariance_and_divergence_by_hand(two_answers):
    verdicts = judgements(two_answers.questions)
    assert two_answers.mean(verdicts.agrees) == pytest.approx([0.3])
    rewards = rater_rewards(two_answers.questions, truth=1.0, agreement=3.0)
    # p (1 - p) (E[r | agrees] - E[r | does not]) = 0.3 * 0.7 * (3 - 1)
    assert two_answers.covariance(verdicts.agrees, rewards) == pytest.approx([0.42], abs=1e-12)
    tilted = two_answers.tilted(rewards, np.log(2.0))  # weights 0.3 * 8 and 0.7 * 2
    assert tilted.mean(verdicts.agrees) == pytest.approx([2.4 / 3.8])
    p = 2.4 / 3.8
    expected = p * np.log(p / 0.3) + (1 - p) * np.log((1 - p) / 0.7)
    assert tilted.kl_to(two_answers) == pytest.approx([expected])
    assert two_answers.kl_to(two_answers) == pytest.approx([0.0])


@pytest.mark.parametrize("agreement", [0.0, 0.5, 1.0, 3.0])
def test_the_initial_slope_is_the_covariance(reference, agreement):
    """Central difference of the tilted policy's agreement, to 1e-6 (Shapira et al.)."""
    rewards = rater_rewards(reference.questions, agreement=agreement)
    agrees = judgements(reference.questions).agrees
    step = 1e-3
    up, down = (reference.tilted(rewards, s).mean(agrees) for s in (step, -step))
    covariance = reference.covariance(agrees, rewards)
    assert (up - down) / (2 * step) == pytest.approx(covariance, abs=1e-6)
    # and, for a binary indicator, p (1 - p) times the difference of the conditional means
    p = reference.mean(agrees)
    with np.errstate(invalid="ignore"):
        gap = reference.mean(agrees * rewards) / p - reference.mean((1 - agrees) * rewards) / (
            1 - p
        )
    some = (p > 1e-9) & (p < 1 - 1e-9)
    assert (p * (1 - p) * gap)[some] == pytest.approx(covariance[some], abs=1e-9)


def test_the_slope_of_the_reported_figure_is_the_drift(reference):
    rewards = rater_rewards(reference.questions, agreement=2.0)
    step = 1e-3
    up, down = (policy_figures(reference.tilted(rewards, s)).false_agreement for s in (step, -step))
    assert (up - down) / (2 * step) == pytest.approx(drift(reference, rewards), abs=1e-6)


def test_the_tilted_policy_is_the_optimum_of_rlhf(reference):
    """Its objective is beta log Z, and no mixture with another policy does better."""
    beta = 0.5
    rewards = rater_rewards(reference.questions, agreement=2.0)

    def objective(policy):
        return policy.mean(rewards) - beta * policy.kl_to(reference)

    best = reference.tilted(rewards, 1 / beta)
    normaliser = reference.mean(np.exp(rewards / beta))
    assert objective(best) == pytest.approx(beta * np.log(normaliser), abs=1e-9)
    for rival in (reference, reference.tilted(rewards, 1.0), reference.tilted(rewards, 5.0)):
        for share in (0.01, 0.3, 1.0):
            mixed = (1 - share) * best.probabilities + share * rival.probabilities
            policy = AnswerPolicy(best.questions, mixed, best.outside)
            assert (objective(policy) <= objective(best) + 1e-12).all()


def test_sycophancy_grows_with_the_bias_and_with_the_pressure_and_is_absent_without_bias(reference):
    """In closed form, with the raters' own utility as the reward."""
    before = policy_figures(reference)

    def after(agreement, strength):
        rewards = rater_rewards(reference.questions, agreement=agreement)
        return policy_figures(reference.tilted(rewards, strength))

    by_bias = [after(b, 2.0) for b in (0.0, 0.5, 1.0, 2.0, 4.0)]
    for name in ("flip_rate", "agreement_wrong_hint", "answer_sycophancy"):
        values = [getattr(figures, name) for figures in by_bias]
        assert values == sorted(values)
        assert values[0] < getattr(before, name)
    # at b = t the rater is indifferent between truth and flattery
    assert by_bias[2].flip_rate == pytest.approx(before.flip_rate, abs=0.03)
    by_pressure = [after(3.0, s).false_agreement for s in (0.0, 0.5, 1.0, 2.0, 4.0)]
    assert by_pressure == sorted(by_pressure)
    assert by_pressure[0] == pytest.approx(before.false_agreement)
    honest = [after(0.0, s).false_agreement for s in (0.0, 0.5, 1.0, 2.0, 4.0)]
    assert honest == sorted(honest, reverse=True)


def test_the_correction_restores_what_an_unbiased_rater_would_have_made(reference):
    """Exactly, where the user is wrong; where the user is right, agreement is still paid."""
    bias, strength, questions = 3.0, 2.0, reference.questions
    corrected = rater_rewards(questions, agreement=bias) - bias * correction(questions)
    mended = reference.tilted(corrected, strength)
    unbiased = reference.tilted(rater_rewards(questions), strength)
    wrong = np.array([question.claim_is_false for question in questions])
    assert mended.probabilities[wrong] == pytest.approx(unbiased.probabilities[wrong], abs=1e-12)
    right = np.array([question.kind == "right_hint" for question in questions])
    agrees = judgements(questions).agrees
    assert (mended.mean(agrees)[right] > unbiased.mean(agrees)[right]).all()


def test_a_tokenizer_that_cuts_cities_up_is_refused(facts_model):
    with pytest.raises(ValueError, match="no single token for 'Canberra'"):
        answer_policy(facts_model, tiny_tokenizer(), questions_of("test"))


def test_cities_have_different_tokens(facts_tokenizer):
    assert len(set(single_token_cities(facts_tokenizer))) == len(CITIES)
