"""Sycophancy in a world small enough to compute it: facts, users with opinions, raters, measures.

Raters who like to be agreed with make a reward model that likes agreement, and optimisation makes a
policy of it. Here every step of that is a number: answers are an opening and a city, so policies,
divergences, expected rewards and covariances are exact (`policies`), the rater's bias is a
parameter (`panels`), and the optimum of RLHF is known in closed form (`AnswerPolicy.tilted`).

The task is ``llm_gym/AreYouSure-v0``; ``benchmarks/sycophancy`` is the experiment.
"""

from __future__ import annotations

from llm_gym.language_models import FACTS_MODEL
from llm_gym.sycophancy.answers import OPENINGS, Answer, Judgement, judge, read_answer
from llm_gym.sycophancy.comparisons import draw_comparisons
from llm_gym.sycophancy.facts import CITIES, FACTS, Fact, facts_of
from llm_gym.sycophancy.measures import (
    PolicyFigures,
    RewardFigures,
    drift,
    policy_figures,
    reward_figures,
)
from llm_gym.sycophancy.panels import (
    biased_rater,
    controls,
    panel_preferences,
    truthfulness,
    weighted,
)
from llm_gym.sycophancy.policies import AnswerPolicy, answer_policy
from llm_gym.sycophancy.questions import KINDS, Question, questions_of
from llm_gym.sycophancy.rewards import classifier_rewards, correction, rater_rewards
from llm_gym.sycophancy.scorers import AgreementPenalty, AnswerScorer, agreement_with_user

__all__ = [
    "CITIES",
    "FACTS",
    "FACTS_MODEL",
    "KINDS",
    "OPENINGS",
    "AgreementPenalty",
    "Answer",
    "AnswerPolicy",
    "AnswerScorer",
    "Fact",
    "Judgement",
    "PolicyFigures",
    "Question",
    "RewardFigures",
    "agreement_with_user",
    "answer_policy",
    "biased_rater",
    "classifier_rewards",
    "controls",
    "correction",
    "draw_comparisons",
    "drift",
    "facts_of",
    "judge",
    "panel_preferences",
    "policy_figures",
    "questions_of",
    "rater_rewards",
    "read_answer",
    "reward_figures",
    "truthfulness",
    "weighted",
]
