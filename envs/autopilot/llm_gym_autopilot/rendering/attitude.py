"""The artificial horizon: pitch ladder, flight path marker and warnings."""

from __future__ import annotations

import math

from llm_gym_autopilot.rendering import palette
from llm_gym_autopilot.rendering.canvas import Canvas
from llm_gym_autopilot.rendering.frame import CockpitFrame

__all__ = ["draw_attitude"]

# Where it is in the picture. The tapes lie over its left and right ends.
LEFT, TOP, WIDTH, HEIGHT = 0.0, 0.0, 446.0, 252.0
CENTRE_X, CENTRE_Y = 206.0, 126.0
PIXELS_PER_DEGREE = 5.0
SLIVER = 20.0  # of sky or earth that always stays in sight, as on the real instrument
LADDER_TOP, LADDER_BOTTOM = 36.0, 224.0


def draw_attitude(canvas: Canvas, frame: CockpitFrame) -> None:
    """Draws sky, earth and everything in front of them that belongs to the attitude."""
    pitch = float(frame.telemetry.pitch_deg)
    with canvas.clipped(LEFT, TOP, WIDTH, HEIGHT):
        _draw_world(canvas, pitch)
        with canvas.clipped(LEFT, LADDER_TOP, WIDTH, LADDER_BOTTOM - LADDER_TOP):
            _draw_ladder(canvas, pitch)
            _draw_flight_path_marker(canvas, frame)
        _draw_aircraft_symbol(canvas)
        _draw_warning(canvas, frame)


def _draw_world(canvas: Canvas, pitch: float) -> None:
    horizon = CENTRE_Y + pitch * PIXELS_PER_DEGREE
    horizon = min(max(horizon, TOP + SLIVER), TOP + HEIGHT - SLIVER)
    canvas.gradient(LEFT, horizon - HEIGHT, WIDTH, HEIGHT, palette.SKY_HIGH, palette.SKY_LOW)
    canvas.gradient(LEFT, horizon, WIDTH, HEIGHT, palette.EARTH_HIGH, palette.EARTH_LOW)
    canvas.line((LEFT, horizon), (LEFT + WIDTH, horizon), palette.TEXT, 1.5)


def _draw_ladder(canvas: Canvas, pitch: float) -> None:
    for tenths in range(-800, 801, 25):
        angle = tenths / 10
        y = CENTRE_Y + (pitch - angle) * PIXELS_PER_DEGREE
        if tenths == 0 or not LADDER_TOP - 20 < y < LADDER_BOTTOM + 20:
            continue
        if tenths % 100 == 0:
            canvas.line((CENTRE_X - 34, y), (CENTRE_X + 34, y), palette.TEXT, 1.6)
            if LADDER_TOP + 6 < y < LADDER_BOTTOM - 6:  # whole numbers only
                label = f"{abs(tenths) // 10}"
                canvas.text(label, CENTRE_X - 39, y, 11, palette.TEXT, anchor="right")
                canvas.text(label, CENTRE_X + 39, y, 11, palette.TEXT, anchor="left")
        elif abs(tenths) <= 250:
            half = 18 if tenths % 50 == 0 else 8
            canvas.line((CENTRE_X - half, y), (CENTRE_X + half, y), palette.TEXT, 1.2)
        if abs(tenths) in (350, 450, 550):
            _draw_chevron(canvas, y, -1 if tenths < 0 else 1)


def _draw_chevron(canvas: Canvas, y: float, points_down: int) -> None:
    """Red arrow towards the horizon, where the pitch is extreme."""
    tip, end = y + 10 * points_down, y - 10 * points_down
    for x in (CENTRE_X - 24, CENTRE_X + 24):
        canvas.line((x, end), (CENTRE_X, tip), palette.WARNING, 5)


def _draw_flight_path_marker(canvas: Canvas, frame: CockpitFrame) -> None:
    """Green circle where the aeroplane is going, which is not where it points."""
    telemetry = frame.telemetry
    slope = float(telemetry.climb_mps) / max(float(telemetry.airspeed_mps), 1.0)
    climb_angle = math.degrees(math.asin(min(max(slope, -1.0), 1.0)))
    y = CENTRE_Y + (float(telemetry.pitch_deg) - climb_angle) * PIXELS_PER_DEGREE
    if not LADDER_TOP + 8 < y < LADDER_BOTTOM - 8:
        return
    for color, width in ((palette.BLACK, 3.4), (palette.VELOCITY, 1.8)):
        canvas.ring((CENTRE_X, y), 6 + width / 2, color, width)
        canvas.line((CENTRE_X - 17, y), (CENTRE_X - 7, y), color, width)
        canvas.line((CENTRE_X + 7, y), (CENTRE_X + 17, y), color, width)
        canvas.line((CENTRE_X, y - 14), (CENTRE_X, y - 7), color, width)


def _draw_aircraft_symbol(canvas: Canvas) -> None:
    x, y = CENTRE_X, CENTRE_Y
    for side in (-1, 1):
        wing = [
            (x + side * 102, y - 2.5),
            (x + side * 62, y - 2.5),
            (x + side * 62, y + 12),
            (x + side * 67, y + 12),
            (x + side * 67, y + 2.5),
            (x + side * 102, y + 2.5),
        ]
        canvas.polygon(wing, palette.AIRCRAFT, palette.BLACK)
    canvas.polygon(
        [(x - 3, y - 3), (x + 3, y - 3), (x + 3, y + 3), (x - 3, y + 3)],
        palette.AIRCRAFT,
        palette.BLACK,
    )


def _draw_warning(canvas: Canvas, frame: CockpitFrame) -> None:
    telemetry, limits = frame.telemetry, frame.limits
    message, color = "", palette.WARNING
    if frame.cause is not None:
        message = "ENDED: " + frame.cause.replace("_", " ").upper()
    elif (
        telemetry.alpha_deg > limits.stall_alpha_deg - 1.5
        or telemetry.airspeed_mps < limits.stall_airspeed_mps
    ):
        message = "STALL"
    elif telemetry.airspeed_mps > limits.maximum_airspeed_mps - 3.0:
        message = "OVERSPEED"
    if message:
        width = 26 + 7.6 * len(message)
        canvas.box(CENTRE_X - width / 2, 8, width, 22, color, radius=4)
        canvas.text(message, CENTRE_X, 19, 12, palette.TEXT)
