"""Activations that the backward pass computes again, because that costs next to nothing.

Autograd keeps what each operation needs of its inputs, also where that follows from what is kept
anyway: `act(gate) * up` of an MLP is kept for the layer behind it and `act(gate)` for the product,
and both follow from `gate` and `up`; what a normalisation gives follows from what it was given. So
after each layer the graph that it recorded is looked at, and an operand that element-wise
operations made of tensors which are kept gives way to those operations; keys and values that were
copied for each head of a group are kept once. Operations are PyTorch's own, on the same numbers:
gradients are the same to the bit. No architecture is known by name here; of one in which nothing of
the kind is found all is kept as ever.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any

import torch
from torch import nn
from torch.nn import functional as F
from transformers.modeling_layers import GradientCheckpointingLayer

from llm_gym.policy.forwards import forward_by

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
# Attention, and what it keeps of keys and values, which queries in groups have in common.
_ATTENDED = {"ScaledDotProductFlashAttentionForCpuBackward0": ((1, "key"), (2, "value"))}
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
    with ExitStack() as stack:
        for layer in layers:
            stack.enter_context(forward_by(layer, partial(_lightened, layer.forward)))
        yield


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
            again = _again(_before_views(own), found)
            if again is not None:
                _replace(getattr(node, f"_raw_saved_{name}"), again)
        for place, name in _ATTENDED.get(node.name(), ()):
            if inputs[place] is not None:
                _narrow(node, name, inputs[place])


def _before_views(node: Any) -> Any:
    """What made the tensor that a node shows in another shape."""
    while node.name() in _VIEWS:
        node = node.next_functions[0][0]
    return node


def _operands(node: Any, inputs: list[Any]) -> list[tuple[str, Any, Any]]:
    """Name, own node and the other's node of each operand of a product."""
    first, names = _PRODUCTS.get(node.name(), (0, ()))
    if not names:
        return []
    one, two = inputs[first : first + 2]
    return [(names[0], one, two), (names[1], two, one)]


def _replace(saved: Any, again: _Again) -> None:
    if _hook(saved, lambda tensor: tensor.shape, lambda shape: again.take().reshape(shape)):
        again.takers += 1


def _hook(
    saved: Any, pack: Callable[[torch.Tensor], Any], unpack: Callable[[Any], torch.Tensor]
) -> bool:
    """Whether what is kept was free to be replaced."""
    try:
        saved.register_hooks(pack, unpack)
    except RuntimeError:  # somebody else's hooks have it, such as those that offload
        return False
    return True


def _narrow(node: Any, name: str, own: Any) -> None:
    """Keeps once what was copied for each of several heads."""
    own = _before_views(own)
    before = own.next_functions[0][0] if own.name() == "CloneBackward0" else None
    if before is None or before.name() != "ExpandBackward0":
        return
    tensor = getattr(node, f"_saved_{name}").detach()
    shape, sizes = tensor.shape, list(before._saved_self_sym_sizes)
    times = tensor.numel() // max(math.prod(sizes), 1)
    for place in [place for place, size in enumerate(sizes) if size == 1 and times > 1]:
        wide = tensor.reshape(*sizes[:place], times, *sizes[place + 1 :])
        once = wide.narrow(place, 0, 1)
        if torch.equal(wide, once.expand_as(wide)):
            _hook(
                getattr(node, f"_raw_saved_{name}"),
                partial(_once, once.clone()),
                partial(_each, wide.shape, shape),
            )
            return


def _once(kept: torch.Tensor, _: torch.Tensor) -> torch.Tensor:
    return kept


def _each(wide: torch.Size, shape: torch.Size, kept: torch.Tensor) -> torch.Tensor:
    return kept.expand(wide).reshape(shape)


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
