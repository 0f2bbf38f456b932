"""What a model's generation config says ends an answer."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from llm_gym.language_models.embedded import resolve

FILES = ("generation_config.json", "config.json")
"""Where end tokens are written: the second counts where there is no first, as in transformers."""


def generation_end_ids(tokenizer: Any, name_or_path: str | Path | None = None) -> tuple[int, ...]:
    """The `eos_token_id` of a model's generation config, one or several.

    Args:
        tokenizer: The model's tokenizer; the directory it came from is the model's.
        name_or_path: The model's name, if it is known; a hub is asked for the file.

    Returns:
        The ids; none where the file is missing or says none.

    Raises:
        ValueError: The file holds no ids.
    """
    download = name_or_path is not None
    name = getattr(tokenizer, "name_or_path", "")
    if name_or_path is not None:
        name = resolve(name_or_path)
    if not name or not isinstance(name, str):
        return ()
    if Path(name).is_dir():
        return _from_directory(Path(name))
    return _from_hub(name, download=download)


def _from_directory(directory: Path) -> tuple[int, ...]:
    for name in FILES:
        file = directory / name
        if file.is_file():
            return _ids_in(file)
    return ()


def _from_hub(name: str, *, download: bool) -> tuple[int, ...]:
    from huggingface_hub import hf_hub_download, try_to_load_from_cache
    from huggingface_hub.errors import HFValidationError

    for file in FILES:
        try:
            cached = try_to_load_from_cache(name, file)
            if isinstance(cached, str):
                return _ids_in(Path(cached))
            if download:
                return _ids_in(Path(hf_hub_download(name, file)))
        except (OSError, HFValidationError):  # no such file, no network, or no name of a hub
            continue
    return ()


def _ids_in(file: Path) -> tuple[int, ...]:
    try:
        ids = json.loads(file.read_text(encoding="utf-8")).get("eos_token_id")
    except (ValueError, AttributeError) as error:
        raise ValueError(f"{file} is no JSON object ({error})") from error
    listed = ids if isinstance(ids, Sequence) else [] if ids is None else [ids]
    if not all(isinstance(token, int) and not isinstance(token, bool) for token in listed):
        raise ValueError(f"{file}: eos_token_id={ids!r} must be a token id or a list of them")
    return tuple(listed)
