"""Whether an adapter is on the model that it was trained on.

What this library saved knows by a fingerprint. Of an adapter that PEFT wrote, other things give an
answer away: a vocabulary of another size, embeddings of the base that were saved along, another
tokenizer beside it, another name.
"""

from __future__ import annotations

import json
import warnings
from collections.abc import Collection
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from llm_gym.language_models.adapter_files import (
    CONFIG,
    base_fingerprint,
    is_same_directory,
    is_trained_whole,
)
from llm_gym.language_models.embedded import resolve
from llm_gym.language_models.fingerprint import fingerprint_of_base

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel

#: What to do with an adapter of PEFT's that cannot be taken as it is.
MERGE = (
    "merge the adapter into its base with PEFT (merge_and_unload), save that with its tokenizer, "
    "and pass the directory"
)


class OtherBaseWarning(UserWarning):
    """An adapter is on another model than it was trained on."""


def say_other_base(model: PreTrainedModel, directory: Path, base: str) -> None:
    """Says of a base of the right shapes that it is not the one that the adapter learnt on.

    Args:
        model: With the adapter in it.
        directory: Of the adapter.
        base: The base that it names.
    """
    there, found = base_fingerprint(directory), fingerprint_of_base(model)
    name = str(model.name_or_path)
    what = (
        f"{base!r}, which it names as its base"
        if is_same(base, name)
        else f"{name!r}, which it is put on"
    )
    how = ""
    if there and found is not None:
        how = "on other weights than those of" if there != found else ""
    elif not is_same(base, name):
        _warn(
            f"{str(directory)!r} names {base!r} as its base and is put on {name!r}: if those are "
            "not the same weights, it may say nonsense there"
        )
    elif _other_tokenizer(directory, Path(name)):
        how = "with another tokenizer than that of"
    if how:
        _warn(
            f"{str(directory)!r} was trained {how} {what}, and may say nonsense there: if it is "
            "not the same model in another quantisation, write where its base is into "
            f"base_model_name_or_path of {directory / CONFIG}"
        )


def say_other_name(named: str, name: str, what: str) -> None:
    """Says of an adapter in memory that it is on another model than it names.

    Args:
        named: The base by its configuration; may be empty.
        name: The model that it is on.
        what: The object.
    """
    if named and not is_same(named, name):
        _warn(
            f"{what} has an adapter that names {named!r} as its base, on {name!r}: if those are "
            "not the same weights, it may say nonsense there"
        )


def _warn(message: str) -> None:
    warnings.warn(message, OtherBaseWarning, stacklevel=4)


def is_same(one: str, other: str) -> bool:
    """Whether two names are of one model."""
    return resolve(one) == resolve(other) or is_same_directory(resolve(one), resolve(other))


def _other_tokenizer(directory: Path, base: Path) -> bool:
    """Whether tokens have other ids in the tokenizer beside an adapter than in its base's.

    Added tokens do not count: they are often renamed, and a model learns them.
    """
    ours, theirs = _vocabulary(directory), _vocabulary(base)
    if not ours or not theirs:
        return False
    return any(theirs.get(token, number) != number for token, number in ours.items())


def _vocabulary(directory: Path) -> dict[str, int]:
    """Ids of tokens, of a tokenizer that says them in one file; empty if there is none."""
    with suppress(OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        found = json.loads((directory / "tokenizer.json").read_text(encoding="utf-8"))
        vocabulary = found["model"]["vocab"]
        if isinstance(vocabulary, dict):
            return vocabulary
        return {token: number for number, (token, _) in enumerate(vocabulary)}
    return {}


# ------------------------------------------------------------------ what is saved of a base


def other_vocabulary(model: PreTrainedModel, weights: dict[str, torch.Tensor]) -> int | None:
    """The size of the vocabulary that an adapter was trained with, if it is not the model's.

    Args:
        model: The base, before the adapter is in it.
        weights: The adapter's tensors, by the names that they have in the model.
    """
    embeddings = [model.get_input_embeddings(), model.get_output_embeddings()]
    sizes = {
        name: tuple(module.get_parameter("weight").shape)
        for name, module in model.named_modules()
        if any(module is embedding for embedding in embeddings)
    }
    for key, tensor in weights.items():
        size = sizes.get(_plain(key).removesuffix(".weight"))
        if size is not None and tensor.shape[1:] == size[1:] and len(tensor) != size[0]:
            return len(tensor)
    return None


def take_base_out(
    model: PreTrainedModel, weights: dict[str, torch.Tensor], saved: Collection[str]
) -> str | None:
    """Takes what is the base's own out of an adapter's tensors: PEFT saves embeddings along.

    Args:
        model: The base, before the adapter is in it.
        weights: The adapter's tensors, changed in place.
        saved: Modules that are trained whole, which PEFT saves by their names in the base.

    Returns:
        The name of a tensor that is used and is not the base's; None if there is none.
    """
    own = dict(model.named_parameters(remove_duplicate=False))
    for key in list(weights):
        again = ".modules_to_save." in key and _plain(key) in weights
        if again or ".original_module." in key:  # what is in its place is saved under its own name
            del weights[key]
        elif (key in own or ".base_layer." in key) and not is_trained_whole(key, saved):
            parameter = own.get(_plain(key))
            if parameter is not None and not _are_equal(parameter, weights[key]):
                return key
            del weights[key]
    return None


def _plain(key: str) -> str:
    """The name that a tensor of an adapter has in the base."""
    for inside in (".original_module.", ".modules_to_save.", ".base_layer."):
        key = key.replace(inside, ".")
    return key


def _are_equal(one: torch.Tensor, other: torch.Tensor) -> bool:
    """Whether two tensors are the same numbers, one of them rounded to the other's type."""
    import torch

    one = one.detach().cpu()
    return torch.equal(one.to(other.dtype), other) or torch.equal(one, other.to(one.dtype))
