"""A seeded generator of office text: what the embedded models are made from.

Everything is drawn from a `random.Random` made from the seed and the split; the global random state
is never touched.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from llm_gym._submodules import submodule_getter
from llm_gym.polite_email.documents import documents
from llm_gym.polite_email.emails import write_email
from llm_gym.polite_email.prompts import email_prompts, instruction_pairs
from llm_gym.supervised.pairs import InstructionPair

__all__ = [
    "InstructionPair",
    "documents",
    "email_prompts",
    "instruction_pairs",
    "write_email",
]

if not TYPE_CHECKING:  # type checkers know the submodules
    __getattr__ = submodule_getter(__name__)
