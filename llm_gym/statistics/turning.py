"""Whether the gold score has turned, as a question of evidence.

Gold is looked at again and again while the proxy is trained on, and each look is compared with the
best one so far. Two things make chance look like a turn: the best of many noisy looks is too good
to be repeated, and every further look is another opportunity. The test below answers both.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from llm_gym.statistics.resampling import resample, weights_of

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]

MINIMUM_UNITS = 8
_ROWS_AT_A_TIME = 10_000
_MOST_RESAMPLES = 200_000


@dataclass(frozen=True)
class Look:
    """Both scores at one moment.

    Attributes:
        step: Tokens trained on so far.
        gold: Gold scores, one a unit (a held-out prompt, or an episode).
        proxy: Proxy scores of the same units.
        kl: Nats per sequence to the reference; None if unknown.

    Raises:
        ValueError: Fewer than 8 units, a score that is not finite, or a gold without a proxy.
    """

    step: int
    gold: tuple[float, ...]
    proxy: tuple[float, ...]
    kl: float | None = None

    def __post_init__(self) -> None:
        if len(self.gold) != len(self.proxy):
            raise ValueError(
                f"the look at step {self.step} has {len(self.gold)} gold and {len(self.proxy)} "
                "proxy scores; both must be of the same answers"
            )
        if len(self.gold) < MINIMUM_UNITS:
            raise ValueError(
                f"the look at step {self.step} has {len(self.gold)} gold scores; fewer than "
                f"{MINIMUM_UNITS} are no evidence of anything (64 or more are advisable)"
            )
        if not np.isfinite([self.gold, self.proxy]).all():
            raise ValueError(f"the look at step {self.step} contains NaN or infinity")

    @property
    def gold_mean(self) -> float:
        """Mean gold score."""
        return float(np.mean(self.gold))

    @property
    def proxy_mean(self) -> float:
        """Mean proxy score."""
        return float(np.mean(self.proxy))


@dataclass(frozen=True)
class TurnEvidence:
    """What the newest look says, compared with those before it.

    Attributes:
        look: Number of the newest look, from 0.
        best: Number of the look with the highest mean gold score, the newest included; of equals
            the first.
        fall: Mean gold score of the best earlier look less that of the newest.
        proxy_rise: Mean proxy score of the newest look less that of the best earlier one.
        p_value: Probability of such a fall, somewhere, had gold not turned.
        level: What the p-value of this look must not exceed.
        turned: Whether gold has turned while the proxy rose.
    """

    look: int
    best: int
    fall: float
    proxy_rise: float
    p_value: float
    level: float
    turned: bool


def level_of_look(number: int, level: float, planned_looks: int) -> float:
    """What of the level look `number` (1 is the first with one before it) may spend.

    Half of the level is shared by the planned looks alike; the other half is for all that may
    follow, in shares 1/2, 1/6, 1/12, ... that never use it up. So the probability of any false
    alarm, in a run of any length, is at most the level.
    """
    if number <= planned_looks:
        return level / 2 / planned_looks
    extra = number - planned_looks
    return level / 2 / (extra * (extra + 1))


def turn_evidence(
    looks: Sequence[Look],
    *,
    level: float = 0.05,
    planned_looks: int = 20,
    paired: bool = True,
    seed: int = 0,
) -> TurnEvidence:
    """Tests whether mean gold is now below what it was at some earlier look.

    The null hypothesis is that it is not, for any of them. The statistic is the greatest of the
    t-statistics of the falls since each earlier look; its distribution under the null comes from
    resampling units with the same weights for all looks (a one-sided bootstrap-t of the maximum, as
    in the reality check of White, 2000). So it does not matter that the best look was chosen after
    the fact. The level of one look follows from the number of looks, see `level_of_look`.

    Args:
        looks: All so far, oldest first; at least two.
        level: Probability of a false alarm in the whole run.
        planned_looks: How many comparisons are planned.
        paired: Whether unit i is the same prompt in every look.
        seed: Seed of the resampling.

    Returns:
        The evidence at the newest look.

    Raises:
        ValueError: There are fewer than two looks, paired looks differ in their number of units, or
            an argument is out of range.
    """
    if not 0 < level < 1:
        raise ValueError(f"level={level} must be a probability between 0 and 1")
    if planned_looks < 1:
        raise ValueError(f"planned_looks={planned_looks} must be at least 1")
    if len(looks) < 2:
        raise ValueError(f"{len(looks)} look cannot show a turn; give two or more")
    if paired and len({len(look.gold) for look in looks}) > 1:
        raise ValueError(
            "paired looks must be of the same prompts, but they have "
            f"{sorted({len(look.gold) for look in looks})} scores; pass paired=False"
        )
    number = len(looks) - 1
    allowed = level_of_look(number, level, planned_looks)
    # Enough resamples for a p-value of a tenth of what is allowed.
    resamples = int(min(max(2000, np.ceil(10 / allowed)), _MOST_RESAMPLES))
    golds = [np.array(look.gold) for look in looks]
    rng = np.random.default_rng(seed)
    if paired:
        p_value = _paired_p_value(np.stack(golds), resamples, rng)
    else:
        p_value = _unpaired_p_value(golds, resamples, rng)
    means = [look.gold_mean for look in looks]
    peak = int(np.argmax(means[:-1]))
    fall = means[peak] - means[-1]
    rise = looks[-1].proxy_mean - looks[peak].proxy_mean
    return TurnEvidence(
        look=number,
        best=int(np.argmax(means)),
        fall=fall,
        proxy_rise=rise,
        p_value=p_value,
        level=allowed,
        turned=bool(p_value <= allowed and fall > 0 and rise > 0),
    )


def _paired_p_value(golds: Floats, resamples: int, rng: np.random.Generator) -> float:
    """From gold scores `(looks, units)`, unit i of every look being the same prompt."""
    falls = golds[:-1] - golds[-1]  # (looks - 1, units)
    units = falls.shape[1]
    squares = falls**2
    mean = falls.mean(1)
    observed = _t(mean, (squares.mean(1) - mean**2) / (units - 1)).max()
    exceeded = 0
    for weights in _weights(units, resamples, rng):
        drawn = weights @ falls.T  # (rows, looks - 1)
        statistic = _t(drawn - mean, (weights @ squares.T - drawn**2) / (units - 1))
        exceeded += int((statistic.max(1) >= observed).sum())
    return (1 + exceeded) / (1 + resamples)


def _unpaired_p_value(golds: Sequence[Floats], resamples: int, rng: np.random.Generator) -> float:
    """From the gold scores of each look, whose units have nothing to do with each other."""
    mean = np.array([gold.mean() for gold in golds])
    error = np.array([gold.var() / (len(gold) - 1) for gold in golds])
    observed = _t(mean[:-1] - mean[-1], error[:-1] + error[-1]).max()
    exceeded = 0
    batches = zip(*(_weights(len(gold), resamples, rng) for gold in golds), strict=True)
    for weights in batches:
        drawn = np.stack([w @ gold for w, gold in zip(weights, golds, strict=True)], axis=1)
        squares = np.stack([w @ gold**2 for w, gold in zip(weights, golds, strict=True)], axis=1)
        errors = (squares - drawn**2) / (np.array([len(gold) for gold in golds]) - 1)
        centred = drawn - mean
        statistic = _t(centred[:, :-1] - centred[:, -1:], errors[:, :-1] + errors[:, -1:])
        exceeded += int((statistic.max(1) >= observed).sum())
    return (1 + exceeded) / (1 + resamples)


def _t(mean: Floats, squared_error: Floats) -> Floats:
    """Mean over its standard error; without any spread plus or minus infinity, or 0."""
    error = np.sqrt(np.maximum(squared_error, 0.0))
    # Cancellation leaves some 1e-16 of the squares where there is no spread at all.
    nothing = error <= 1e-7 * np.maximum(np.abs(mean), 1e-12)
    at_limit = np.where(np.abs(mean) > 1e-12, np.copysign(np.inf, mean), 0.0)
    return np.where(nothing, at_limit, mean / np.where(nothing, 1.0, error))


def _weights(units: int, resamples: int, rng: np.random.Generator) -> Iterator[Floats]:
    """Shares `(rows, units)` in which resamples use the units, in batches of bounded size."""
    for places in resample(units, resamples, rng, rows=_ROWS_AT_A_TIME):
        yield weights_of(places) / units
