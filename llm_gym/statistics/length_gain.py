"""How much of a gain in reward is not a gain in length.

Singhal et al., "A long way to go: investigating length correlations in RLHF" (2310.03716, section
3.1), put the answers of the model before and after training into buckets of 20 tokens, take the
gain within each bucket and average it by the number of answers there: the *non-length reward gain*,
NRG. NRG over the whole gain is the share that does not come from answers having moved to another
length.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

    Floats = NDArray[np.float64]

__all__ = ["LengthBucket", "LengthGain", "length_gain"]

Interval = tuple[float, float]


@dataclass(frozen=True)
class LengthBucket:
    """Answers of similar length.

    Attributes:
        start: Shortest length that belongs to it, in tokens.
        stop: One past the longest.
        before: Answers before training.
        after: Answers after it.
        gain: Mean reward after less mean reward before; None where one of them has no answers.
    """

    start: int
    stop: int
    before: int
    after: int
    gain: float | None


@dataclass(frozen=True)
class LengthGain:
    """What of a gain is length, and what is not.

    Attributes:
        gain: Mean reward after less before.
        gain_interval: Its interval.
        non_length_gain: NRG; None if no bucket has answers of both.
        non_length_interval: Its interval; None with it.
        share: NRG over the gain, which may be negative or above 1; None where the gain's interval
            contains 0, because a ratio to nothing means nothing.
        share_interval: Its interval; None with it.
        covered: Share of the answers in buckets that have answers of both, the only ones NRG is
            about. Far below 1 the lengths have moved so far that there is little left to compare.
        mean_length_before: tokens.
        mean_length_after: tokens.
        buckets: Ascending by length.
    """

    gain: float
    gain_interval: Interval
    non_length_gain: float | None
    non_length_interval: Interval | None
    share: float | None
    share_interval: Interval | None
    covered: float
    mean_length_before: float
    mean_length_after: float
    buckets: tuple[LengthBucket, ...]

    def to_dict(self) -> dict[str, Any]:
        """JSON-able form."""
        return asdict(self)


def length_gain(
    rewards_before: ArrayLike,
    lengths_before: ArrayLike,
    rewards_after: ArrayLike,
    lengths_after: ArrayLike,
    *,
    bucket: int = 20,
    level: float = 0.95,
    resamples: int = 2000,
    seed: int = 0,
) -> LengthGain:
    """Splits a gain in reward into what lengths explain and what they do not.

    A bucket counts with the number of answers in it, those before and after training together.

    Args:
        rewards_before: `(P,)`, one answer to each of P prompts.
        lengths_before: `(P,)`, its tokens, >= 0.
        rewards_after: `(P,)`, answers to the same prompts in the same order.
        lengths_after: `(P,)`.
        bucket: Tokens of a bucket; the paper has 20.
        level: Probability that an interval shall cover.
        resamples: Bootstrap resamples of prompts.
        seed: Seed of the resampling.

    Returns:
        Both gains, their ratio, and intervals over prompts.

    Raises:
        ValueError: Lengths of the arrays differ, a value is not finite, a length is negative, or
            `bucket` is less than 1.
    """
    if bucket < 1:
        raise ValueError(f"bucket={bucket} must be at least 1 token")
    given = {
        "rewards_before": rewards_before,
        "lengths_before": lengths_before,
        "rewards_after": rewards_after,
        "lengths_after": lengths_after,
    }
    arrays = {name: np.asarray(array, dtype=np.float64) for name, array in given.items()}
    _check(arrays)
    rewards = np.stack([arrays["rewards_before"], arrays["rewards_after"]])  # (2, P)
    lengths = np.stack([arrays["lengths_before"], arrays["lengths_after"]])
    numbers, index = np.unique(lengths // bucket, return_inverse=True)
    index = index.reshape(lengths.shape)
    members = np.eye(len(numbers))[index]  # (2, P, G), one-hot
    counts, totals = members.sum(1), (members * rewards[..., None]).sum(1)  # (2, G)
    nrg, covered = _non_length(counts, totals)

    rng = np.random.default_rng(seed)
    prompts = rewards.shape[1]
    drawn = rng.multinomial(prompts, np.full(prompts, 1 / prompts), size=resamples)  # (R, P)
    resampled_counts = np.stack([drawn @ side for side in members], axis=1)  # (R, 2, G)
    resampled_totals = np.stack(
        [drawn @ (side * reward[:, None]) for side, reward in zip(members, rewards, strict=True)],
        axis=1,
    )
    gains = drawn @ (rewards[1] - rewards[0]) / prompts
    nrgs, _ = _non_length(resampled_counts, resampled_totals)
    gain_interval = _interval(gains, level)
    no_gain = gain_interval[0] <= 0 <= gain_interval[1]
    gain = float((rewards[1] - rewards[0]).mean())
    found = bool(np.isfinite(nrg))
    return LengthGain(
        gain=gain,
        gain_interval=gain_interval,
        non_length_gain=float(nrg) if found else None,
        non_length_interval=_interval(nrgs, level) if found else None,
        share=float(nrg) / gain if found and not no_gain else None,
        share_interval=_interval(nrgs / gains, level) if found and not no_gain else None,
        covered=float(covered),
        mean_length_before=float(lengths[0].mean()),
        mean_length_after=float(lengths[1].mean()),
        buckets=_buckets(numbers, bucket, counts, totals),
    )


def _non_length(counts: Floats, totals: Floats) -> tuple[Floats, Floats]:
    """NRG (NaN if nothing is shared) and covered share, from arrays `(..., 2, G)`."""
    shared = (counts > 0).all(-2)  # (..., G)
    gains = np.diff(totals / np.maximum(counts, 1), axis=-2)[..., 0, :]
    weights = np.where(shared, counts.sum(-2), 0.0)
    total = weights.sum(-1)
    with np.errstate(invalid="ignore", divide="ignore"):
        return (weights * gains).sum(-1) / total, total / counts.sum((-2, -1))


def _interval(values: Floats, level: float) -> Interval:
    # Resamples without a shared bucket have no NRG.
    low, high = np.nanquantile(values, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def _buckets(
    numbers: Floats, bucket: int, counts: Floats, totals: Floats
) -> tuple[LengthBucket, ...]:
    return tuple(
        LengthBucket(
            start=int(number) * bucket,
            stop=(int(number) + 1) * bucket,
            before=int(before),
            after=int(after),
            gain=float(total_after / after - total_before / before) if before and after else None,
        )
        for number, before, after, total_before, total_after in zip(
            numbers, *counts, *totals, strict=True
        )
    )


def _check(arrays: dict[str, Floats]) -> None:
    shapes = {name: array.shape for name, array in arrays.items()}
    first = arrays["rewards_before"]
    if first.ndim != 1 or not first.size or len(set(shapes.values())) > 1:
        raise ValueError(
            f"rewards and lengths must be one number a prompt, before and after alike, got {shapes}"
        )
    for name, array in arrays.items():
        if not np.isfinite(array).all():
            raise ValueError(f"{name} contains NaN or infinity")
        if name.startswith("lengths") and (array < 0).any():
            raise ValueError(f"{name} contains a negative length")
