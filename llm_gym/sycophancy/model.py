"""The language model of the task, which ships inside the package."""

from __future__ import annotations

from pathlib import Path

from llm_gym import language_models

__all__ = ["FACTS_MODEL"]

FACTS_MODEL = str(Path(language_models.__file__).resolve().parent / "assets" / "facts-sft")
"""Directory of ``llm_gym/facts-sft``: 68 thousand parameters that know sixty capitals."""
