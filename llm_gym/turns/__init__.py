"""Turn-level worlds of text as environments of tokens: conversations that can be trained on."""

from typing import TYPE_CHECKING

from llm_gym._submodules import submodule_getter
from llm_gym.turns.as_turns import as_turns
from llm_gym.turns.environment import TurnEnv, TurnVectorEnv
from llm_gym.turns.worlds import World, WorldError

__all__ = ["TurnEnv", "TurnVectorEnv", "World", "WorldError", "as_turns"]

if not TYPE_CHECKING:  # type checkers know the submodules
    __getattr__ = submodule_getter(__name__)
