"""Line and scatter charts as inline SVG: no files, no scripts, no plotting library.

Colours are CSS variables of the page the chart stands in, so one drawing serves light and dark.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from llm_gym.files.untrusted import as_html

_WIDTH, _HEIGHT = 560, 260
_LEFT, _RIGHT, _TOP, _BOTTOM = 62, 14, 12, 40


@dataclass(frozen=True)
class Series:
    """One curve.

    Attributes:
        name: Shown in the legend if the chart has more than one curve, and on hovering a point.
        x: Positions, ascending.
        y: Values, as many as `x`; where a value is not finite the line is interrupted.
    """

    name: str
    x: Sequence[float]
    y: Sequence[float]

    def __post_init__(self) -> None:
        if len(self.x) != len(self.y):
            raise ValueError(
                f"series {self.name!r} has {len(self.x)} positions but {len(self.y)} values"
            )

    def segments(self) -> list[list[tuple[float, float]]]:
        """The points, split where a value is not finite."""
        runs: list[list[tuple[float, float]]] = [[]]
        for x, y in zip(self.x, self.y, strict=True):
            if math.isfinite(x) and math.isfinite(y):
                runs[-1].append((float(x), float(y)))
            elif runs[-1]:
                runs.append([])
        return [run for run in runs if run]


def ticks(low: float, high: float, count: int = 5) -> list[float]:
    """Round numbers (1, 2 or 5 times a power of ten apart) that cover `low` to `high`.

    Args:
        low: The smallest value to cover.
        high: The largest; if it equals `low`, room is made around it.
        count: About how many intervals there should be.

    Returns:
        Ascending positions; the first is at most `low`, the last at least `high`, each to within a
        fiftieth of an interval.
    """
    if high <= low:
        margin = abs(low) * 0.1 or 1.0
        low, high = low - margin, high + margin
    raw = (high - low) / count
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(m * power for m in (1, 2, 5, 10) if m * power >= raw * (1 - 1e-9))
    # A value just beyond a tick (a KL of -1e-7) is not worth another interval.
    first, last = math.floor(low / step + 0.02), math.ceil(high / step - 0.02)
    return [index * step for index in range(first, last + 1)]


def line_chart(
    series: Sequence[Series],
    *,
    title: str,
    x_label: str,
    y_label: str,
    reference: tuple[str, float] | None = None,
) -> str:
    """Draws curves over a common x axis.

    Args:
        series: The curves; those without a finite value are left out.
        title: Heading, also the drawing's accessible name.
        x_label: What x is, with its unit.
        y_label: What y is, with its unit.
        reference: Name and value of a horizontal dashed line, for example the level before
            training.

    Returns:
        A `<figure>` element. Without a single finite value it says so instead of an empty frame.
    """
    drawn = [(curve, curve.segments()) for curve in series]
    drawn = [(curve, runs) for curve, runs in drawn if runs]
    heading = f"<figcaption>{as_html(title)}{_legend([curve for curve, _ in drawn])}</figcaption>"
    if not drawn:
        return f'<figure class="chart">{heading}<p class="empty">nothing was recorded</p></figure>'
    points = [point for _, runs in drawn for run in runs for point in run]
    levels = [y for _, y in points] + ([reference[1]] if reference else [])
    x_ticks = ticks(min(x for x, _ in points), max(x for x, _ in points))
    y_ticks = ticks(min(levels), max(levels))
    frame = _Frame(min(x for x, _ in points), max(x for x, _ in points), y_ticks[0], y_ticks[-1])
    body = [_axes(frame, x_ticks, y_ticks, x_label, y_label)]
    if reference:
        body.append(_reference(frame, *reference))
    body.extend(_curve(frame, curve, runs, index) for index, (curve, runs) in enumerate(drawn))
    return _figure(heading, title, body)


def scatter_chart(
    series: Sequence[Series], *, title: str, x_label: str, y_label: str, diagonal: bool = False
) -> str:
    """Draws clouds of points in one frame.

    Args:
        series: The clouds; `x` need not be ascending, and points that are not finite are left out.
        title: Heading, also the drawing's accessible name.
        x_label: What x is, with its unit.
        y_label: What y is, with its unit.
        diagonal: Draw the line where y equals x.

    Returns:
        A `<figure>` element, as `line_chart` does.
    """
    drawn = [(cloud, [point for run in cloud.segments() for point in run]) for cloud in series]
    drawn = [(cloud, points) for cloud, points in drawn if points]
    heading = f"<figcaption>{as_html(title)}{_legend([cloud for cloud, _ in drawn])}</figcaption>"
    if not drawn:
        return f'<figure class="chart">{heading}<p class="empty">nothing was recorded</p></figure>'
    every_x, every_y = ([point[axis] for _, points in drawn for point in points] for axis in (0, 1))
    x_ticks, y_ticks = (ticks(min(values), max(values)) for values in (every_x, every_y))
    frame = _Frame(x_ticks[0], x_ticks[-1], y_ticks[0], y_ticks[-1])
    body = [_axes(frame, x_ticks, y_ticks, x_label, y_label)]
    if diagonal:
        body.append(_diagonal(frame))
    body.extend(
        f'<circle class="s{index % 4} point" cx="{frame.x(x):.1f}" cy="{frame.y(y):.1f}" r="3.5">'
        f"<title>{as_html(cloud.name)}: {_number(y)} at {_number(x)}</title></circle>"
        for index, (cloud, points) in enumerate(drawn)
        for x, y in points
    )
    return _figure(heading, title, body)


def _figure(heading: str, title: str, body: Sequence[str]) -> str:
    return (
        f'<figure class="chart">{heading}<svg viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" '
        f'aria-label="{as_html(title)}">{"".join(body)}</svg></figure>'
    )


@dataclass(frozen=True)
class _Frame:
    """Maps data to the drawing's coordinates."""

    x_low: float
    x_high: float
    y_low: float
    y_high: float

    def x(self, value: float) -> float:
        span = (self.x_high - self.x_low) or 1.0
        return _LEFT + (value - self.x_low) / span * (_WIDTH - _LEFT - _RIGHT)

    def y(self, value: float) -> float:
        return _TOP + (self.y_high - value) / (self.y_high - self.y_low) * (
            _HEIGHT - _TOP - _BOTTOM
        )


