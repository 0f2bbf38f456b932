"""Several models on one set of weights: what is frozen exists once, whoever computes with it.

Each model is a module tree of its own. Their frozen parameters are the same tensors, so there is no
second copy in memory, nothing is ever switched, and each keeps its own caches, hooks and threads.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import TYPE_CHECKING

from llm_gym.language_models.architecture import decoder_of

if TYPE_CHECKING:
    import torch
    from torch import nn
    from transformers import PreTrainedModel


def trainable_twin(model: PreTrainedModel) -> PreTrainedModel:
    """A model equal to another, with trainable parameters of its own and the same frozen ones.

    Args:
        model: Its parameters with `requires_grad=False` are shared.

    Returns:
        The twin.
    """
    shared = {id(p): p for p in model.parameters() if not p.requires_grad}
    return copy.deepcopy(model, dict(shared))


def frozen_twin(model: PreTrainedModel) -> PreTrainedModel:
    """What a model is now, frozen: a copy of what it may still learn, the rest shared.

    Args:
        model: See `trainable_twin`.

    Returns:
        The twin, in evaluation mode.
    """
    return trainable_twin(model).requires_grad_(False).eval()


def share_weights(model: PreTrainedModel, owner: PreTrainedModel) -> int:
    """Puts another model's frozen parameters in the place of equal ones of this model.

    A parameter is replaced where it has the same name in its decoder or above it, shape, type,
    device and bits as a frozen one of the owner's; it is frozen from then on. Adapters do not stand
    in the way: the base below them is shared.

    Args:
        model: Any model of transformers, such as a reward model, before an optimizer is made of it.
        owner: The model whose tensors stay, such as a policy's with a LoRA adapter.

    Returns:
        Number of bytes that the model shares now with the owner.
    """
    theirs = {name: p for name, p in _by_place(owner) if not p.requires_grad}
    replaced: dict[int, torch.nn.Parameter] = {}
    for name, parameter in _by_place(model):
        other = theirs.get(name)
        if other is not None and _same_bits(parameter, other):
            replaced[id(parameter)] = other
    for module in model.modules():
        _replace(module, replaced)
    shared = {p.data_ptr(): p.nbytes for p in replaced.values()}
    return sum(shared.values())


def _replace(module: nn.Module, replaced: dict[int, torch.nn.Parameter]) -> None:
    for name, parameter in list(module._parameters.items()):
        if id(parameter) in replaced:
            setattr(module, name, replaced[id(parameter)])


def _by_place(model: PreTrainedModel) -> Iterator[tuple[tuple[bool, str], torch.nn.Parameter]]:
    """Parameters by whether they are the decoder's, and their name there, without an adapter.

    Decoders of one architecture are alike, whatever their models call them.
    """
    decoder = decoder_of(model)
    below = {id(parameter) for parameter in decoder.parameters()}
    for part in (decoder, model):
        for name, parameter in part.named_parameters(remove_duplicate=False):
            if part is decoder or id(parameter) not in below:
                plain = name.replace(".base_layer.", ".").replace(".original_module.", ".")
                yield (part is decoder, plain), parameter


def _same_bits(one: torch.Tensor, other: torch.Tensor) -> bool:
    import torch

    if one.shape != other.shape or one.dtype != other.dtype or one.device != other.device:
        return False
    if one.data_ptr() == other.data_ptr():
        return True
    bits = [p.detach().contiguous().flatten().view(torch.uint8) for p in (one, other)]
    return torch.equal(*bits)
