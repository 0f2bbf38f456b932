"""Adapters that are named as on the Hugging Face hub: fetched once, then read from its cache.

A name on the hub may be of a model or of a LoRA adapter, and only its files say which. Those of an
adapter are few and small; where they are in the cache, the adapter is a directory like any other.
"""

from __future__ import annotations

import functools
from contextlib import suppress
from pathlib import Path

CONFIG = "adapter_config.json"
WEIGHTS = "adapter_model.safetensors"

_MODEL = "config.json"
# Nothing that is unpickled, and no code.
_FILES = ["*.json", "*.safetensors", "*.jinja", "*.model", "*.txt"]


def cached_file(name: str, file: str) -> Path | None:
    """Where a file of a model or an adapter lies in the hub's cache.

    Args:
        name: Any name or path; the hub is not asked.
        file: Its name.

    Returns:
        `None` if it is not there, or that is no name on the hub.
    """
    from huggingface_hub import try_to_load_from_cache
    from huggingface_hub.errors import HFValidationError

    with suppress(HFValidationError):
        found = try_to_load_from_cache(name, file)
        return Path(found) if isinstance(found, str) else None
    return None


def cached_adapter(name: str) -> str | None:
    """Where an adapter of that name lies in the hub's cache.

    Args:
        name: Any name or path; the hub is not asked.

    Returns:
        Its directory; `None` if it is no name on the hub, not in the cache, or a whole model.
    """
    found = cached_file(name, CONFIG) if _may_be_adapter(name) else None
    return None if found is None or (found.parent / _MODEL).is_file() else str(found.parent)


@functools.cache
def fetch_adapter(name: str) -> None:
    """Has an adapter of that name in the cache, if the hub has one; asked once a process.

    Whatever keeps it from being had (no network, no such name) is said where it is loaded.

    Args:
        name: Any name or path.
    """
    if not _may_be_adapter(name):
        return
    from huggingface_hub import hf_hub_download, snapshot_download
    from huggingface_hub.errors import EntryNotFoundError, HFValidationError

    with suppress(OSError, EntryNotFoundError, HFValidationError):
        found = Path(hf_hub_download(name, CONFIG))
        with suppress(EntryNotFoundError):
            hf_hub_download(name, _MODEL)
            return  # a model, beside which an adapter lies
        if not (found.parent / WEIGHTS).is_file():
            snapshot_download(name, allow_patterns=_FILES)


def is_path(name: str) -> bool:
    """Whether a text can be no name on the hub: those are `name` or `owner/name`."""
    return name.startswith((".", "/", "~")) or name.count("/") > 1 or "\\" in name


def _may_be_adapter(name: str) -> bool:
    """Whether a text has the form of a name on the hub, `owner/name`, and is no path here."""
    owner, _, rest = name.partition("/")
    plain = bool(owner and rest) and "/" not in rest and "\\" not in name
    return plain and not name.startswith((".", "~")) and not Path(name).exists()
