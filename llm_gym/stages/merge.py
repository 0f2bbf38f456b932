"""A LoRA adapter and its base as one plain model, in a directory of ours."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from llm_gym.files.atomic import write_json
from llm_gym.files.owned import check_replaceable, replace_directory
from llm_gym.files.provenance import commit, versions

if TYPE_CHECKING:
    from llm_gym.language_models.model_objects import ModelLike

RECORD = "merged.json"
"""Says in the directory of a merged model what it was made of."""


def merge_adapter(adapter: ModelLike, output: str | Path) -> str:
    """Writes an adapter and its base as one plain model, and says of what it was made.

    Args:
        adapter: Directory of a LoRA adapter, or a model with one in it.
        output: Directory for the model, tokenizer and `merged.json`; written whole or not at all.

    Returns:
        The base, as the adapter names it.

    Raises:
        ImportError: PEFT is not installed.
        ValueError: `adapter` is no adapter or cannot be loaded (see
            `llm_gym.language_models.adapters.load_adapter`); or `output` holds it or its base, or
            something that we did not write.
    """
    from llm_gym.language_models.adapter_files import base_of, is_adapter, is_same_directory
    from llm_gym.language_models.adapters import merge
    from llm_gym.language_models.embedded import fetch
    from llm_gym.language_models.model_objects import named

    adapter = named(adapter, "adapter")
    source = Path(fetch(adapter))
    base = base_of(source) if is_adapter(source) else ""  # `merge` says what it is instead
    for what, path in (("adapter", source), ("base", Path(base))):
        if base and is_same_directory(path, output):
            raise ValueError(
                f"output={str(output)!r} holds the {what} itself, which would be replaced; choose "
                "another directory"
            )
    check_replaceable(output)
    with replace_directory(output) as directory:
        merge(source, directory)
        record = {"adapter": str(source), "base": base, "versions": versions(), "commit": commit()}
        write_json(directory / RECORD, record)
    return base
