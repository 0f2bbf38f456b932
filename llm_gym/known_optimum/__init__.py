"""Problems whose optimum is known exactly, for holding algorithms against.

Vocabularies and answers are so small that all answers can be listed. So ``log Z``, ``J*``, ``pi*``
and ``V*`` are numbers, and so are the objective, the divergences and the expected gradient of any
policy. The environment is ``llm_gym/KnownOptimum-v0``; ``benchmarks/algorithms`` uses it.

Importing this package makes ``transformers`` know the tabular language model.
"""

from __future__ import annotations

from llm_gym.known_optimum.estimators import EstimatorFigures, estimator_figures
from llm_gym.known_optimum.exact import (
    Optimum,
    kl_by_prefix,
    policy_values,
    sequence_kl,
    soft_optimum,
)
from llm_gym.known_optimum.models import action_log_probs, make_reference
from llm_gym.known_optimum.problem import Evaluation, KnownOptimum
from llm_gym.known_optimum.rewards import FAMILIES, draw_rewards
from llm_gym.known_optimum.tabular import TabularConfig, TabularLM
from llm_gym.known_optimum.task import KnownOptimumEnv, KnownOptimumVectorEnv, RewardTable
from llm_gym.known_optimum.tree import AnswerTree

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
