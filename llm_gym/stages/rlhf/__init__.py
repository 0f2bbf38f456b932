"""From text to a model trained on preferences: five stages, one directory, resumed after any stop.

1. pre-training on text, 2. fine-tuning on instructions with answers, 3. comparisons of the model's
answers, 4. a reward model of them, 5. PPO against the reward model. `rlhf` walks the whole road;
every stage is a function of its own here, and a command of its own for people's own data.
"""

from __future__ import annotations

from llm_gym.stages.rlhf.records import STAGES
from llm_gym.stages.rlhf.road import RLHFRun, rlhf
from llm_gym.stages.rlhf.settings import RLHFConfig
from llm_gym.stages.rlhf.stages import (
    compare_stage,
    fine_tune_stage,
    ppo_stage,
    pretrain_stage,
    reward_model_stage,
)

__all__ = [
    "STAGES",
    "RLHFConfig",
    "RLHFRun",
    "compare_stage",
    "fine_tune_stage",
    "ppo_stage",
    "pretrain_stage",
    "reward_model_stage",
    "rlhf",
]
