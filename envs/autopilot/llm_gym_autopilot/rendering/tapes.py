"""Airspeed and altitude as tapes behind a window, and the vertical speed beside them."""

from __future__ import annotations

from typing import NamedTuple

from llm_gym_autopilot.rendering import palette
from llm_gym_autopilot.rendering.canvas import Canvas, Color
from llm_gym_autopilot.rendering.frame import CockpitFrame, CockpitLimits

__all__ = ["digit_places", "draw_airspeed", "draw_altitude", "draw_vertical_speed"]

TOP, BOTTOM, CENTRE = 26.0, 226.0, 126.0
BUG = 9.0  # width of the target's mark
DRUM_HEIGHT = 42.0  # of the last digit of a readout


class Tape(NamedTuple):
    """Geometry of one tape; `inner` is the edge towards the horizon, where the ticks are."""

    left: float
    width: float
    inner: float
    outward: int  # +1 if the tape's labels are to the right of its ticks, else -1
    pixels_per_unit: float
    tick: int  # units between ticks
    label: int  # units between labels
    digits: int
    unit: str


AIRSPEED = Tape(8, 62, 70, -1, 5.0, 1, 5, 2, "m/s")
ALTITUDE = Tape(342, 66, 342, 1, 1.0, 10, 50, 4, "m")


def draw_airspeed(canvas: Canvas, frame: CockpitFrame) -> None:
    """Draws the airspeed tape."""
    telemetry = frame.telemetry
    value, target = float(telemetry.airspeed_mps), float(telemetry.target_airspeed_mps)
    _draw_scale(canvas, AIRSPEED, value)
    with canvas.clipped(AIRSPEED.left, TOP, AIRSPEED.width + BUG, BOTTOM - TOP):
        _draw_bands(canvas, frame.limits, value)
    _draw_bug(canvas, AIRSPEED, value, target)
    _draw_readout(canvas, AIRSPEED, value)
    _draw_captions(canvas, AIRSPEED, f"{target:.1f}")


def draw_altitude(canvas: Canvas, frame: CockpitFrame) -> None:
    """Draws the altitude tape."""
    telemetry = frame.telemetry
    value, target = float(telemetry.altitude_m), float(telemetry.target_altitude_m)
    _draw_scale(canvas, ALTITUDE, value)
    _draw_bug(canvas, ALTITUDE, value, target)
    _draw_readout(canvas, ALTITUDE, value)
    _draw_captions(canvas, ALTITUDE, f"{target:.0f}")


def draw_vertical_speed(canvas: Canvas, frame: CockpitFrame) -> None:
    """Draws the climb rate as a pointer on a scale of 10 m/s either way."""
    left, pixels_per_unit, end = 412.0, 7.2, 10.8
    climb = float(frame.telemetry.climb_mps)
    canvas.box(left, 44, 30, 164, palette.GLASS, radius=4)
    for value in (-10, -5, 0, 5, 10):
        y = CENTRE - value * pixels_per_unit
        canvas.line((left + 9, y), (left + 14, y), palette.TEXT, 1.2)
        if value:
            canvas.text(f"{abs(value)}", left + 16, y, 9.5, palette.TEXT, anchor="left")
    y = CENTRE - min(max(climb, -end), end) * pixels_per_unit
    canvas.box(left + 3, min(y, CENTRE), 5, abs(y - CENTRE), palette.VELOCITY)
    canvas.line((left + 1, y), (left + 10, y), palette.TEXT, 2.4)


def digit_places(value: float, digits: int) -> list[tuple[int, float]]:
    """Digits as a mechanical counter shows them, from the first to the last.

    The last drum turns all the time, every other one while the one behind it goes from 9 to 0.

    Args:
        value: What to show; below zero counts as zero.
        digits: Number of drums.

    Returns:
        For each drum its digit, and how far it has turned towards the next, 0 to 1.
    """
    value = max(value, 0.0)
    places: list[tuple[int, float]] = []
    turned = value % 1.0
    rest = int(value)
    for _ in range(digits):
        digit = rest % 10
        places.append((digit, turned))
        rest //= 10
        turned = turned if digit == 9 else 0.0
    return places[::-1]


