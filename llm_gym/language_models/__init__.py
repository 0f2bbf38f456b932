"""Loading language models and tokenizers, and the small models that ship with the package."""

from __future__ import annotations

from typing import TYPE_CHECKING

from llm_gym._submodules import submodule_getter
from llm_gym.language_models.embedded import (
    BASE_MODEL,
    PROMPT_TEMPLATE,
    SFT_MODEL,
    embed,
    embedded_names,
    resolve,
)
from llm_gym.language_models.loading import load_causal_lm, load_tokenizer

__all__ = [
    "BASE_MODEL",
    "PROMPT_TEMPLATE",
    "SFT_MODEL",
    "embed",
    "embedded_names",
    "load_causal_lm",
    "load_tokenizer",
    "resolve",
]

if not TYPE_CHECKING:  # type checkers know the submodules
    __getattr__ = submodule_getter(__name__)
