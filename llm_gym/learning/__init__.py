"""Algorithms on whole answers: each a choice of advantage, loss and place of the KL penalty."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from llm_gym.learning.buffer import MaskableEpisodeBuffer
    from llm_gym.learning.dpo import DPO
    from llm_gym.learning.expert_iteration import ExpertIteration, SFTOnBest
    from llm_gym.learning.policy_gradient import PolicyGradient
    from llm_gym.learning.presets import (
        A2C,
        DAPO,
        GRPO,
        NLPO,
        REINFORCE,
        RLOO,
        DrGRPO,
        ReinforcePlusPlus,
        ReMax,
    )

__all__ = [
    "A2C",
    "DAPO",
    "DPO",
    "GRPO",
    "NLPO",
    "REINFORCE",
    "RLOO",
    "DrGRPO",
    "ExpertIteration",
    "MaskableEpisodeBuffer",
    "PolicyGradient",
    "ReMax",
    "ReinforcePlusPlus",
    "SFTOnBest",
]

_MODULE_OF = {
    "DPO": "llm_gym.learning.dpo",
    "ExpertIteration": "llm_gym.learning.expert_iteration",
    "MaskableEpisodeBuffer": "llm_gym.learning.buffer",
    "PolicyGradient": "llm_gym.learning.policy_gradient",
    "SFTOnBest": "llm_gym.learning.expert_iteration",
}


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module 'llm_gym.learning' has no attribute {name!r}")
    value = getattr(import_module(_MODULE_OF.get(name, "llm_gym.learning.presets")), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
