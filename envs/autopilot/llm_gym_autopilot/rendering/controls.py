"""The panel beside the horizon: stick, throttle, angle of attack and a few numbers."""

from __future__ import annotations

from llm_gym_autopilot.rendering import palette
from llm_gym_autopilot.rendering.canvas import Canvas, Color
from llm_gym_autopilot.rendering.frame import CockpitFrame

__all__ = ["draw_controls"]

LEFT, TOP, WIDTH, HEIGHT = 450.0, 4.0, 146.0, 244.0
GAUGE_TOP, GAUGE_BOTTOM = 36.0, 154.0
STICK_X, POWER_X, ALPHA_X = 475.0, 523.0, 571.0
LOWEST_ALPHA, HIGHEST_ALPHA = -6.0, 18.0  # degrees at the ends of the scale


def draw_controls(canvas: Canvas, frame: CockpitFrame) -> None:
    """Draws the panel."""
    telemetry = frame.telemetry
    canvas.box(LEFT, TOP, WIDTH, HEIGHT, palette.RAISED, radius=6)
    _draw_stick(canvas, float(telemetry.elevator_deg), frame.limits.elevator_limit_deg)
    _draw_throttle(canvas, float(telemetry.throttle), float(telemetry.power))
    _draw_alpha(canvas, float(telemetry.alpha_deg), frame.limits.stall_alpha_deg)
    canvas.line((LEFT + 10, 184), (LEFT + WIDTH - 10, 184), palette.EDGE, 1)
    rows = (
        ("PITCH", f"{telemetry.pitch_deg:+.1f}°"),
        ("CLIMB", f"{telemetry.climb_mps:+.1f} m/s"),
        ("LOAD", f"{telemetry.load_factor:.2f} g"),
    )
    for index, (name, value) in enumerate(rows):
        y = 198.0 + 19 * index
        canvas.text(name, LEFT + 12, y, 10, palette.MUTED, anchor="left")
        canvas.text(value, LEFT + WIDTH - 12, y, 12, palette.TEXT, anchor="right")


def _draw_names(canvas: Canvas, x: float, name: str, value: str) -> None:
    canvas.text(name, x, TOP + 16, 10, palette.MUTED)
    canvas.text(value, x, GAUGE_BOTTOM + 15, 12, palette.TEXT)


def _draw_slot(canvas: Canvas, x: float) -> None:
    canvas.box(
        x - 6, GAUGE_TOP, 12, GAUGE_BOTTOM - GAUGE_TOP, palette.BLACK, radius=6,
        outline=palette.EDGE,
    )  # fmt: skip


def _draw_knob(canvas: Canvas, x: float, y: float, color: Color) -> None:
    canvas.box(x - 15, y - 5, 30, 10, color, radius=3, outline=palette.BLACK)
    canvas.line((x - 10, y), (x + 10, y), palette.BLACK, 1)


def _draw_stick(canvas: Canvas, elevator: float, limit: float) -> None:
    """The stick as the pilot holds it: forward is up and means nose down."""
    _draw_slot(canvas, STICK_X)
    middle, reach = (GAUGE_TOP + GAUGE_BOTTOM) / 2, (GAUGE_BOTTOM - GAUGE_TOP) / 2 - 7
    for share in (-1.0, -0.5, 0.0, 0.5, 1.0):
        y = middle + share * reach
        canvas.line((STICK_X - 14, y), (STICK_X - 9, y), palette.MUTED, 1.2)
        canvas.line((STICK_X + 9, y), (STICK_X + 14, y), palette.MUTED, 1.2)
    share = min(max(elevator / limit, -1.0), 1.0)
    canvas.box(
        STICK_X - 3, min(middle, middle - share * reach), 6, abs(share) * reach, palette.AIRCRAFT
    )
    _draw_knob(canvas, STICK_X, middle - share * reach, palette.TEXT)
    _draw_names(canvas, STICK_X, "STICK", f"{elevator:+.1f}°")


def _draw_throttle(canvas: Canvas, throttle: float, power: float) -> None:
    """The lever is what was commanded, the green column what the engine gives."""
    _draw_slot(canvas, POWER_X)
    bottom, reach = GAUGE_BOTTOM - 7, GAUGE_BOTTOM - GAUGE_TOP - 14
    for share in (0.0, 0.25, 0.5, 0.75, 1.0):
        y = bottom - share * reach
        canvas.line((POWER_X - 14, y), (POWER_X - 9, y), palette.MUTED, 1.2)
        canvas.line((POWER_X + 9, y), (POWER_X + 14, y), palette.MUTED, 1.2)
    column = min(max(power, 0.0), 1.0) * reach
    canvas.box(POWER_X - 3, bottom - column, 6, column, palette.GOOD)
    _draw_knob(canvas, POWER_X, bottom - min(max(throttle, 0.0), 1.0) * reach, palette.TEXT)
    _draw_names(canvas, POWER_X, "POWER", f"{100 * throttle:.0f} %")


def _draw_alpha(canvas: Canvas, alpha: float, stall: float) -> None:
    def height(angle: float) -> float:
        share = (angle - LOWEST_ALPHA) / (HIGHEST_ALPHA - LOWEST_ALPHA)
        return GAUGE_BOTTOM - min(max(share, 0.0), 1.0) * (GAUGE_BOTTOM - GAUGE_TOP)

    x = ALPHA_X - 8
    bands: tuple[tuple[float, float, Color], ...] = (
        (LOWEST_ALPHA, stall - 4, palette.GOOD),
        (stall - 4, stall - 1, palette.CAUTION),
        (stall - 1, HIGHEST_ALPHA, palette.WARNING),
    )
    for low, high, color in bands:
        canvas.box(x, height(high), 5, height(low) - height(high), color)
    for angle in range(int(LOWEST_ALPHA) + 1, int(HIGHEST_ALPHA), 5):
        canvas.line((x - 5, height(angle)), (x, height(angle)), palette.MUTED, 1.2)
        canvas.text(f"{angle}", x - 7, height(angle), 9.5, palette.MUTED, anchor="right")
    y = height(alpha)
    canvas.polygon([(x + 4, y), (x + 18, y - 6), (x + 18, y + 6)], palette.TEXT, palette.BLACK)
    _draw_names(canvas, ALPHA_X, "ALPHA", f"{alpha:+.1f}°")
