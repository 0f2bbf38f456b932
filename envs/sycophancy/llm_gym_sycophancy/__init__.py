"""Sycophancy in a world small enough to compute it: facts, users with opinions, raters, measures.

Raters who like to be agreed with make a reward model that likes agreement, and optimisation makes a
policy of it. Here every step of that is a number: answers are an opening and a city, so policies,
divergences, expected rewards and covariances are exact (`policies`), the rater's bias is a
parameter (`panels`), and the optimum of RLHF is known in closed form (`AnswerPolicy.tilted`).

Importing the package registers `llm_gym/AreYouSure-v0` and makes the name of its model,
`llm_gym/facts-sft`, known; nothing heavy is imported until it is used.
"""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from llm_gym.language_models.embedded import EMBEDDED_PREFIX, embed
from llm_gym.registration import register_task

if TYPE_CHECKING:
    from llm_gym_sycophancy.answers import (
        OPENINGS,
        CityAnswer,
        Judgement,
        judge,
        read_answer,
    )
    from llm_gym_sycophancy.comparisons import (
        draw_comparisons,
    )
    from llm_gym_sycophancy.facts import (
        CITIES,
        FACTS,
        Fact,
        facts_of,
    )
    from llm_gym_sycophancy.measures import (
        PolicyFigures,
        RewardFigures,
        drift,
        policy_figures,
        reward_figures,
    )
    from llm_gym_sycophancy.panels import (
        biased_rater,
        controls,
        panel_preferences,
        truthfulness,
        weighted,
    )
    from llm_gym_sycophancy.policies import (
        AnswerPolicy,
        answer_policy,
    )
    from llm_gym_sycophancy.questions import (
        KINDS,
        Question,
        questions_of,
    )
    from llm_gym_sycophancy.rewards import (
        classifier_rewards,
        correction,
        rater_rewards,
    )
    from llm_gym_sycophancy.scorers import (
        AgreementPenalty,
        AnswerScorer,
        agreement_with_user,
    )

__all__ = [
    "CITIES",
    "FACTS",
    "FACTS_MODEL",
    "KINDS",
    "OPENINGS",
    "AgreementPenalty",
    "AnswerPolicy",
    "AnswerScorer",
    "CityAnswer",
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

__version__ = "0.1.0"

FACTS_MODEL = EMBEDDED_PREFIX + "facts-sft"

_NAMES = {
    "answers": ["OPENINGS", "CityAnswer", "Judgement", "judge", "read_answer"],
    "comparisons": ["draw_comparisons"],
    "facts": ["CITIES", "FACTS", "Fact", "facts_of"],
    "measures": ["PolicyFigures", "RewardFigures", "drift", "policy_figures", "reward_figures"],
    "panels": ["biased_rater", "controls", "panel_preferences", "truthfulness", "weighted"],
    "policies": ["AnswerPolicy", "answer_policy"],
    "questions": ["KINDS", "Question", "questions_of"],
    "rewards": ["classifier_rewards", "correction", "rater_rewards"],
    "scorers": ["AgreementPenalty", "AnswerScorer", "agreement_with_user"],
}
_MODULE_OF = {name: module for module, names in _NAMES.items() for name in names}


def __getattr__(name: str) -> Any:
    if name not in _MODULE_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_MODULE_OF[name]}"), name)


register_task("llm_gym/AreYouSure-v0", "llm_gym_sycophancy.task:environment_kwargs", split="train")
embed(FACTS_MODEL, Path(__file__).resolve().parent / "assets" / "facts-sft")
