"""The flight seen from the side: path, target, ground and gusts."""

from __future__ import annotations

import math
from collections.abc import Sequence

from llm_gym_autopilot.rendering import palette
from llm_gym_autopilot.rendering.canvas import Canvas, Color, Point, blend
from llm_gym_autopilot.rendering.frame import CockpitFrame

__all__ = ["SideView", "draw_side_view", "view_of"]

LEFT, TOP, WIDTH, HEIGHT = 0.0, 254.0, 600.0, 120.0
AIRCRAFT_X = 400.0
PATH_SECONDS = 40.0  # of the flown path that fit between the left edge and the aeroplane
PIXELS_PER_SECOND = AIRCRAFT_X / PATH_SECONDS
SMALLEST_SPAN = 50.0  # m from the target's line to the upper or lower edge
GROUND_STRIP = 9.0  # of the landscape that always stays in sight


class SideView:
    """How altitudes become heights in the picture: the target altitude is always in the middle.

    Args:
        target: Altitude, m.
        altitudes: All that must be in sight, m.
        span: Metres from the middle to an edge, at least.
    """

    def __init__(
        self, target: float, altitudes: Sequence[float], span: float = SMALLEST_SPAN
    ) -> None:
        farthest = max((abs(altitude - target) for altitude in altitudes), default=0.0)
        self.target = target
        self.span = max(span, 1.75 * farthest)  # room for a steep aeroplane
        self._pixels_per_metre = HEIGHT / 2 / self.span

    def height(self, altitude: float) -> float:
        """Y of an altitude in the picture."""
        return TOP + HEIGHT / 2 - (altitude - self.target) * self._pixels_per_metre


def view_of(frame: CockpitFrame, span: float = SMALLEST_SPAN) -> SideView:
    """The view that a frame's flight has in sight.

    Args:
        frame: What is shown.
        span: Metres from the middle to an edge, at least.
    """
    telemetry = frame.telemetry
    heights = [height for _, height in _recent(frame)]
    return SideView(
        float(telemetry.target_altitude_m), [float(telemetry.altitude_m), *heights], span
    )


def draw_side_view(canvas: Canvas, frame: CockpitFrame, span: float = SMALLEST_SPAN) -> None:
    """Draws the lower part of the picture.

    Args:
        canvas: Where to.
        frame: What it shows.
        span: Metres from the target to an edge, at least.
    """
    telemetry = frame.telemetry
    altitude = float(telemetry.altitude_m)
    path = _recent(frame)
    view = view_of(frame, span)
    with canvas.clipped(LEFT, TOP, WIDTH, HEIGHT):
        _draw_sky(canvas, frame.time_s)
        _draw_ground(canvas, view, frame.time_s)
        _draw_scale(canvas, view)
        _draw_target(canvas, view)
        _draw_path(canvas, view, path, frame.time_s)
        _draw_gust(canvas, float(telemetry.gust_longitudinal_mps), float(telemetry.gust_mps))
        _draw_aeroplane(canvas, view.height(altitude), float(telemetry.pitch_deg))


def _recent(frame: CockpitFrame) -> list[tuple[float, float]]:
    return [(time, height) for time, height in frame.path if frame.time_s - time <= PATH_SECONDS]


def _draw_sky(canvas: Canvas, time: float) -> None:
    canvas.gradient(LEFT, TOP, WIDTH, HEIGHT, palette.DAY_HIGH, palette.DAY_LOW)
    # Clouds far behind: they move slower than the path, and start again after 800 pixels.
    for index, (start, height, size) in enumerate(
        ((90, 26, 1.0), (330, 58, 0.7), (520, 20, 0.8), (700, 70, 0.9))
    ):
        x = (start - (2.0 + 0.6 * (index % 2)) * time) % 800 - 100
        y = TOP + height
        for dx, dy, width, thickness in (
            (0, 0, 74, 11), (-14, -5, 34, 13), (10, -7, 38, 16), (28, -2, 28, 10),
        ):  # fmt: skip
            color = blend(palette.CLOUD, palette.DAY_LOW, 0.45)
            canvas.ellipse((x + dx * size, y + dy * size), width * size, thickness * size, color)


def _draw_ground(canvas: Canvas, view: SideView, time: float) -> None:
    surface = min(view.height(0.0), TOP + HEIGHT - GROUND_STRIP)
    hills: list[Point] = []
    for x in range(0, int(WIDTH) + 10, 10):
        place = x + 3.0 * time
        rise = 6 + 3.5 * math.sin(place / 47) + 2.5 * math.sin(place / 19 + 1)
        hills.append((LEFT + x, surface - rise))
    canvas.polygon([(LEFT, surface), *hills, (LEFT + WIDTH + 10, surface)], palette.HILLS)
    depth = max(TOP + HEIGHT - surface, 1.0)
    canvas.gradient(LEFT, surface, WIDTH, depth, palette.GROUND_HIGH, palette.GROUND_LOW)
    # Fields pass under the aeroplane as fast as its path moves.
    for index in range(int((WIDTH + depth) / 80) + 2):
        left = index * 80.0 - (PIXELS_PER_SECOND * time) % 80
        top, bottom = (left, left + 40), (left + 40 - depth, left - depth)
        canvas.polygon(
            [*((x, surface) for x in top), *((x, TOP + HEIGHT) for x in bottom)],
            blend(palette.GROUND_LOW, palette.GROUND_HIGH, 0.35),
        )


