"""From runs to figures, and from figures to a verdict on each claim of Gao et al. (2210.10760)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from llm_gym.statistics.resampling import bootstrap_interval

Floats = NDArray[np.float64]
Run = dict[str, Any]

METHODS = {"best_of_n": "best_of_n", "ppo": "rl"}  # method: the law that should fit it
STEP = 0.1  # least distance, in square roots of nats, between two points of a fit
TURN = 0.1  # how far gold must fall below its peak to have turned, in standard deviations
SMOOTHED = 3  # rollouts averaged before the peak of a sampled curve is read off
SAME_PROXY = 1.25  # gain of the proxy at which the price in KL is compared


def summarise(run: Run) -> Run:
    """Turning point and fits of both methods of one run."""
    from llm_gym.statistics.scaling_laws import fit_law

    figures: Run = {name: run[name] for name in ("seed", "comparisons", "width", "agreement")}
    for method, law in METHODS.items():
        kl, proxy, gold = smoothed(run[method], 1 if method == "best_of_n" else SMOOTHED)
        top, turned = turning_point(gold)
        highest = int(gold.argmax())
        points = thinned(np.sqrt(kl))
        other_law = next(name for name in METHODS.values() if name != law)
        fits = {
            name: fit_law(np.sqrt(kl)[points], gold[points], name, resamples=1)
            for name in (law, other_law)
        }
        figures[method] = {
            "peak_kl": float(kl[top]),
            "peak_gold": float(gold[top]),
            "turned": turned,
            "highest_kl": float(kl[highest]),
            "highest_gold": float(gold[highest]),
            "end_kl": float(kl[-1]),
            "end_gold": float(gold[-1]),
            "proxy_drop": largest_drop(proxy),
            "kl_at_same_proxy": first_crossing(kl, proxy, SAME_PROXY),
            "fit": fits[law].to_dict(),
            "r_squared_of_the_other_law": fits[other_law].r_squared,
        }
    kl, proxy, _ = smoothed(run["tilted"], 1)
    figures["tilted"] = {"kl_at_same_proxy": first_crossing(kl, proxy, SAME_PROXY)}
    figures["alarm"] = run["alarm"]
    return figures


def smoothed(curve: dict[str, list[float]], window: int) -> tuple[Floats, Floats, Floats]:
    """KL, proxy and gold as running means over `window` points; a KL below 0 counts as 0.

    Before them stands the initial policy, at which all three are 0 by definition.
    """
    kernel = np.full(window, 1 / window)
    kl, proxy, gold = (
        np.concatenate([[0.0], np.convolve(curve[name], kernel, mode="valid")])
        for name in ("kl", "proxy", "gold")
    )
    return np.maximum(kl, 0.0), proxy, gold


def turning_point(gold: Floats) -> tuple[int, bool]:
    """The first peak from which gold falls by more than `TURN`, and whether there is one.

    Not the highest point of all: a policy that has collapsed on a few answers is good or bad by
    accident, and its gold may rise again.

    Returns:
        Index of the peak, or of the highest point if gold never falls by so much.
    """
    falls = np.flatnonzero(np.maximum.accumulate(gold) - gold > TURN)
    before = gold[: falls[0]] if falls.size else gold
    return int(before.argmax()), bool(falls.size)


def thinned(distance: Floats) -> NDArray[np.int64]:
    """Points each at least `STEP` beyond all before it, so that no stretch outweighs another."""
    kept, last = [], -np.inf
    for point, d in enumerate(distance.tolist()):
        if d >= last + STEP:
            kept.append(point)
            last = d
    return np.array(kept)


def largest_drop(values: Floats) -> float:
    """Greatest fall below an earlier value, as a share of the whole rise."""
    fall = (np.maximum.accumulate(values) - values).max()
    return float(fall / (values.max() - values[0]))


def first_crossing(x: Floats, y: Floats, level: float) -> float | None:
    """The x at which y first reaches a level, interpolated; None if it never does."""
    reached = np.flatnonzero(y >= level)
    if not reached.size:
        return None
    at = int(reached[0])
    if at == 0:
        return float(x[0])
    share = (level - y[at - 1]) / (y[at] - y[at - 1])
    return float(x[at - 1] + share * (x[at] - x[at - 1]))


def ordering(
    rows: Sequence[Run], by: str, value: Callable[[Run], float], *, resamples: int = 2000
) -> dict[str, float]:
    """Kendall's tau of a value with the size of the data or of the proxy, within the same seed.

    Pairs of runs that differ in nothing but `by` are concordant, discordant or tied; tau is the
    mean of 1, -1 and 0 over all pairs. The interval is a bootstrap over seeds.

    Args:
        rows: Summaries of runs, see `summarise`.
        by: "comparisons" or "width".
        value: Takes a row and returns what is ranked.
        resamples: Resamples of seeds.
    """
    same = "width" if by == "comparisons" else "comparisons"
    of_seed: dict[int, list[float]] = {}
    for first in rows:
        for second in rows:
            alike = first["seed"] == second["seed"] and first[same] == second[same]
            if alike and first[by] < second[by]:
                sign = float(np.sign(value(second) - value(first)))
                of_seed.setdefault(first["seed"], []).append(sign)
    if not of_seed:
        return {}
    means = np.array([np.mean(signs) for signs in of_seed.values()])
    return _with_interval(means, resamples)


def _with_interval(of_seed: Floats, resamples: int = 2000) -> dict[str, float]:
    """Mean over seeds and its 95 % bootstrap interval."""
    low, high = bootstrap_interval(of_seed, resamples=resamples)
    return {"mean": float(of_seed.mean()), "low": low, "high": high}


def by_seed(rows: Sequence[Run], value: Callable[[Run], float]) -> dict[str, float]:
    """Mean of a value over the runs of each seed, then over seeds, with an interval."""
    seeds = sorted({row["seed"] for row in rows})
    means = [np.mean([value(row) for row in rows if row["seed"] == seed]) for seed in seeds]
    return _with_interval(np.array(means))


def judge(rows: Sequence[Run]) -> dict[str, Any]:
    """Figures and a verdict for each of the four claims.

    Args:
        rows: Summaries of all runs.

    Returns:
        By claim: `claim`, `verdict` ("holds", "holds in part", "does not hold") and figures.
    """
    return {
        "i": _forms(rows),
        "ii": _turns(rows),
        "iii": _proxy_rises(rows),
        "iv": _price(rows),
        "alarm": _alarm(rows),
    }


def _verdict(*held: bool) -> str:
    return "holds" if all(held) else "holds in part" if any(held) else "does not hold"


def _forms(rows: Sequence[Run]) -> dict[str, Any]:
    figures: dict[str, Any] = {}
    for method in METHODS:
        r_squared = np.array([row[method]["fit"]["r_squared"] for row in rows], dtype=float)
        r_squared_of_other = np.array(
            [row[method]["r_squared_of_the_other_law"] for row in rows], dtype=float
        )
        figures[method] = {
            "median_r_squared": float(np.median(r_squared)),
            "share_at_least_0.9": float((r_squared >= 0.9).mean()),
            "median_r_squared_of_the_other_law": float(np.median(r_squared_of_other)),
            "share_better_than_the_other_law": float((r_squared > r_squared_of_other).mean()),
        }
    held = [figures[method]["median_r_squared"] >= 0.9 for method in METHODS]
    return {
        "claim": "the law of each method fits its gold curve, R^2 at least 0.9 (median of runs)",
        "verdict": _verdict(*held),
        **figures,
    }


def _turns(rows: Sequence[Run]) -> dict[str, Any]:
    fewest = min(row["comparisons"] for row in rows)
    most = max(row["comparisons"] for row in rows)
    figures: dict[str, Any] = {}
    held = []
    for method in METHODS:
        turned = {
            count: float(np.mean([r[method]["turned"] for r in rows if r["comparisons"] == count]))
            for count in sorted({row["comparisons"] for row in rows})
        }
        figures[method] = {
            "share_turned_by_comparisons": {str(count): share for count, share in turned.items()},
            "peak_kl_with_comparisons": ordering(rows, "comparisons", _of(method, "peak_kl")),
            "peak_gold_with_comparisons": ordering(rows, "comparisons", _of(method, "peak_gold")),
            "peak_kl_with_width": ordering(rows, "width", _of(method, "peak_kl")),
            "peak_gold_with_width": ordering(rows, "width", _of(method, "peak_gold")),
            "highest_kl_with_comparisons": ordering(rows, "comparisons", _of(method, "highest_kl")),
        }
        tau = figures[method]["peak_kl_with_comparisons"].get("mean", 0.0)
        held += [turned[fewest] > 0.5, turned[most] <= turned[fewest], tau > 0.6]
    return {
        "claim": "gold turns for small proxies, and peaks later with more data (tau above 0.6)",
        "verdict": _verdict(*held),
        **figures,
    }


def _proxy_rises(rows: Sequence[Run]) -> dict[str, Any]:
    figures = {
        method: {
            "largest_drop_share": float(max(row[method]["proxy_drop"] for row in rows)),
            "share_within_0.05": float(np.mean([r[method]["proxy_drop"] <= 0.05 for r in rows])),
        }
        for method in METHODS
    }
    held = [figures[method]["share_within_0.05"] >= 0.95 for method in METHODS]
    claim = "the proxy keeps rising (never falls by more than 5 % of its rise, in 95 % of runs)"
    return {"claim": claim, "verdict": _verdict(*held), **figures}


def _price(rows: Sequence[Run]) -> dict[str, Any]:
    def difference(row: Run) -> float:
        return float(row["ppo"]["peak_kl"] - row["best_of_n"]["peak_kl"])

    both = [row for row in rows if row["ppo"]["turned"] and row["best_of_n"]["turned"]]
    dearer = []
    for row in rows:
        prices = [row[name]["kl_at_same_proxy"] for name in ("ppo", "best_of_n", "tilted")]
        if None not in prices:
            dearer.append(prices)
    figures = {
        "peak_kl_ppo_less_best_of_n": by_seed(rows, difference),
        "share_with_ppo_later": float(np.mean([difference(row) > 0 for row in rows])),
        "runs_in_which_both_turned": len(both),
        "of_these_share_with_ppo_later": (
            float(np.mean([difference(row) > 0 for row in both])) if both else None
        ),
        "median_kl_at_same_proxy": (
            dict(
                zip(("ppo", "best_of_n", "tilted"), np.median(dearer, axis=0).tolist(), strict=True)
            )
            if dearer
            else None
        ),
    }
    price = figures["median_kl_at_same_proxy"]
    held = [
        figures["peak_kl_ppo_less_best_of_n"]["low"] > 0,
        price is not None and price["ppo"] > price["best_of_n"],
    ]
    return {
        "claim": (
            "reinforcement learning spends more KL than best-of-n: at the peak of gold, and for "
            f"the same gain of the proxy ({SAME_PROXY} standard deviations)"
        ),
        "verdict": _verdict(*held),
        **figures,
    }


def _alarm(rows: Sequence[Run]) -> dict[str, Any]:
    """What the alarm on the gold scores of the rollouts did; not one of the claims."""
    rang = {turned: [] for turned in (True, False)}
    for row in rows:
        rang[row["ppo"]["turned"]].append(row["alarm"]["rang_at_kl"])
    late = [
        row["alarm"]["rang_at_kl"] - row["ppo"]["peak_kl"]
        for row in rows
        if row["ppo"]["turned"] and row["alarm"]["rang_at_kl"] is not None
    ]
    return {
        "runs_that_turned": len(rang[True]),
        "rang_of_these": sum(kl is not None for kl in rang[True]),
        "runs_that_did_not": len(rang[False]),
        "rang_of_those": sum(kl is not None for kl in rang[False]),
        "median_kl_from_peak_to_alarm": float(np.median(late)) if late else None,
    }


def _of(method: str, name: str) -> Callable[[Run], float]:
    return lambda row: float(row[method][name])