def _axes(
    frame: _Frame, x_ticks: list[float], y_ticks: list[float], x_label: str, y_label: str
) -> str:
    floor = _HEIGHT - _BOTTOM
    parts = []
    for value in y_ticks:
        y = frame.y(value)
        parts.append(f'<line class="grid" x1="{_LEFT}" x2="{_WIDTH - _RIGHT}" {_ys(y, y)}/>')
        parts.append(
            f'<text class="tick" x="{_LEFT - 7}" y="{y + 3.5:.1f}" text-anchor="end">'
            f"{_number(value)}</text>"
        )
    for value in x_ticks:
        if frame.x_low <= value <= frame.x_high:
            parts.append(
                f'<text class="tick" x="{frame.x(value):.1f}" y="{floor + 16}" '
                f'text-anchor="middle">{_number(value)}</text>'
            )
    middle = (_LEFT + _WIDTH - _RIGHT) / 2
    parts.append(
        f'<text class="label" x="{middle:.1f}" y="{_HEIGHT - 6}" text-anchor="middle">'
        f"{as_html(x_label)}</text>"
        f'<text class="label" transform="translate(12 {(_TOP + floor) / 2:.1f}) rotate(-90)" '
        f'text-anchor="middle">{as_html(y_label)}</text>'
    )
    return "".join(parts)


def _reference(frame: _Frame, name: str, value: float) -> str:
    y = frame.y(value)
    # Above the line unless that would leave the drawing.
    text_y = y - 5 if y > _TOP + 14 else y + 13
    return (
        f'<line class="reference" x1="{_LEFT}" x2="{_WIDTH - _RIGHT}" {_ys(y, y)}/>'
        f'<text class="tick halo" x="{_WIDTH - _RIGHT}" y="{text_y:.1f}" text-anchor="end">'
        f"{as_html(name)}</text>"
    )


def _diagonal(frame: _Frame) -> str:
    low, high = max(frame.x_low, frame.y_low), min(frame.x_high, frame.y_high)
    if low >= high:
        return ""
    return (
        f'<line class="diagonal" x1="{frame.x(low):.1f}" x2="{frame.x(high):.1f}" '
        f"{_ys(frame.y(low), frame.y(high))}/>"
    )


def _curve(frame: _Frame, series: Series, runs: list[list[tuple[float, float]]], index: int) -> str:
    colour = f"s{index % 4}"
    parts = []
    for run in runs:
        path = " ".join(f"{frame.x(x):.1f},{frame.y(y):.1f}" for x, y in run)
        if len(run) == 1:
            x, y = run[0]
            parts.append(
                f'<circle class="{colour} dot" cx="{frame.x(x):.1f}" cy="{frame.y(y):.1f}" r="3"/>'
            )
        else:
            parts.append(f'<polyline class="{colour}" points="{path}"/>')
        # Invisible discs carry the values: hovering one shows them without any script.
        parts.extend(
            f'<circle class="hit" cx="{frame.x(x):.1f}" cy="{frame.y(y):.1f}" r="7">'
            f"<title>{as_html(series.name)}: {_number(y)} at {_number(x)}</title></circle>"
            for x, y in run
        )
    return "".join(parts)


def _legend(series: list[Series]) -> str:
    if len(series) < 2:
        return ""
    return "".join(
        f'<span class="key"><i class="s{index % 4}"></i>{as_html(row.name)}</span>'
        for index, row in enumerate(series)
    )


def _ys(y1: float, y2: float) -> str:
    return f'y1="{y1:.1f}" y2="{y2:.1f}"'


def _number(value: float) -> str:
    """Short and without noise of binary fractions: 12 000 becomes 12k, 0.30000000000000004 0.3."""
    if abs(value) >= 10_000:
        return f"{value / 1000:.4g}k" if abs(value) < 1e6 else f"{value / 1e6:.4g}M"
    return f"{0.0 if abs(value) < 1e-12 else value:.4g}"
