"""Text generation as a Gymnasium environment, single and vectorised."""

from typing import TYPE_CHECKING

from llm_gym._submodules import submodule_getter
from llm_gym.text.single import TextGenerationEnv
from llm_gym.text.vector import TextGenerationVectorEnv

__all__ = ["TextGenerationEnv", "TextGenerationVectorEnv"]

if not TYPE_CHECKING:  # type checkers know the submodules
    __getattr__ = submodule_getter(__name__)
