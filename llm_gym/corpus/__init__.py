"""A seeded generator of office text: what the embedded models are made from.

Everything is drawn from a `random.Random` made from the seed and the split; the global random state
is never touched.
"""

from __future__ import annotations

from llm_gym.corpus.documents import documents
from llm_gym.corpus.emails import write_email
from llm_gym.corpus.prompts import InstructionPair, email_prompts, instruction_pairs

__all__ = [
    "InstructionPair",
    "documents",
    "email_prompts",
    "instruction_pairs",
    "write_email",
]
