"""What a model's generation config says ends an answer."""

from __future__ import annotations

import json
import warnings
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from llm_gym.language_models.adapter_files import base_of, is_adapter
from llm_gym.language_models.embedded import resolve
from llm_gym.language_models.hub import cached_file

if TYPE_CHECKING:
    from transformers import PreTrainedModel

FILES = ("generation_config.json", "config.json")
"""Where end tokens are written: the second counts where there is no first, as in transformers."""

# Where configurations of models that also see or hear keep what concerns text.
_TEXT_PARTS = ("text_config", "decoder", "generator", "thinker_config")


def generation_end_ids(
    tokenizer: Any = None, name_or_path: str | Path | None = None
) -> tuple[int, ...]:
    """The `eos_token_id` of a model's generation config, one or several.

    Args:
        tokenizer: The model's tokenizer; the directory it came from is the model's, and of a hub's
            name that which is already on this machine.
        name_or_path: The model's name, if it is known; a hub is asked for the file.

    Returns:
        The ids; none where the file is missing or says none. An empty list, with which
        transformers would never end an answer, is none, too, with a warning: other end tokens, such
        as the tokenizer's, count all the same.

    Raises:
        ValueError: The file holds something else than ids.
    """
    download = name_or_path is not None
    name = getattr(tokenizer, "name_or_path", "")
    if name_or_path is not None:
        name = resolve(name_or_path)
    if not name or not isinstance(name, str):
        return ()
    if is_adapter(name) and not (Path(name) / FILES[0]).is_file():
        name = base_of(name)
    if Path(name).is_dir():
        return _from_directory(Path(name))
    return _from_hub(name, download=download)


def unheard_end_ids(
    model: PreTrainedModel | str | Path, heard: Sequence[int], vocab_size: int
) -> list[int]:
    """Tokens that end an answer by a model's generation config, and that nobody has heard of.

    Args:
        model: The model, or its name or path.
        heard: Ids that end an answer anyway.
        vocab_size: Ids from here on are no tokens: a default of the architecture, not the model's.

    Returns:
        The others, of which there mostly are none.
    """
    if isinstance(model, (str, Path)):
        ids = generation_end_ids(name_or_path=model)
    else:
        ids = _declared(model.generation_config.eos_token_id, "the model's generation config")
    return [token for token in ids if token < vocab_size and token not in heard]


def end_with(model: PreTrainedModel, end_token_ids: Iterable[int | None]) -> None:
    """Has the generation config that is saved with a model end answers where the model learnt to.

    Args:
        model: Its generation config is changed, if it does not say so already.
        end_token_ids: What ended the answers it learnt from; None ends nothing.
    """
    known = _as_ids(model.generation_config.eos_token_id, type(model).__name__)
    told = (token for token in end_token_ids if token is not None)
    ends = list(dict.fromkeys([*known, *told]))
    if len(ends) > len(known):
        model.generation_config.eos_token_id = ends


def _from_directory(directory: Path) -> tuple[int, ...]:
    for name in FILES:
        file = directory / name
        if file.is_file():
            return _ids_in(file)
    return ()


def _from_hub(name: str, *, download: bool) -> tuple[int, ...]:
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import HFValidationError

    for file in FILES:
        with suppress(OSError, HFValidationError):  # no such file, no network, no name of a hub
            found = cached_file(name, file)
            if found is None and download:
                found = Path(hf_hub_download(name, file))
            if found is not None:
                return _ids_in(found)
    return ()


def _ids_in(file: Path) -> tuple[int, ...]:
    try:
        config = json.loads(file.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{file} is no JSON object ({error})") from error
    if not isinstance(config, Mapping):
        raise ValueError(f"{file} is no JSON object, but {config!r:.80}")
    return _declared(_written(config), str(file))


def _written(config: Mapping[str, Any]) -> Any:
    """The `eos_token_id` of a configuration, or of its part that is about text."""
    own = config.get("eos_token_id")
    if own is not None:
        return own
    parts = [config[name] for name in _TEXT_PARTS if isinstance(config.get(name), Mapping)]
    return next((ids for ids in map(_written, parts) if ids is not None), None)


def _declared(ids: Any, where: str) -> tuple[int, ...]:
    declared = _as_ids(ids, where)
    if ids is not None and not declared:
        warnings.warn(
            f"{where} has an empty list of end tokens (eos_token_id=[]), so answers end where the "
            "tokenizer says; pass eos_token_id=, or write ids into that list, if that is not meant",
            stacklevel=2,
        )
    return declared


def _as_ids(ids: Any, where: str) -> tuple[int, ...]:
    listed = ids if isinstance(ids, Sequence) else [] if ids is None else [ids]
    if not all(isinstance(token, int) and not isinstance(token, bool) for token in listed):
        raise ValueError(f"{where}: eos_token_id={ids!r} must be a token id or a list of them")
    return tuple(listed)
