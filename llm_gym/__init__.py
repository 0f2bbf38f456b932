"""Reinforcement learning on language models, as Gymnasium environments.

Importing the package registers `llm_gym/TextGeneration-v0`, `llm_gym/PoliteEmail-v0` and the
environments of installed plug-ins. Everything else is imported when it is first used.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from llm_gym import registration

if TYPE_CHECKING:
    from llm_gym._version import __version__
    from llm_gym.learning import (
        A2C,
        DAPO,
        DPO,
        GRPO,
        NLPO,
        REINFORCE,
        RLOO,
        DrGRPO,
        ExpertIteration,
        PolicyGradient,
        ReinforcePlusPlus,
        ReMax,
        SFTOnBest,
    )
    from llm_gym.learning.buffer import EpisodeBuffer
    from llm_gym.learning.ppo import PPO
    from llm_gym.learning.reference import ReferenceModel
    from llm_gym.learning.vec_env import GymVecEnv
    from llm_gym.policy import TransformerActorCriticPolicy
    from llm_gym.polite_email.judge import PolitenessScorer
    from llm_gym.registration import register_task
    from llm_gym.runs.best_of_n import sample_best_of_n
    from llm_gym.runs.evaluation import evaluate
    from llm_gym.scorers import (
        Clip,
        HTTPScorer,
        KeywordScorer,
        LengthScorer,
        RegexScorer,
        Scale,
        Scorer,
        ScorerError,
        SequenceClassifierScorer,
        WeightedSum,
        as_scorer,
    )
    from llm_gym.text import TextGenerationEnv, TextGenerationVectorEnv

_ALGORITHMS = [
    "A2C",
    "DAPO",
    "DPO",
    "GRPO",
    "NLPO",
    "REINFORCE",
    "RLOO",
    "DrGRPO",
    "ExpertIteration",
    "PolicyGradient",
    "ReMax",
    "ReinforcePlusPlus",
    "SFTOnBest",
    "sample_best_of_n",
]

__all__ = [
    "A2C",
    "DAPO",
    "DPO",
    "GRPO",
    "NLPO",
    "PPO",
    "REINFORCE",
    "RLOO",
    "Clip",
    "DrGRPO",
    "EpisodeBuffer",
    "ExpertIteration",
    "GymVecEnv",
    "HTTPScorer",
    "KeywordScorer",
    "LengthScorer",
    "PolicyGradient",
    "PolitenessScorer",
    "ReMax",
    "ReferenceModel",
    "RegexScorer",
    "ReinforcePlusPlus",
    "SFTOnBest",
    "Scale",
    "Scorer",
    "ScorerError",
    "SequenceClassifierScorer",
    "TextGenerationEnv",
    "TextGenerationVectorEnv",
    "TransformerActorCriticPolicy",
    "WeightedSum",
    "__version__",
    "as_scorer",
    "evaluate",
    "register_task",
    "sample_best_of_n",
]

_MODULE_OF = {
    "__version__": "llm_gym._version",
    "EpisodeBuffer": "llm_gym.learning.buffer",
    "GymVecEnv": "llm_gym.learning.vec_env",
    "PPO": "llm_gym.learning.ppo",
    "ReferenceModel": "llm_gym.learning.reference",
    "TextGenerationEnv": "llm_gym.text",
    "TextGenerationVectorEnv": "llm_gym.text",
    "TransformerActorCriticPolicy": "llm_gym.policy",
    "evaluate": "llm_gym.runs.evaluation",
    "register_task": "llm_gym.registration",
    **dict.fromkeys(_ALGORITHMS, "llm_gym.learning"),
    "PolitenessScorer": "llm_gym.polite_email.judge",
    "sample_best_of_n": "llm_gym.runs.best_of_n",
}


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module 'llm_gym' has no attribute {name!r}")
    value = getattr(import_module(_MODULE_OF.get(name, "llm_gym.scorers")), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})


registration.register_environments()
registration.load_plugins()
