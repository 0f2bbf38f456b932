"""Several flights through the same weather, one under the other in one picture."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from llm_gym_autopilot.rendering import palette
from llm_gym_autopilot.rendering.canvas import WIDTH, Canvas
from llm_gym_autopilot.rendering.frame import CockpitFrame
from llm_gym_autopilot.rendering.screen import Screen
from llm_gym_autopilot.rendering.side_view import (
    HEIGHT,
    SMALLEST_SPAN,
    TOP,
    draw_side_view,
    view_of,
)
from llm_gym_autopilot.rendering.transcript import legible

__all__ = ["MOST_LANES", "Formation", "FormationFrame", "Lane", "formation_line"]

MOST_LANES = 6
FOOTER = 26
GAP = 2
LONGEST_NAME = 30  # characters


class Lane(NamedTuple):
    """One flight of several.

    Attributes:
        name: Who flies.
        frame: Its present moment, or its last one.
        total: Sum of the rewards so far.
    """

    name: str
    frame: CockpitFrame
    total: float


class FormationFrame(NamedTuple):
    """Everything one picture of several flights shows.

    Attributes:
        lanes: From the top; the flights began alike.
        seed: Of all of them.
    """

    lanes: Sequence[Lane]
    seed: int

    @property
    def time_s(self) -> float:
        """Seconds since the beginning of those that still fly."""
        return max(lane.frame.time_s for lane in self.lanes)

    @property
    def cause(self) -> str | None:
        """Why the last of them ended early; None while one goes on, or went to its end."""
        causes = [lane.frame.cause for lane in self.lanes]
        return None if None in causes else causes[-1]


class Formation(Screen[FormationFrame]):
    """Draws flights one under the other, each with its name, altitude, target and return.

    Those that fly have one scale of altitude, so that they can be compared.

    Args:
        lanes: How many flights, at most `MOST_LANES`.

    Raises:
        ValueError: There are none or too many.
        gymnasium.error.DependencyNotInstalled: Pygame is not installed.
    """

    def __init__(self, lanes: int) -> None:
        if not 1 <= lanes <= MOST_LANES:
            raise ValueError(f"lanes={lanes} must be from 1 to {MOST_LANES}")
        rows = lanes * (int(HEIGHT) + GAP) + FOOTER
        super().__init__(Canvas(WIDTH, rows, rows), (WIDTH, rows))

    def _draw(self, frame: FormationFrame) -> None:
        canvas = self._canvas
        lane_height = HEIGHT + GAP
        canvas.box(0, 0, WIDTH, len(frame.lanes) * lane_height + FOOTER, palette.PANEL)
        flying = [lane.frame for lane in frame.lanes if lane.frame.cause is None]
        span = max((view_of(each).span for each in flying), default=SMALLEST_SPAN)
        for number, lane in enumerate(frame.lanes):
            with canvas.moved(0, number * lane_height - TOP):
                draw_side_view(canvas, lane.frame, span)
                _draw_name(canvas, lane)
                _draw_end(canvas, lane.frame)
        _draw_footer(canvas, frame, len(frame.lanes) * lane_height + FOOTER / 2)


def formation_line(frame: FormationFrame) -> str:
    """Several flights as one line of text.

    Args:
        frame: What to read.

    Returns:
        Such as `t 12.0 s | rule error +35 m | pid error -2 m`; errors are target minus actual.
    """
    parts = [f"t {frame.time_s:.1f} s"]
    for name, flight, _ in frame.lanes:
        told = f"error {round(flight.telemetry.altitude_error_m):+d} m"
        ended = "" if flight.cause is None else f", ended by {flight.cause.replace('_', ' ')}"
        parts.append(f"{legible(name)} {told}{ended}")
    return " | ".join(parts)


def _draw_name(canvas: Canvas, lane: Lane) -> None:
    now = lane.frame.telemetry
    x, y = 8.0, TOP + 6
    name = legible(lane.name, LONGEST_NAME)
    # Over its left end the path is oldest, and what it hides matters least.
    canvas.box(x, y, max(24 + 8.2 * len(name), 168), 46, palette.GLASS, radius=5)
    canvas.text(name, x + 9, y + 13, 15, palette.AIRCRAFT, anchor="left")
    end = canvas.text("RETURN", x + 9, y + 33, 9, palette.MUTED, anchor="left")
    canvas.text(f"{lane.total:.1f}", end + 5, y + 33, 12, palette.TEXT, anchor="left")
    end = canvas.text("OFF", x + 92, y + 33, 9, palette.MUTED, anchor="left")
    off = round(-now.altitude_error_m)  # an integer has no minus zero
    canvas.text(f"{off:+d} m", end + 5, y + 33, 12, palette.TEXT, anchor="left")


def _draw_end(canvas: Canvas, frame: CockpitFrame) -> None:
    if frame.cause is None:
        return
    canvas.box(0, TOP, WIDTH, HEIGHT, (*palette.PANEL[:3], 130))
    told = f"ended after {frame.time_s:.1f} s: {frame.cause.replace('_', ' ')}"
    canvas.box(WIDTH / 2 - 110, TOP + HEIGHT / 2 - 14, 220, 28, palette.PANEL, radius=5)
    canvas.text(told, WIDTH / 2, TOP + HEIGHT / 2, 14, palette.CAUTION)


def _draw_footer(canvas: Canvas, frame: FormationFrame, y: float) -> None:
    level = frame.lanes[0].frame.turbulence
    for x, name, value in (
        (10, "TIME", f"{frame.time_s:.1f} s"),
        (130, "TURBULENCE", level),
        (330, "THE SAME START, TARGETS AND GUSTS: SEED", f"{frame.seed}"),
    ):
        end = canvas.text(name, x, y, 10, palette.MUTED, anchor="left")
        canvas.text(value, end + 8, y, 12, palette.TEXT, anchor="left")
