"""Text generation as a Gymnasium environment, single and vectorised."""

from llm_gym.text.single import TextGenerationEnv
from llm_gym.text.vector import TextGenerationVectorEnv

__all__ = ["TextGenerationEnv", "TextGenerationVectorEnv"]
