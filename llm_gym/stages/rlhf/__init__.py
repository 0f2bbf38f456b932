"""From text to a model trained on preferences: five stages, one directory, resumed after any stop.

1. pre-training on text, 2. fine-tuning on instructions with answers, 3. comparisons of the model's
answers, 4. a reward model of them, 5. PPO against the reward model. `rlhf` walks the whole road,
`run_stage` does one stage of it; for people's own data each is a command of its own.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from llm_gym._submodules import submodule_getter
from llm_gym.stages.rlhf.run import RLHFRun, rlhf, run_stage
from llm_gym.stages.rlhf.settings import STAGES, RLHFConfig

__all__ = ["STAGES", "RLHFConfig", "RLHFRun", "rlhf", "run_stage"]

if not TYPE_CHECKING:  # type checkers know the submodules
    __getattr__ = submodule_getter(__name__)