def _draw_scale(canvas: Canvas, tape: Tape, value: float) -> None:
    canvas.box(tape.left, TOP, tape.width, BOTTOM - TOP, palette.GLASS)
    reach = (CENTRE - TOP) / tape.pixels_per_unit
    first = int((value - reach) // tape.tick) * tape.tick
    with canvas.clipped(tape.left, TOP, tape.width, BOTTOM - TOP):
        for mark in range(max(first, 0), int(value + reach) + 2 * tape.tick, tape.tick):
            y = CENTRE - (mark - value) * tape.pixels_per_unit
            labelled = mark % tape.label == 0
            hidden = abs(y - CENTRE) < DRUM_HEIGHT / 2 + 4  # half a number would look out there
            x = tape.inner + tape.outward * 6
            length = 9 if labelled else 5
            canvas.line((x, y), (x + tape.outward * length, y), palette.TEXT, 1.2)
            if labelled and not hidden:
                canvas.text(
                    f"{mark}",
                    x + tape.outward * 13,
                    y,
                    12,
                    palette.TEXT,
                    anchor="left" if tape.outward > 0 else "right",
                )


def _draw_bands(canvas: Canvas, limits: CockpitLimits, value: float) -> None:
    """The coloured edge: red below the stall and past the limit, green where one flies."""
    stall, fastest = limits.stall_airspeed_mps, limits.maximum_airspeed_mps
    bands: list[tuple[float, float, Color]] = [
        (0.0, stall, palette.WARNING),
        (stall, 1.1 * stall, palette.CAUTION),
        (1.1 * stall, 0.9 * fastest, palette.GOOD),
        (0.9 * fastest, fastest, palette.CAUTION),
        (fastest, 2 * fastest, palette.WARNING),
    ]
    for low, high, color in bands:
        top = max(CENTRE - (high - value) * AIRSPEED.pixels_per_unit, TOP)
        bottom = min(CENTRE - (low - value) * AIRSPEED.pixels_per_unit, BOTTOM)
        if bottom > top:
            canvas.box(AIRSPEED.inner - 5, top, 5, bottom - top, color)


def _draw_bug(canvas: Canvas, tape: Tape, value: float, target: float) -> None:
    """Magenta mark at the target; at the tape's end if the target is beyond."""
    y = CENTRE - (target - value) * tape.pixels_per_unit
    y = min(max(y, TOP + 10), BOTTOM - 10)
    x, out = tape.inner, -tape.outward * BUG
    canvas.polygon(
        [
            (x, y - 10),
            (x + out, y - 10),
            (x + out, y - 4.5),
            (x + out * 0.35, y),
            (x + out, y + 4.5),
            (x + out, y + 10),
            (x, y + 10),
        ],
        palette.TARGET,
        palette.BLACK,
    )


def _draw_readout(canvas: Canvas, tape: Tape, value: float) -> None:
    """The window with the present value, its last digit on a taller drum."""
    digit_width, size, height, drum_height = 11.5, 18.0, 25.0, DRUM_HEIGHT
    width = digit_width * tape.digits + 8
    near = tape.inner + tape.outward * 14
    far = near + tape.outward * width
    left, right = min(near, far), max(near, far)
    drum = right - digit_width - 5
    outline = [
        (left, CENTRE - height / 2),
        (drum, CENTRE - height / 2),
        (drum, CENTRE - drum_height / 2),
        (right, CENTRE - drum_height / 2),
        (right, CENTRE + drum_height / 2),
        (drum, CENTRE + drum_height / 2),
        (drum, CENTRE + height / 2),
        (left, CENTRE + height / 2),
    ]
    canvas.polygon(outline, palette.BLACK, palette.TEXT)
    canvas.polygon(
        [
            (near - tape.outward * 8, CENTRE),
            (near, CENTRE - 6),
            (near, CENTRE + 6),
        ],
        palette.TEXT,
    )
    places = digit_places(value, tape.digits)
    for index, (digit, turned) in enumerate(places):
        last = index == tape.digits - 1
        x = left + 4 + digit_width * (index + 0.5) + (1 if last else 0)
        window = drum_height if last else height
        leading = not last and value < 10 ** (tape.digits - 1 - index)
        with canvas.clipped(x - 8, CENTRE - window / 2 + 1.5, 16, window - 3):
            for step in (-1, 0, 1, 2):
                if leading and (step != 1 or not turned):
                    continue
                y = CENTRE - (step - turned) * size
                color = palette.TEXT if abs(step - turned) <= 0.5 else palette.MUTED
                canvas.text(f"{(digit + step) % 10}", x, y, size, color)


def _draw_captions(canvas: Canvas, tape: Tape, target: str) -> None:
    canvas.box(tape.left, 4, tape.width, 20, palette.BLACK, radius=3)
    canvas.text(target, tape.left + tape.width / 2, 14, 12.5, palette.TARGET)
    canvas.box(tape.left, 228, tape.width, 20, palette.BLACK, radius=3)
    canvas.text(tape.unit, tape.left + tape.width / 2, 238, 11, palette.MUTED)
