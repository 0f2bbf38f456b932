"""How fast bfloat16 is on this machine: measured, because it may be fifteen times slower.

A processor without instructions for bfloat16 converts every number there and back. That it has them
does not say that PyTorch's kernels use them, so a matrix product of the model's own shape is timed.
"""

from __future__ import annotations

import time
import warnings
from functools import lru_cache

import torch
from torch.nn import functional as F

_ROWS = 512  # tokens of a product, as a small minibatch has
_WIDEST = 512  # beyond it the ratio of the two changes little, and the time it takes much
_ROUNDS = 5
#: What "auto" wants of bfloat16, so that noise does not choose.
_WORTH_IT = 1.2


class SlowPrecisionWarning(UserWarning):
    """A precision that was asked for is slower than float32 on this machine."""


def settled_precision(asked: str, width: int, device: torch.device) -> str:
    """What `mixed_precision` is on a device: what was asked for, and never slower by "auto".

    Args:
        asked: One of `llm_gym.language_models.loading.PRECISIONS`.
        width: Features of the model's layers.
        device: Where it computes.

    Returns:
        `"no"` or `"bf16"`. A `SlowPrecisionWarning` says where the latter is the slower one.
    """
    if asked == "no":
        return asked
    speed = bfloat16_speed(width, device)
    if asked == "auto":
        return "bf16" if speed >= _WORTH_IT else "no"
    if speed < 1:
        warnings.warn(
            f"mixed_precision='bf16' is slower here: a matrix product of this model's width "
            f"({width}) has {speed:.2g} times the speed of float32 on {device.type}; pass 'no', or "
            "'auto', which measures and takes the faster",
            SlowPrecisionWarning,
            stacklevel=3,
        )
    return asked


@lru_cache
def bfloat16_speed(width: int, device: torch.device) -> float:
    """The speed of bfloat16 over that of float32, in a matrix product forwards and backwards.

    Timed once for each width and device: the quickest of a few, in turns, which other programs on
    the machine have disturbed least.

    Args:
        width: Features; the product widens them fourfold, as a feed-forward layer does.
        device: Where.

    Returns:
        Above 1 where bfloat16 is faster.
    """
    generator = torch.Generator().manual_seed(0)
    width = min(width, _WIDEST)
    hidden = torch.randn(_ROWS, width, generator=generator).to(device)
    weight = torch.randn(4 * width, width, generator=generator).to(device).requires_grad_()
    seconds: dict[bool, list[float]] = {False: [], True: []}
    for round_ in range(_ROUNDS + 1):
        for low, taken in seconds.items():
            elapsed = _timed(hidden, weight, low)
            if round_:  # the first one loads kernels
                taken.append(elapsed)
    return min(seconds[False]) / min(seconds[True])


def _timed(hidden: torch.Tensor, weight: torch.Tensor, low: bool) -> float:
    weight.grad = None
    _wait(hidden.device)
    start = time.perf_counter()
    with torch.enable_grad():
        with torch.autocast(hidden.device.type, dtype=torch.bfloat16, enabled=low):
            product = F.linear(hidden, weight)
        product.sum().backward()
    _wait(hidden.device)
    return time.perf_counter() - start


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
