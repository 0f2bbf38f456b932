"""The language models that ship inside the package or a plug-in, by name.

GPT-2-shaped models made by the library's own commands from the text of its own generator (see
`assets/MODEL_CARD.md` for recipe and figures):

* `llm_gym/email-base` continues office text (next-token pre-training only);
* `llm_gym/email-sft` answers an instruction with an email (fine-tuned on instruction/answer
  pairs), sometimes politely, often not.

Both have about a million parameters. A plug-in adds its own with `embed`.
"""

from __future__ import annotations

import difflib
from pathlib import Path

from llm_gym.language_models.hub import cached_adapter, fetch_adapter

EMBEDDED_PREFIX = "llm_gym/"
BASE_MODEL = EMBEDDED_PREFIX + "email-base"
SFT_MODEL = EMBEDDED_PREFIX + "email-sft"

PROMPT_TEMPLATE = "<|user|>{prompt}<|assistant|>"
"""How the fine-tuned model was shown its prompts; both marks are single tokens of its tokenizer."""

_ASSETS = Path(__file__).resolve().parent / "assets"
_DIRECTORIES = {
    name: _ASSETS / name.removeprefix(EMBEDDED_PREFIX) for name in (BASE_MODEL, SFT_MODEL)
}


def embed(name: str, directory: Path) -> None:
    """Makes a model that a plug-in ships known by a name.

    Args:
        name: The name, `llm_gym/` and one word.
        directory: As written by `save_pretrained`, tokenizer included.

    Raises:
        ValueError: If the name has another form.
    """
    if not name.startswith(EMBEDDED_PREFIX):
        raise ValueError(f"name={name!r} must begin with {EMBEDDED_PREFIX!r}")
    _DIRECTORIES[name] = directory


def embedded_names() -> tuple[str, ...]:
    """Names of the models that are installed: the package's own, then those of plug-ins."""
    return tuple(_DIRECTORIES)


def resolve(name_or_path: str | Path) -> str:
    """Turns the name of what is here into its directory; leaves every other name as it is.

    Args:
        name_or_path: One of `embedded_names`, a directory or a hub name.

    Returns:
        A directory for the embedded names, and for those of adapters in the hub's cache; else
        `str(name_or_path)`.

    Raises:
        ValueError: If the name starts with `llm_gym/` but is neither an embedded model nor an
            existing directory.
    """
    name = str(name_or_path)
    if name in _DIRECTORIES:
        return str(_DIRECTORIES[name])
    if name.startswith(EMBEDDED_PREFIX) and not Path(name).is_dir():
        close = difflib.get_close_matches(name, embedded_names(), n=1, cutoff=0.0)
        raise ValueError(
            f"unknown embedded model {name!r}: did you mean {close[0]!r}? "
            f"The package contains {', '.join(embedded_names())}."
        )
    return cached_adapter(name) or name


def fetch(name_or_path: str | Path) -> str:
    """As `resolve`, after the hub was asked where the name may be that of an adapter there.

    What is installed, and a `Path`, is no name of the hub: without a network, asking takes half a
    minute.

    Raises:
        ValueError: As `resolve`.
    """
    if isinstance(name_or_path, str) and not name_or_path.startswith(EMBEDDED_PREFIX):
        fetch_adapter(name_or_path)
    return resolve(name_or_path)
