"""What lies in the directory of a LoRA adapter, as PEFT writes it, and where its base model is.

    adapter_config.json         settings, and the name or path of the base model
    adapter_model.safetensors   the adapter's own tensors

Nothing here needs PEFT.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from llm_gym.language_models.embedded import embedded_names, fetch, resolve
from llm_gym.language_models.hub import CONFIG, WEIGHTS, is_path

#: Key in the header of the weights: the base by the name that it has on every machine.
_BASE_KEY = "llm_gym_base"
#: And a fingerprint of the base's weights, see `llm_gym.language_models.model_weights`.
_WEIGHTS_KEY = "llm_gym_base_weights"


def is_adapter(directory: str | Path) -> bool:
    """Whether a directory holds an adapter and no model."""
    directory = Path(directory)
    return (directory / CONFIG).is_file() and not (directory / "config.json").is_file()


def read_settings(directory: str | Path) -> dict[str, Any]:
    """The content of `adapter_config.json`.

    Raises:
        ValueError: It is no JSON object, or not of a LoRA adapter.
    """
    path = Path(directory) / CONFIG
    settings = read_object(path)
    kind = settings.get("peft_type")
    if kind != "LORA":
        raise ValueError(
            f"{path}: peft_type={kind!r:.80} is another kind of adapter than LoRA ('LORA'), the "
            "only one that is supported; merge it into its base with PEFT and pass the merged model"
        )
    return settings


def read_object(path: Path) -> dict[str, Any]:
    """Reads a JSON object.

    Raises:
        ValueError: The file cannot be read, or holds something else.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise ValueError(f"{path} cannot be read: {error}") from error
    if not isinstance(content, dict):
        raise ValueError(f"{path} must hold a JSON object, not {content!r:.80}")
    return content


def is_trained_whole(name: str, saved: Iterable[str]) -> bool:
    """Whether a parameter is of one of `modules_to_save`, as PEFT reads that.

    Args:
        name: Of the parameter.
        saved: Ends of paths of modules, be it in the middle of a word: `norm` is `input_layernorm`,
            too.
    """
    parts = name.split(".")
    modules = [".".join(parts[:depth]) for depth in range(1, len(parts))]
    return any(module.endswith(end) for end in saved for module in modules)


def is_same_directory(one: str | Path, other: str | Path) -> bool:
    """Whether two names are of one directory that is there."""
    one, other = Path(one), Path(other)
    return one.is_dir() and other.is_dir() and one.samefile(other)


def base_of(directory: str | Path) -> str:
    """The base model of an adapter: a directory that is there, or a name to ask the hub for.

    Raises:
        ValueError: The adapter names none, the base it names is not here, or is an adapter itself.
    """
    directory = Path(directory)
    settings = read_settings(directory)
    named, revision = settings.get("base_model_name_or_path"), settings.get("revision")
    where = f"{str(directory)!r} is an adapter of {named or 'a model it does not name'!r:.300}"
    advice = f"write where its base is into base_model_name_or_path of {directory / CONFIG}"
    if not isinstance(named, str) or not named:
        raise ValueError(f"{where}: {advice}")
    known = _said_of_base(directory, _BASE_KEY)
    if not Path(named).is_dir() and known in embedded_names():
        named = known
    source = fetch(named)
    if revision not in (None, "main") and not Path(source).is_dir():
        raise ValueError(
            f"{where} at revision {revision!r:.80}, and models are loaded from the hub as they are "
            f"now: download that one (hf download {source} --revision {revision!s:.80} "
            f"--local-dir DIR), and {advice}"
        )
    if is_adapter(source):
        raise ValueError(
            f"{where}, which is an adapter, too: merge that one first (llm-gym merge), and {advice}"
        )
    if not Path(source).is_dir() and is_path(source):
        raise ValueError(f"{where}, and there is no such directory here: {advice}")
    return source


def base_metadata(base: str, fingerprint: str | None) -> dict[str, str]:
    """What the header of an adapter's weights says, so that its base is found and known anywhere.

    Args:
        base: Directory or hub name of the base.
        fingerprint: Of the base's weights; None if it has none.
    """
    named = [name for name in embedded_names() if resolve(name) == base]
    said = {_BASE_KEY: named[0] if named else None, _WEIGHTS_KEY: fingerprint}
    return {"format": "pt", **{key: value for key, value in said.items() if value is not None}}


def sort_metadata(path: Path) -> None:
    """Puts what a file's header says in order, so that the same tensors are the same file.

    safetensors writes it in an order of chance. The header keeps its length: a few bytes that say
    it, JSON, and spaces.
    """
    with path.open("r+b") as file:
        length = int.from_bytes(file.read(8), "little")
        header = json.loads(file.read(length))
        header["__metadata__"] = dict(sorted(header["__metadata__"].items()))
        text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
        if len(text) <= length:  # a text that Python spells longer stays as it is
            file.seek(8)
            file.write(text.ljust(length))


def base_fingerprint(directory: str | Path) -> str:
    """The fingerprint of the base that an adapter was made on; empty if it does not say."""
    return _said_of_base(Path(directory), _WEIGHTS_KEY)


def _said_of_base(directory: Path, key: str) -> str:
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(directory / WEIGHTS, "pt") as weights:
            return str((weights.metadata() or {}).get(key, ""))
    except (SafetensorError, OSError):
        return ""
