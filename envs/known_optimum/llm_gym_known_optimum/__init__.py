"""Problems whose optimum is known exactly, for holding algorithms against.

Vocabularies and answers are so small that all answers can be listed. So `log Z`, `J*`, `pi*`
and `V*` are numbers, and so are the objective, the divergences and the expected gradient of any
policy. Importing the package registers `llm_gym/KnownOptimum-v0`; nothing heavy is imported until
it is used. `transformers` knows the tabular language model once one of the names below was asked
for.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

import gymnasium as gym

from llm_gym.registration import RegisteredArguments

if TYPE_CHECKING:
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
    "EstimatorFigures",
    "Evaluation",
    "KnownOptimum",
    "KnownOptimumEnv",
    "KnownOptimumVectorEnv",
    "Optimum",
    "RewardTable",
    "TabularConfig",
    "TabularLM",
    "action_log_probs",
    "draw_rewards",
    "estimator_figures",
    "kl_by_prefix",
    "make_reference",
    "policy_values",
    "sequence_kl",
    "soft_optimum",
]

__version__ = "0.1.0"

_NAMES = {
    "estimators": ["EstimatorFigures", "estimator_figures"],
    "exact": ["Optimum", "kl_by_prefix", "policy_values", "sequence_kl", "soft_optimum"],
    "models": ["action_log_probs", "make_reference"],
    "problem": ["Evaluation", "KnownOptimum"],
    "rewards": ["FAMILIES", "draw_rewards"],
    "tabular": ["TabularConfig", "TabularLM"],
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
