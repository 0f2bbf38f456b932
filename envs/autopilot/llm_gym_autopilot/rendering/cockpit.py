"""The cockpit as a picture or in a window."""

from __future__ import annotations

from llm_gym_autopilot.rendering import palette
from llm_gym_autopilot.rendering.attitude import draw_attitude
from llm_gym_autopilot.rendering.canvas import HEIGHT, WIDTH, Canvas
from llm_gym_autopilot.rendering.controls import draw_controls
from llm_gym_autopilot.rendering.frame import CockpitFrame
from llm_gym_autopilot.rendering.screen import Screen
from llm_gym_autopilot.rendering.side_view import draw_side_view
from llm_gym_autopilot.rendering.tapes import draw_airspeed, draw_altitude, draw_vertical_speed
from llm_gym_autopilot.rendering.transcript import draw_transcript

__all__ = ["Cockpit"]


class Cockpit(Screen[CockpitFrame]):
    """Draws flights; it remembers nothing of them, so that one serves any number of aeroplanes.

    Pictures need no display. The window is opened by the first `show`.

    Args:
        width: Width of the picture, pixels.
        height: Two thirds of the width.

    Raises:
        ValueError: The sides are too small or not as 3 to 2.
        gymnasium.error.DependencyNotInstalled: Pygame is not installed.
    """

    def __init__(self, width: int = WIDTH, height: int = HEIGHT) -> None:
        super().__init__(Canvas(width, height), (width, height))

    def _draw(self, frame: CockpitFrame) -> None:
        canvas = self._canvas
        canvas.box(0, 0, WIDTH, HEIGHT, palette.PANEL)
        draw_attitude(canvas, frame)
        draw_airspeed(canvas, frame)
        draw_altitude(canvas, frame)
        draw_vertical_speed(canvas, frame)
        draw_controls(canvas, frame)
        draw_side_view(canvas, frame)
        draw_transcript(canvas, frame)
        _draw_status(canvas, frame)


def _draw_status(canvas: Canvas, frame: CockpitFrame) -> None:
    y = 387.0
    _write_pair(canvas, 10, y, "TIME", f"{frame.time_s:.1f} s")
    _write_pair(canvas, 170, y, "TURBULENCE", frame.turbulence)
    if frame.reward is None:
        return
    _write_pair(canvas, 420, y, "REWARD", f"{frame.reward:.2f}")
    canvas.box(516, y - 4, 74, 8, palette.BLACK, radius=2)
    share = min(max(frame.reward, 0.0), 1.0)
    canvas.box(516, y - 4, 74 * share, 8, palette.GOOD, radius=2)


def _write_pair(canvas: Canvas, x: float, y: float, name: str, value: str) -> None:
    end = canvas.text(name, x, y, 10, palette.MUTED, anchor="left")
    canvas.text(value, end + 8, y, 12, palette.TEXT, anchor="left")