def _draw_scale(canvas: Canvas, view: SideView) -> None:
    pale = blend(palette.DAY_LOW, palette.DAY_HIGH, 0.25)
    step = next((s for s in (20, 50, 100, 200, 500) if s >= view.span / 2.5), 1000)
    first = math.ceil((view.target - view.span) / step) * step
    for altitude in range(first, int(view.target + view.span) + 1, step):
        y = view.height(altitude)
        # Not where the ground or the target's label is.
        in_sight = TOP + 8 < y < TOP + HEIGHT - GROUND_STRIP - 8
        if altitude > 0 and in_sight and abs(y - view.height(view.target)) > 16:
            canvas.line((LEFT, y), (WIDTH - 50, y), pale, 1)
            canvas.text(f"{altitude} m", WIDTH - 8, y, 10, palette.PANEL, anchor="right")


def _draw_target(canvas: Canvas, view: SideView) -> None:
    y = view.height(view.target)
    for index in range(50):
        x = LEFT + 12 * index
        if x < WIDTH - 62:
            canvas.line((x, y), (x + 7, y), palette.TARGET, 2)
    canvas.box(WIDTH - 60, y - 9, 56, 18, palette.PANEL, radius=4)
    canvas.text(f"{view.target:.0f} m", WIDTH - 32, y, 11, palette.TARGET)


def _draw_path(
    canvas: Canvas, view: SideView, path: Sequence[tuple[float, float]], time: float
) -> None:
    points = [
        (AIRCRAFT_X - (time - then) * PIXELS_PER_SECOND, view.height(altitude))
        for then, altitude in path
    ]
    canvas.curve(points, palette.PANEL, 4)
    canvas.curve(points, palette.AIRCRAFT, 2)


def _draw_gust(canvas: Canvas, forward: float, upward: float) -> None:
    """The wind's own velocity, as an arrow."""
    strength = math.hypot(forward, upward)
    x, y = 494.0, TOP + 24.0
    canvas.box(x - 40, TOP + 5, 80, 38, palette.PANEL, radius=5)
    canvas.text("GUST", x - 32, y - 8, 10, palette.MUTED, anchor="left")
    canvas.text(f"{strength:.1f} m/s", x - 32, y + 8, 11, palette.TEXT, anchor="left")
    if strength > 0.05:
        _draw_arrow(canvas, (x + 25, y), (forward / strength, -upward / strength), strength)


def _draw_arrow(canvas: Canvas, centre: Point, direction: Point, strength: float) -> None:
    length = min(10 + 3.5 * strength, 26.0)
    (x, y), (dx, dy) = centre, direction
    tail = (x - dx * length / 2, y - dy * length / 2)
    tip = (x + dx * length / 2, y + dy * length / 2)
    neck = (tip[0] - dx * 6, tip[1] - dy * 6)
    canvas.line(tail, neck, palette.TEXT, 2)
    canvas.polygon(
        [tip, (neck[0] - dy * 4, neck[1] + dx * 4), (neck[0] + dy * 4, neck[1] - dx * 4)],
        palette.TEXT,
    )


# The aeroplane seen from its right side, nose to the right, in pixels from its centre of gravity;
# y upward. A low wing, a bubble canopy and a swept fin, as the Navion has them.
_FUSELAGE = (
    (31, 1), (30, 4), (24, 6), (14, 7), (-8, 7), (-34, 4), (-36, 2), (-34, 0), (-10, -6), (10, -7),
    (24, -5), (30, -2),
)  # fmt: skip
_CANOPY = ((13, 7), (8, 12), (2, 13.5), (-4, 13), (-12, 7))
_FIN = ((-24, 4.5), (-33, 17), (-39, 17), (-37, 2))
_TAILPLANE = ((-26, 3.5), (-30, 5), (-40, 5), (-39, 3))
_STRIPE = ((30, 1.5), (-35, 2.5), (-35, 1.2), (30, -0.5))
_WING = ((10, -5), (4, -3), (-10, -4), (-13, -6), (6, -7))
_SPINNER = ((31, 3.5), (36, 1), (31, -1.5))


def _draw_aeroplane(canvas: Canvas, y: float, pitch: float) -> None:
    cosine, sine = math.cos(math.radians(pitch)), math.sin(math.radians(pitch))

    def turned(points: Sequence[Point]) -> list[Point]:
        return [
            (AIRCRAFT_X + px * cosine - py * sine, y - px * sine - py * cosine) for px, py in points
        ]

    parts: tuple[tuple[Sequence[Point], Color], ...] = (
        (_FIN, palette.WARNING),
        (_CANOPY, palette.SKY_HIGH),
        (_FUSELAGE, palette.TEXT),
        (_STRIPE, palette.WARNING),
        (_TAILPLANE, palette.TEXT),
        (_WING, palette.MUTED),
        (_SPINNER, palette.WARNING),
    )
    for points, color in parts:
        canvas.polygon(turned(points), color, palette.PANEL)
    upper, lower = turned(((33, 14), (33, -12)))
    canvas.line(upper, lower, palette.PANEL, 1.4)
