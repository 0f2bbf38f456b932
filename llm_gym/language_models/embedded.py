"""The language models that ship inside the package, by name.

GPT-2-shaped models made by the library's own commands from the text of its own generator (see
``assets/MODEL_CARD.md`` and ``assets/facts-sft/MODEL_CARD.md`` for recipes and figures):

* ``llm_gym/email-base`` continues office text (next-token pre-training only);
* ``llm_gym/email-sft`` answers an instruction with an email (fine-tuned on instruction/answer
  pairs), sometimes politely, often not;
* ``llm_gym/facts-sft`` answers questions about sixty capitals, and now and then gives in to a user
  who is wrong (see :mod:`llm_gym.sycophancy`).

The first two have about a million parameters, the last 68 thousand.
"""

from __future__ import annotations

import difflib
from pathlib import Path

__all__ = [
    "BASE_MODEL",
    "EMBEDDED_PREFIX",
    "FACTS_MODEL",
    "PROMPT_TEMPLATE",
    "SFT_MODEL",
    "embedded_names",
    "resolve",
]

EMBEDDED_PREFIX = "llm_gym/"
BASE_MODEL = EMBEDDED_PREFIX + "email-base"
SFT_MODEL = EMBEDDED_PREFIX + "email-sft"
FACTS_MODEL = EMBEDDED_PREFIX + "facts-sft"

PROMPT_TEMPLATE = "<|user|>{prompt}<|assistant|>"
"""How the fine-tuned model was shown its prompts; both marks are single tokens of its tokenizer."""

_ASSETS = Path(__file__).resolve().parent / "assets"


def embedded_names() -> tuple[str, ...]:
    """Names of the models inside the package, pre-trained first."""
    return (BASE_MODEL, SFT_MODEL, FACTS_MODEL)


def resolve(name_or_path: str | Path) -> str:
    """Turn an embedded name into its directory; leave every other name or path as it is.

    Args:
        name_or_path: One of `embedded_names`, a directory or a hub name.

    Returns:
        A directory for the embedded names, else ``str(name_or_path)``.

    Raises:
        ValueError: If the name starts with ``llm_gym/`` but is neither an embedded model nor an
            existing directory.
    """
    name = str(name_or_path)
    if name in embedded_names():
        return str(_ASSETS / name.removeprefix(EMBEDDED_PREFIX))
    if name.startswith(EMBEDDED_PREFIX) and not Path(name).is_dir():
        close = difflib.get_close_matches(name, embedded_names(), n=1, cutoff=0.0)
        raise ValueError(
            f"unknown embedded model {name!r}: did you mean {close[0]!r}? "
            f"The package contains {', '.join(embedded_names())}."
        )
    return name
