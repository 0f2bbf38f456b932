"""Problems whose optimum is known exactly, for holding algorithms against.

Vocabularies and answers are so small that all answers can be listed. So `log Z`, `J*`, `pi*`
and `V*` are numbers, and so are the objective, the divergences and the expected gradient of any
policy. Conversations are small games, solved over all that can be known in them. Importing the
package registers `llm_gym/KnownOptimum-v0` and the games; nothing heavy is imported until it is
used. `transformers` knows the tabular language model once one of the names below was asked for.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

import gymnasium as gym

from llm_gym.registration import RegisteredArguments

if TYPE_CHECKING:
    from llm_gym_known_optimum.angles import (
        angle_to_true_gradient,
    )
    from llm_gym_known_optimum.estimators import (
        EstimatorFigures,
        estimator_figures,
    )
    from llm_gym_known_optimum.exact import (
        Optimum,
        kl_by_prefix,
        policy_values,
        sequence_kl,
        soft_optimum,
    )
    from llm_gym_known_optimum.models import (
        action_log_probs,
        make_reference,
    )
    from llm_gym_known_optimum.problem import (
        Evaluation,
        KnownOptimum,
    )
    from llm_gym_known_optimum.rewards import (
        FAMILIES,
        draw_rewards,
    )
    from llm_gym_known_optimum.tabular import (
        TabularConfig,
        TabularLM,
    )
    from llm_gym_known_optimum.talks.blackjack import (
        Blackjack,
    )
    from llm_gym_known_optimum.talks.kuhn import (
        KuhnPoker,
        equilibrium,
        exploitability,
    )
    from llm_gym_known_optimum.talks.secrets import (
        GuessTheNumber,
        TwentyQuestions,
        Wordle,
    )
    from llm_gym_known_optimum.talks.talk import (
        Talk,
        solve,
        value_of_choices,
    )
    from llm_gym_known_optimum.talks.values import (
        TalkEvaluation,
        evaluate_talk,
        word_probabilities,
    )
    from llm_gym_known_optimum.task import (
        KnownOptimumEnv,
        KnownOptimumVectorEnv,
        RewardTable,
    )
    from llm_gym_known_optimum.tree import (
        AnswerTree,
    )

__all__ = [
    "FAMILIES",
    "AnswerTree",
    "Blackjack",
    "EstimatorFigures",
    "Evaluation",
    "GuessTheNumber",
    "KnownOptimum",
    "KnownOptimumEnv",
    "KnownOptimumVectorEnv",
    "KuhnPoker",
    "Optimum",
    "RewardTable",
    "TabularConfig",
    "TabularLM",
    "Talk",
    "TalkEvaluation",
    "TwentyQuestions",
    "Wordle",
    "action_log_probs",
    "angle_to_true_gradient",
    "draw_rewards",
    "equilibrium",
    "estimator_figures",
    "evaluate_talk",
    "exploitability",
    "kl_by_prefix",
    "make_reference",
    "policy_values",
    "sequence_kl",
    "soft_optimum",
    "solve",
    "value_of_choices",
    "word_probabilities",
]

__version__ = "0.1.0"

_NAMES = {
    "angles": ["angle_to_true_gradient"],
    "estimators": ["EstimatorFigures", "estimator_figures"],
    "exact": ["Optimum", "kl_by_prefix", "policy_values", "sequence_kl", "soft_optimum"],
    "models": ["action_log_probs", "make_reference"],
    "problem": ["Evaluation", "KnownOptimum"],
    "rewards": ["FAMILIES", "draw_rewards"],
    "tabular": ["TabularConfig", "TabularLM"],
    "talks.blackjack": ["Blackjack"],
    "talks.kuhn": ["KuhnPoker", "equilibrium", "exploitability"],
    "talks.secrets": ["GuessTheNumber", "TwentyQuestions", "Wordle"],
    "talks.talk": ["Talk", "solve", "value_of_choices"],
    "talks.values": ["TalkEvaluation", "evaluate_talk", "word_probabilities"],
    "task": ["KnownOptimumEnv", "KnownOptimumVectorEnv", "RewardTable"],
    "tree": ["AnswerTree"],
}
_MODULE_OF = {name: module for module, names in _NAMES.items() for name in names}


def __getattr__(name: str) -> Any:
    if name not in _MODULE_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_MODULE_OF[name]}"), name)


gym.register(
    "llm_gym/KnownOptimum-v0",
    entry_point="llm_gym_known_optimum.task:KnownOptimumEnv",
    vector_entry_point="llm_gym_known_optimum.task:KnownOptimumVectorEnv",
    kwargs=RegisteredArguments(),
)

for _name in ("GuessTheNumber", "Wordle", "TwentyQuestions", "Blackjack", "KuhnPoker"):
    gym.register(
        f"llm_gym/{_name}-v0",
        entry_point=f"llm_gym_known_optimum.talks.task:{_name}Env",
        vector_entry_point=f"llm_gym_known_optimum.talks.task:{_name}VectorEnv",
        kwargs=RegisteredArguments(),
    )
