"""Pictures of proxy and gold against the square root of the divergence, with fitted laws."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from llm_gym.files import Figure, Report, Series, atomic, line_chart, write_report
from llm_gym.statistics.scaling_laws import Law, LawFit, fit_law

_DISTANCE = "distance from the initial policy, √KL in √nats"
_POINTS_OF_A_LINE = 60


@dataclass(frozen=True)
class GoldProxyCurve:
    """One optimisation: how both scores change with the distance from the initial policy.

    Attributes:
        name: Shown in titles.
        distance: D = sqrt(KL) of each point, in the order in which they were reached.
        proxy: Gain of the proxy over the first point.
        gold: Gain of the gold score over the first point.

    Raises:
        ValueError: The three differ in length or are empty.
    """

    name: str
    distance: tuple[float, ...]
    proxy: tuple[float, ...]
    gold: tuple[float, ...]

    def __post_init__(self) -> None:
        if not len(self.distance) == len(self.proxy) == len(self.gold):
            raise ValueError(
                f"curve {self.name!r}: distance, proxy and gold have {len(self.distance)}, "
                f"{len(self.proxy)} and {len(self.gold)} points; they must be of one length"
            )
        if not self.distance:
            raise ValueError(f"curve {self.name!r} has no points")

    @classmethod
    def of_rows(cls, rows: Sequence[Mapping[str, float]], *, name: str) -> GoldProxyCurve:
        """A curve from recorded rows with the keys `kl`, `proxy` and `gold`.

        Args:
            rows: As `GoldProxyCallback` records them. Those that lack a key are left out; an
                estimated divergence below 0 counts as 0.
            name: Name of the curve.

        Raises:
            ValueError: No row has all three.
        """
        whole = [row for row in rows if {"kl", "proxy", "gold"} <= row.keys()]
        if not whole:
            missing = [key for key in ("kl", "proxy", "gold") if not any(key in r for r in rows)]
            raise ValueError(
                f"no recorded row has a divergence and both scores (never there: {missing}); the "
                "divergence needs an algorithm with a reference, the scores a GoldProxy scorer "
                "and finished episodes"
            )
        return cls(
            name=name,
            distance=tuple(math.sqrt(max(row["kl"], 0.0)) for row in whole),
            proxy=tuple(row["proxy"] - whole[0]["proxy"] for row in whole),
            gold=tuple(row["gold"] - whole[0]["gold"] for row in whole),
        )

    def fit(self, law: Law, **kwargs: Any) -> LawFit | None:
        """The law fitted to the gold score; None if there are too few points for one."""
        if len({d for d in self.distance if d > 0}) < 2:
            return None
        return fit_law(self.distance, self.gold, law, **kwargs)


def gold_proxy_charts(curves: Sequence[GoldProxyCurve], *, law: Law) -> list[str]:
    """One inline-SVG chart for each curve, for the `charts` of `llm_gym.files.Report`.

    Args:
        curves: What to draw: points for the proxy and the gold score, a line for the law.
        law: Form to fit to the gold score.
    """
    charts = []
    for curve in curves:
        series = [_dots("proxy", curve.distance, curve.proxy)]
        series.append(_dots("gold", curve.distance, curve.gold))
        fit = curve.fit(law)
        if fit is not None:
            x = _line(curve)
            series.append(Series("law fitted to gold", x.tolist(), fit.value(x).tolist()))
        charts.append(
            line_chart(
                series,
                title=f"Proxy and gold: {curve.name}",
                x_label=_DISTANCE,
                y_label="gain over the initial policy",
            )
        )
    return charts


def write_pictures(curves: Sequence[GoldProxyCurve], directory: str | Path, *, law: Law) -> None:
    """Writes everything there is to see about some curves.

    `gold_proxy.html`, one page that needs no other file, and `fits.json`, the laws' coefficients.

    Args:
        curves: What to draw.
        directory: Where to; made if it is missing.
        law: Form to fit to the gold score.
    """
    directory = Path(directory)
    fits = {curve.name: curve.fit(law) for curve in curves}
    atomic.write_json(
        directory / "fits.json",
        {name: None if fit is None else fit.to_dict() for name, fit in fits.items()},
    )
    report = Report(
        title="Proxy and gold",
        summary=(
            "The proxy is what training maximises; the gold score is only measured. The law's form "
            "is that of Gao et al. (2210.10760); its coefficients belong to this set-up alone."
        ),
        figures=[_tile(name, fit) for name, fit in fits.items()],
        charts=gold_proxy_charts(curves, law=law),
    )
    write_report(report, directory / "gold_proxy.html")


def _tile(name: str, fit: LawFit | None) -> Figure:
    if fit is None:
        return Figure(name, "no fit", "too few distances")
    if not fit.turns:
        return Figure(name, "no peak yet", _described(fit))
    return Figure(name, f"peak at √KL {fit.peak_distance:.2f}", _described(fit))


def _described(fit: LawFit) -> str:
    form = "d({:.2f} - {:.2f} d)" if fit.law == "best_of_n" else "d({:.2f} - {:.2f} log d)"
    quality = "" if fit.r_squared is None else f", R² {fit.r_squared:.2f}"
    return form.format(fit.alpha, fit.beta).replace("- -", "+ ") + quality


def _line(curve: GoldProxyCurve) -> np.ndarray:
    return np.linspace(0.0, max(curve.distance), _POINTS_OF_A_LINE)


def _dots(name: str, x: Sequence[float], y: Sequence[float]) -> Series:
    """A series of single points: a gap after each keeps the chart from joining them."""
    gap = math.nan
    return Series(
        name, [point for point in x for _ in range(2)], [v for value in y for v in (value, gap)]
    )
