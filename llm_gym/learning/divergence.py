"""What to lower when training diverges, as far as an algorithm's settings and rewards tell."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from llm_gym.language_models.divergence import DivergenceError, check_figures

if TYPE_CHECKING:
    from stable_baselines3.common.on_policy_algorithm import OnPolicyAlgorithm

#: Beyond these a setting is named as the likely cause. Each is far from what anybody trains with.
_LIKELY = {
    "ent_coef": 10.0,
    "vf_coef": 1e3,
    "kl_coef": 1e3,
    "beta": 1e3,
    "max_grad_norm": 1e6,
    "scores": 1e9,
}
_LOWEST_TEMPERATURE = 1e-3


@contextmanager
def explained(algorithm: OnPolicyAlgorithm) -> Iterator[None]:
    """Has a `DivergenceError` say when it came, and what to lower."""
    try:
        yield
    except DivergenceError as error:
        if error.advice:
            raise
        updates = algorithm._n_updates
        when = f"after {updates:,} updates" if updates else "before the first update"
        when += f", at {algorithm.num_timesteps:,} tokens"
        raise DivergenceError(f"{error.what} {when}", advice_for(algorithm)) from None


def check_losses(figures: Mapping[str, Any]) -> None:
    """Refuses an update whose losses were not finite, of an algorithm that does not look itself.

    Clipping makes nothing of an infinite gradient: such an algorithm would go on and learn nothing.

    Args:
        figures: What was logged of the update.

    Raises:
        DivergenceError: A loss is not finite, by name.
    """
    losses = {name: value for name, value in figures.items() if name.endswith("loss")}
    check_figures(losses, "the figure")


def advice_for(algorithm: OnPolicyAlgorithm) -> str:
    """What to lower: whatever is far from usual, else the learning rate."""
    sizes = _sizes(algorithm)
    lower = [f"{name} ({sizes[name]:g})" for name in sizes if abs(sizes[name]) > _LIKELY[name]]
    rate = algorithm.policy.optimizer.param_groups[0]["lr"]
    temperature = getattr(algorithm.policy, "temperature", 1.0)
    if temperature < _LOWEST_TEMPERATURE:
        return f"raise temperature ({temperature:g})"
    if not lower and not algorithm._n_updates:
        return (
            "nothing has been learnt yet, so the model itself computes no numbers: choose another"
        )
    if rate > 0.1 or not lower:
        lower.append(f"learning_rate ({rate:g})")
    return f"lower {' and '.join(lower)}"


def _sizes(algorithm: Any) -> dict[str, float]:
    """The settings that a loss is multiplied by, and the largest return of late."""
    settings = {name: getattr(algorithm, name, None) for name in _LIKELY}
    sizes = {name: value for name, value in settings.items() if isinstance(value, (int, float))}
    shaping = getattr(algorithm, "shaping", None)
    if shaping is not None:
        sizes["kl_coef"] = shaping.controller.coef
    returns = [abs(info["r"]) for info in algorithm.ep_info_buffer or ()]
    return {**sizes, "scores": max(returns, default=0.0)}
