"""In the last layer nobody asks for the states of prompts: only where an action was chosen.

Other tokens need keys and values there, and nothing else. The part behind attention, which has two
thirds of a layer's weights, is computed for the tokens alone whose states are asked for.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, nullcontext
from functools import partial
from typing import TYPE_CHECKING, Any

import torch
from torch import nn
from transformers.modeling_layers import GradientCheckpointingLayer

from llm_gym.policy.forwards import forward_by
from llm_gym.policy.sampling import tolerance

if TYPE_CHECKING:
    from llm_gym.policy.trunk import Trunk

WORTH_IT = 0.01
"""Least share of all layers' tokens that has to be left out: it takes a copy of the others."""


class LastLayer:
    """Leaves out of a decoder's last layer what nobody asks for, where that is right.

    Of the layer's parts that are handed one tensor and give one, token by token, the largest
    qualifies. The model is asked when there is first something to leave out: a small batch is read
    in both ways.
    """

    def __init__(self) -> None:
        self._parts: dict[nn.Module, nn.Module | None] = {}

    @contextmanager
    def only_at(self, asked: torch.Tensor, n_tokens: int, trunk: Trunk) -> Iterator[None]:
        """Has passes in the block compute that part for some tokens alone.

        Args:
            asked: int64 `(K,)`, tokens of the pass whose states are asked for, counted row by row.
            n_tokens: Of the pass, padding included.
            trunk: What reads them.
        """
        asked = asked.unique()  # one that is asked for twice has one gradient, the sum
        layers = [m for m in trunk.modules if isinstance(m, GradientCheckpointingLayer)]
        left_out = n_tokens - len(asked)
        if not layers or left_out < WORTH_IT * n_tokens * len(layers):
            yield
            return
        layer = layers[-1]
        if layer not in self._parts:
            self._parts[layer] = _part_of(layer, trunk)
        part = self._parts[layer]
        with nullcontext() if part is None else forward_by(part, partial(_at, part.forward, asked)):
            yield


@torch.no_grad()
def _part_of(layer: nn.Module, trunk: Trunk) -> nn.Module | None:
    """The part of a layer that may be left out, if there is one."""
    device = next(layer.parameters()).device
    ids = torch.arange(12, device=device).reshape(3, 4) % trunk.config.vocab_size
    asked = torch.tensor([1, 2, 4, 11], device=device)
    calls: dict[nn.Module, list[bool]] = {part: [] for part in layer.children()}
    try:
        with torch.autocast(device.type, enabled=False), ExitStack() as stack:
            for part, seen in calls.items():
                stack.enter_context(forward_by(part, partial(_noted, part.forward, seen)))
            plain = trunk.full(ids).flatten(0, 1)[asked]
        parts = [part for part in calls if calls[part] == [True] and _n_weights(part)]
        if not parts:
            return None
        part = max(parts, key=_n_weights)
        at = partial(_at, part.forward, asked)
        with torch.autocast(device.type, enabled=False), forward_by(part, at):
            some = trunk.full(ids).flatten(0, 1)[asked]
    except Exception:  # whatever an architecture raises that wants other rows, or shorter ones
        return None
    alike = float((some - plain).abs().max()) <= tolerance(plain, plain.dtype)
    return part if alike else None


def _n_weights(part: nn.Module) -> int:
    return sum(weights.numel() for weights in part.parameters())


def _noted(forward: Callable[..., Any], seen: list[bool], *args: Any, **kwargs: Any) -> Any:
    """Notes whether one tensor is given and one comes back, of as many tokens."""
    given = forward(*args, **kwargs)
    alone = len(args) == 1 and not kwargs and isinstance(given, torch.Tensor)
    seen.append(alone and given.shape[:-1] == args[0].shape[:-1])
    return given


def _at(
    forward: Callable[[torch.Tensor], torch.Tensor], asked: torch.Tensor, hidden: torch.Tensor
) -> torch.Tensor:
    """What a part gives for some tokens; zeros for the others."""
    tokens = hidden.reshape(-1, hidden.shape[-1])
    some = forward(tokens[asked][None])[0]  # (K, H)
    given = some.new_zeros(len(tokens), some.shape[-1]).index_copy(0, asked, some)
    return given.view(*hidden.shape[:-1], -1)
