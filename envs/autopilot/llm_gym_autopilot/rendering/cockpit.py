"""The cockpit as a picture or in a window."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import numpy as np
from gymnasium.error import UnsupportedMode
from numpy.typing import NDArray

from llm_gym_autopilot.rendering import palette
from llm_gym_autopilot.rendering.attitude import draw_attitude
from llm_gym_autopilot.rendering.canvas import HEIGHT, WIDTH, Canvas, import_pygame
from llm_gym_autopilot.rendering.controls import draw_controls
from llm_gym_autopilot.rendering.frame import CockpitFrame
from llm_gym_autopilot.rendering.side_view import draw_side_view
from llm_gym_autopilot.rendering.tapes import draw_airspeed, draw_altitude, draw_vertical_speed
from llm_gym_autopilot.rendering.transcript import draw_transcript

if TYPE_CHECKING:
    import pygame

__all__ = ["Cockpit"]

FRAMES_PER_SECOND = 5.0  # one a step
INVISIBLE_DRIVERS = ("dummy", "offscreen", "evdev")


class Cockpit:
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
        self._canvas = Canvas(width, height)
        self._pygame = import_pygame()
        self._size = (width, height)
        self._window: pygame.Surface | None = None
        self._clock = self._pygame.time.Clock()
        self._closed_by_user = False

    @property
    def closed_by_user(self) -> bool:
        """Whether the window was open and somebody has closed it."""
        return self._closed_by_user

    def draw(self, frame: CockpitFrame) -> NDArray[np.uint8]:
        """Draws one picture.

        Args:
            frame: What it shows.

        Returns:
            Red, green and blue, uint8 `(height, width, 3)`, an array of its own.
        """
        self._draw(frame)
        return self._canvas.pixels()

    def show(self, frame: CockpitFrame, frames_per_second: float = FRAMES_PER_SECOND) -> None:
        """Draws into the window and waits until the next picture is due.

        After the window has been closed by its user nothing happens any more, without waiting.

        Args:
            frame: What it shows.
            frames_per_second: Pace of the pictures; 0 does not wait.

        Raises:
            gymnasium.error.UnsupportedMode: There is no display.
        """
        if self._closed_by_user:
            return
        if self._window is None:
            self._window = self._open()
        self._draw(frame)
        self._window.blit(self._canvas.finished(), (0, 0))
        self._pygame.display.flip()
        if any(event.type == self._pygame.QUIT for event in self._pygame.event.get()):
            self._closed_by_user = True
            self.close()
            return
        self._clock.tick(frames_per_second)

    def close(self) -> None:
        """Closes the window, if there is one; may be called again."""
        if self._window is not None:
            self._window = None
            self._pygame.display.quit()

    def _open(self) -> pygame.Surface:
        display = self._pygame.display
        try:
            display.init()
            window = display.set_mode(self._size)
        except self._pygame.error as error:
            raise _no_window(str(error)) from error
        # Without a display SDL falls back on drivers that show nothing, unless one was asked for.
        if not os.environ.get("SDL_VIDEODRIVER") and display.get_driver() in INVISIBLE_DRIVERS:
            display.quit()
            raise _no_window("there is no display")
        display.set_caption("llm_gym autopilot")
        return window

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


def _no_window(reason: str) -> UnsupportedMode:
    return UnsupportedMode(
        f'no window can be opened ({reason}); use render_mode="rgb_array" or "ansi"'
    )


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
