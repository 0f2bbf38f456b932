"""Reinforcement learning on language models, as Gymnasium environments.

Importing the package registers `llm_gym/TextGeneration-v0`, `llm_gym/Turns-v0`,
`llm_gym/PoliteEmail-v0` and what installed plug-ins bring (such as `llm_gym/Autopilot-v0`).
Everything else is imported when it is first used.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from llm_gym import registration
from llm_gym._submodules import submodule_getter

__version__ = "0.2.0"

if TYPE_CHECKING:  # an alias to itself: type checkers then take the name for exported
    from llm_gym.learning.buffer import EpisodeBuffer as EpisodeBuffer
    from llm_gym.learning.dpo import DPO as DPO
    from llm_gym.learning.expert_iteration import ExpertIteration as ExpertIteration
    from llm_gym.learning.expert_iteration import SFTOnBest as SFTOnBest
    from llm_gym.learning.kl import ReferenceModel as ReferenceModel
    from llm_gym.learning.policy_gradient import PolicyGradient as PolicyGradient
    from llm_gym.learning.ppo import PPO as PPO
    from llm_gym.learning.presets import A2C as A2C
    from llm_gym.learning.presets import DAPO as DAPO
    from llm_gym.learning.presets import GRPO as GRPO
    from llm_gym.learning.presets import NLPO as NLPO
    from llm_gym.learning.presets import REINFORCE as REINFORCE
    from llm_gym.learning.presets import RLOO as RLOO
    from llm_gym.learning.presets import DrGRPO as DrGRPO
    from llm_gym.learning.presets import ReinforcePlusPlus as ReinforcePlusPlus
    from llm_gym.learning.presets import ReMax as ReMax
    from llm_gym.learning.vec_env import GymVecEnv as GymVecEnv
    from llm_gym.policy import TransformerActorCriticPolicy as TransformerActorCriticPolicy
    from llm_gym.polite_email.judge import PolitenessScorer as PolitenessScorer
    from llm_gym.registration import register_task as register_task
    from llm_gym.runs.best_of_n import sample_best_of_n as sample_best_of_n
    from llm_gym.runs.checkpoint import load_checkpoint as load_checkpoint
    from llm_gym.runs.checkpoint import save_model as save_model
    from llm_gym.runs.doctor import diagnose as diagnose
    from llm_gym.runs.evaluation import evaluate as evaluate
    from llm_gym.scorers import Clip as Clip
    from llm_gym.scorers import HTTPScorer as HTTPScorer
    from llm_gym.scorers import JudgeScorer as JudgeScorer
    from llm_gym.scorers import KeywordScorer as KeywordScorer
    from llm_gym.scorers import LengthScorer as LengthScorer
    from llm_gym.scorers import RegexScorer as RegexScorer
    from llm_gym.scorers import Scale as Scale
    from llm_gym.scorers import Scorer as Scorer
    from llm_gym.scorers import ScorerError as ScorerError
    from llm_gym.scorers import SequenceClassifierScorer as SequenceClassifierScorer
    from llm_gym.scorers import WeightedSum as WeightedSum
    from llm_gym.scorers import as_scorer as as_scorer
    from llm_gym.text import TextGenerationEnv as TextGenerationEnv
    from llm_gym.text import TextGenerationVectorEnv as TextGenerationVectorEnv
    from llm_gym.turns import TurnEnv as TurnEnv
    from llm_gym.turns import TurnVectorEnv as TurnVectorEnv
    from llm_gym.turns import WorldError as WorldError
    from llm_gym.turns import as_turns as as_turns

_NAMES_OF = {
    "llm_gym.learning.dpo": ("DPO",),
    "llm_gym.learning.expert_iteration": ("ExpertIteration", "SFTOnBest"),
    "llm_gym.learning.policy_gradient": ("PolicyGradient",),
    "llm_gym.learning.presets": (
        "A2C",
        "DAPO",
        "GRPO",
        "NLPO",
        "REINFORCE",
        "RLOO",
        "DrGRPO",
        "ReMax",
        "ReinforcePlusPlus",
    ),
    "llm_gym.learning.buffer": ("EpisodeBuffer",),
    "llm_gym.learning.ppo": ("PPO",),
    "llm_gym.learning.kl": ("ReferenceModel",),
    "llm_gym.learning.vec_env": ("GymVecEnv",),
    "llm_gym.polite_email.judge": ("PolitenessScorer",),
    "llm_gym.policy": ("TransformerActorCriticPolicy",),
    "llm_gym.registration": ("register_task",),
    "llm_gym.runs.best_of_n": ("sample_best_of_n",),
    "llm_gym.runs.checkpoint": ("load_checkpoint", "save_model"),
    "llm_gym.runs.doctor": ("diagnose",),
    "llm_gym.runs.evaluation": ("evaluate",),
    "llm_gym.scorers": (
        "Clip",
        "HTTPScorer",
        "JudgeScorer",
        "KeywordScorer",
        "LengthScorer",
        "RegexScorer",
        "Scale",
        "Scorer",
        "ScorerError",
        "SequenceClassifierScorer",
        "WeightedSum",
        "as_scorer",
    ),
    "llm_gym.text": ("TextGenerationEnv", "TextGenerationVectorEnv"),
    "llm_gym.turns": ("TurnEnv", "TurnVectorEnv", "WorldError", "as_turns"),
}
_MODULE_OF = {name: module for module, names in _NAMES_OF.items() for name in names}

_submodule = submodule_getter(__name__)

__all__ = sorted(["__version__", *_MODULE_OF])


def __getattr__(name: str) -> Any:
    if name not in _MODULE_OF:
        return _submodule(name)
    value = getattr(import_module(_MODULE_OF[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})


registration.register_environments()
registration.load_plugins()
registration.extend_stable_baselines3()
