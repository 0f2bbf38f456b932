"""The words of a flight: what the instruments said last, and what was answered."""

from __future__ import annotations

from llm_gym_autopilot.rendering import palette
from llm_gym_autopilot.rendering.canvas import Canvas, blend
from llm_gym_autopilot.rendering.frame import CockpitFrame

__all__ = ["SHOWN", "draw_transcript", "legible"]

SHOWN = 3  # decisions
LEFT, TOP, WIDTH, ROW = 6.0, 328.0, 588.0, 13.0
SPLIT = 432.0  # where answers begin
LONGEST = 40  # characters of an answer: nobody knows what a model says


def draw_transcript(canvas: Canvas, frame: CockpitFrame) -> None:
    """Draws the last words over the ground of the side view; nothing of flights without any."""
    said = frame.words[-SHOWN:]
    if not said:
        return
    canvas.box(LEFT, TOP, WIDTH, ROW * SHOWN + 6, palette.GLASS, radius=4)
    for place, (heard, answer) in enumerate(said):
        y = TOP + 3 + ROW * (SHOWN - len(said) + place + 0.5)
        newest = place == len(said) - 1
        faded = 0.0 if newest else 0.3
        line = blend(palette.TEXT, palette.PANEL, faded)
        canvas.text(legible(heard, 110), LEFT + 6, y, 8.5, line, anchor="left")
        color = blend(palette.VELOCITY, palette.PANEL, faded)
        canvas.text(legible(answer), SPLIT, y, 10, color, anchor="left")


def legible(text: str, longest: int = LONGEST) -> str:
    """A text on one line, without anything that is no letter for a font or a terminal."""
    shown = "".join(c if c.isascii() and c.isprintable() else "?" for c in text)
    return shown if len(shown) <= longest else shown[: longest - 3] + "..."
