"""Settings of a conversation, apart from what it needs PyTorch for."""

from __future__ import annotations

from dataclasses import dataclass

from llm_gym.files.ranges import check_choice, check_settings
from llm_gym.files.settings import setting
from llm_gym.language_models.chat import check_fields
from llm_gym.language_models.loading import DTYPES


@dataclass(frozen=True)
class ChatConfig:
    """How models answer in a conversation; all of them alike.

    Raises:
        TypeError: A value has another type.
        ValueError: A value is out of range.
    """

    system: str | None = setting(None, "what the models are told before the conversation")
    prompt_template: str | None = setting(
        None, 'text around {prompt} ("{prompt}": none); default: the model\'s chat template'
    )
    max_new_tokens: int = setting(256, "most tokens of an answer")
    temperature: float = setting(1.0, "temperature of the sampling")
    top_k: int = setting(0, "sample among the k most probable tokens (0: all)")
    top_p: float = setting(1.0, "sample from the nucleus of this probability (1: all)")
    deterministic: bool = setting(False, "take the most probable token")
    dtype: str = setting(
        "float32", "type of the weights: float32, bfloat16, float16, float64 or auto (the file's)"
    )
    seed: int = setting(0, "seed of the sampling, the same for every model")

    def __post_init__(self) -> None:
        check_settings(self)
        check_fields(self.prompt_template)
        check_choice("dtype", self.dtype, DTYPES)
