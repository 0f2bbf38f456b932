"""Training that has left the numbers: the error which says so, and the checks that find it."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch


class DivergenceError(ValueError):
    """Training has diverged: a loss, a gradient, a weight or a probability is no number any more.

    What was saved before is as it was. The command line ends with this sentence and exit code 1.

    Args:
        what: What is not finite, and when it was found.
        advice: What to lower; empty where only a caller knows.
        kept: What is left to go on from.

    Attributes:
        run_state: What the directory of such a run says of it.
    """

    run_state = "diverged"

    def __init__(self, what: str, advice: str = "", kept: str = "") -> None:
        super().__init__(what, advice, kept)
        self.what, self.advice, self.kept = what, advice, kept

    def __str__(self) -> str:
        advice = self.advice or "lower the learning rate"
        return "; ".join(filter(None, (f"training diverged: {self.what}", advice, self.kept)))


def check_step(loss: float, norm: float) -> None:
    """Refuses a gradient step that would leave the numbers; to be called before it is taken.

    Args:
        loss: What is descended.
        norm: Of the gradient, before clipping.

    Raises:
        DivergenceError: One of them is not finite.
    """
    if not (math.isfinite(loss) and math.isfinite(norm)):
        raise DivergenceError(f"the loss is {loss:g} and the gradient's norm {norm:g}")


_MEASURED = "_llm_gym_gradients_are_finite"  # attribute of an optimizer before its step


def clip_gradients(
    optimizer: torch.optim.Optimizer, parameters: Iterable[torch.nn.Parameter], max_norm: float
) -> float:
    """Clips the gradients of the step that is taken next, as `clip_grad_norm_` does.

    A finite norm says all that `check_gradients` would look for before that step, so it does not
    measure them again.

    Args:
        optimizer: Of the step; whatever it moves is among the parameters.
        parameters: Their gradients are scaled in place.
        max_norm: Longer gradients get this norm.

    Returns:
        The norm before.
    """
    from torch.nn.utils import clip_grad_norm_

    norm = float(clip_grad_norm_(parameters, max_norm))
    setattr(optimizer, _MEASURED, math.isfinite(norm))
    return norm


def check_gradients(optimizer: torch.optim.Optimizer, *_: Any) -> None:
    """Refuses a step of an optimizer whose gradients are not finite: a hook to run before it.

    Raises:
        DivergenceError: A gradient is not finite.
    """
    if vars(optimizer).pop(_MEASURED, False):
        return
    gradients = [
        parameter.grad
        for group in optimizer.param_groups
        for parameter in group["params"]
        if parameter.grad is not None
    ]
    if not all_finite(gradients):
        raise DivergenceError("the gradient is NaN or infinite")


def all_finite(tensors: Sequence[torch.Tensor]) -> bool:
    """Whether there is no NaN and no infinity, in one pass over real tensors of any kind."""
    from torch.nn.utils import get_total_norm

    if bool(get_total_norm(tensors).isfinite()):
        return True
    return all(bool(tensor.isfinite().all()) for tensor in tensors)  # squares may overflow


def check_tensors(tensors: Mapping[str, torch.Tensor], what: str, advice: str = "") -> None:
    """Refuses tensors that hold a NaN or an infinity.

    Args:
        tensors: By name; those of whole numbers pass.
        what: What one of them is, for the message.
        advice: What to do about it; empty where only a caller knows.

    Raises:
        DivergenceError: One is not finite, by name.
    """
    real = {name: t.detach() for name, t in tensors.items() if t.is_floating_point() and t.numel()}
    if not all_finite(list(real.values())):
        name = next(name for name, tensor in real.items() if not tensor.isfinite().all())
        raise DivergenceError(f"{what} {name!r} is not finite", advice)


def check_figures(figures: Mapping[str, Any], what: str) -> None:
    """Refuses figures that are not finite, which JSON cannot hold.

    Args:
        figures: JSON-able, nested at will.
        what: What they are, for the message.

    Raises:
        DivergenceError: One is not finite, by its path.
    """
    for path, value in _numbers("", figures):
        if not math.isfinite(value):
            raise DivergenceError(f"{what} {path!r} is {value}")


def _numbers(path: str, value: Any) -> Iterator[tuple[str, float]]:
    if isinstance(value, float):
        yield path, value
    elif isinstance(value, Mapping):
        for key, item in value.items():
            yield from _numbers(f"{path}.{key}" if path else str(key), item)
    elif isinstance(value, (list, tuple)):
        for index, item in enumerate(value):
            yield from _numbers(f"{path}[{index}]", item)
