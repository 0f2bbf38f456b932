"""Activations that the backward pass computes again, because that costs next to nothing.

Autograd keeps what each operation needs of its inputs, also where that follows from what is kept
anyway: `act(gate) * up` of an MLP is kept for the layer behind it and `act(gate)` for the product,
and both follow from `gate` and `up`; what a normalisation gives follows from what it was given. So
after each layer the graph that it recorded is looked at, and an operand that element-wise
operations made of tensors which are kept gives way to those operations. They are PyTorch's own, on
the same numbers: gradients are the same to the bit. No architecture is known by name here; of one
in which nothing of the kind is found all is kept as ever.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any

import torch
from torch import nn
from torch.nn import functional as F
from transformers.modeling_layers import GradientCheckpointingLayer

if TYPE_CHECKING:
    from llm_gym.policy.watching import Watch

LARGE_BYTES = 64 * 2**20
"""Frozen weights of fewer bytes have activations that are not worth the look.

Where weights are learnt, their gradients and the optimizer's moments are what takes memory.
"""

# Operations of two operands, each of which is kept for the gradient of the other: where the first
# stands among the inputs, and the names of both as they are kept.
_PRODUCTS = {
    "MulBackward0": (0, ("self", "other")),
    "MmBackward0": (0, ("self", "mat2")),
    "BmmBackward0": (0, ("self", "mat2")),
    "AddmmBackward0": (1, ("mat1", "mat2")),
}
_VIEWS = ("ViewBackward0", "UnsafeViewBackward0", "ReshapeAliasBackward0")


def _silu(node: Any) -> torch.Tensor:
    return F.silu(node._saved_self)


def _gelu(node: Any) -> torch.Tensor:
    return F.gelu(node._saved_self, approximate=node._saved_approximate)


# Element-wise operations of one operand, which they keep, and what computes them again.
_FUNCTIONS = {"SiluBackward0": _silu, "GeluBackward0": _gelu}


def worth_it(watch: Watch) -> list[nn.Module]:
    """The layers of a decoder that is frozen and large, on a CPU; of another none."""
    frozen = sum(t.nbytes for t in watch.tensors if t.device.type == "cpu" and not t.requires_grad)
    if frozen < LARGE_BYTES or torch.compiler.is_compiling():
        return []
    return [m for m in watch.modules if isinstance(m, GradientCheckpointingLayer)]


@contextmanager
def computed_again(layers: list[nn.Module]) -> Iterator[None]:
    """Has what the layers record in the block keep less for the backward pass.

    Args:
        layers: Modules, each of which has what it needs for its backward pass when it is done.
    """
    before = {layer: vars(layer).get("forward") for layer in layers}
    try:
        for layer in before:
            vars(layer)["forward"] = partial(_lightened, layer.forward)
        yield
    finally:
        for layer, forward in before.items():
            if forward is None:
                vars(layer).pop("forward", None)
            else:
                vars(layer)["forward"] = forward


def _lightened(forward: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    outputs = forward(*args, **kwargs)
    _lighten(_nodes(outputs), known=_nodes((args, kwargs)))
    return outputs


def _lighten(ends: list[Any], known: list[Any]) -> None:
    """Replaces what nodes of a graph keep, from its ends up to nodes that are known."""
    seen, stack = set(known), list(ends)
    found: dict[Any, _Again | None] = {}
    while stack:
        node = stack.pop()
        if node in seen:
            continue
        seen.add(node)
        inputs = [each for each, _ in node.next_functions]
        stack += [each for each in inputs if each is not None]
        for name, own, other in _operands(node, inputs):
            if own is None or other is None:  # a constant, or not kept
                continue
            while own.name() in _VIEWS:
                own = own.next_functions[0][0]
            again = _again(own, found)
            if again is not None:
                _replace(getattr(node, f"_raw_saved_{name}"), again)


def _operands(node: Any, inputs: list[Any]) -> list[tuple[str, Any, Any]]:
    """Name, own node and the other's node of each operand of a product."""
    first, names = _PRODUCTS.get(node.name(), (0, ()))
    if not names:
        return []
    one, two = inputs[first : first + 2]
    return [(names[0], one, two), (names[1], two, one)]


def _replace(saved: Any, again: _Again) -> None:
    try:
        saved.register_hooks(
            lambda tensor: tensor.shape, lambda shape: again.take().reshape(shape)
        )
    except RuntimeError:  # somebody else's hooks have it, such as those that offload
        return
    again.takers += 1


class _Again:
    """Computes a tensor from what is kept, and holds it until all who take it have.

    Args:
        compute: Makes the tensor.

    Attributes:
        takers: How many take it in a backward pass.
    """

    def __init__(self, compute: Callable[[], torch.Tensor]) -> None:
        self._compute = compute
        self._value: torch.Tensor | None = None
        self.takers = self._taken = 0

    def take(self) -> torch.Tensor:
        """The tensor."""
        value = self._value
        if value is None:
            with torch.no_grad():
                value = self._compute()
        self._taken = (self._taken + 1) % self.takers
        self._value = value if self._taken else None
        return value


def _again(node: Any, found: dict[Any, _Again | None]) -> _Again | None:
    """What computes anew what a node gave; `None` where not all that it takes is kept."""
    if node not in found:
        found[node] = _new(node, found)
    return found[node]


def _new(node: Any, found: dict[Any, _Again | None]) -> _Again | None:
    if node.name() in _FUNCTIONS:
        return _Again(partial(_FUNCTIONS[node.name()], node))
    if node.name() != "MulBackward0":
        return None
    factors: list[Callable[[], torch.Tensor]] = []
    taken: list[_Again] = []
    inputs = [each for each, _ in node.next_functions]
    for name, own, other in _operands(node, inputs):
        again = None if own is None else _again(own, found)
        if again is not None:
            taken.append(again)
            factors.append(again.take)
        elif other is not None:  # kept for its gradient
            factors.append(partial(getattr, node, f"_saved_{name}"))
        else:
            return None
    for again in taken:
        again.takers += 1
    return _Again(lambda: factors[0]() * factors[1]())


def _nodes(value: Any) -> list[Any]:
    """The nodes that made the tensors of nested tuples, lists and dicts."""
    if isinstance(value, torch.Tensor):
        return [] if value.grad_fn is None else [value.grad_fn]
    if isinstance(value, dict):
        value = list(value.values())
    return [n for each in value for n in _nodes(each)] if isinstance(value, (list, tuple)) else []
