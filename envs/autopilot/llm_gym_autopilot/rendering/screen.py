"""Pictures of flights, and a window to show them in."""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Generic, TypeVar

import numpy as np
from gymnasium.error import UnsupportedMode
from numpy.typing import NDArray

from llm_gym_autopilot.rendering.canvas import Canvas, import_pygame

if TYPE_CHECKING:
    import pygame

__all__ = ["FRAMES_PER_SECOND", "Screen"]

FRAMES_PER_SECOND = 5.0  # one a step
INVISIBLE_DRIVERS = ("dummy", "offscreen", "evdev")

Frame = TypeVar("Frame")


class Screen(ABC, Generic[Frame]):
    """Draws frames of one kind; it remembers nothing of them.

    Pictures need no display. The window is opened by the first `show`.

    Args:
        canvas: What it draws on.
        size: Width and height of the picture, pixels.

    Raises:
        gymnasium.error.DependencyNotInstalled: Pygame is not installed.
    """

    def __init__(self, canvas: Canvas, size: tuple[int, int]) -> None:
        self._canvas = canvas
        self._pygame = import_pygame()
        self._size = size
        self._window: pygame.Surface | None = None
        self._clock = self._pygame.time.Clock()
        self._closed_by_user = False

    @property
    def closed_by_user(self) -> bool:
        """Whether the window was open and somebody has closed it."""
        return self._closed_by_user

    def draw(self, frame: Frame) -> NDArray[np.uint8]:
        """Draws one picture.

        Args:
            frame: What it shows.

        Returns:
            Red, green and blue, uint8 `(height, width, 3)`, an array of its own.
        """
        self._draw(frame)
        return self._canvas.pixels()

    def show(self, frame: Frame, frames_per_second: float = FRAMES_PER_SECOND) -> None:
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

    @abstractmethod
    def _draw(self, frame: Frame) -> None:
        """Draws a frame on the canvas."""


def _no_window(reason: str) -> UnsupportedMode:
    return UnsupportedMode(
        f'no window can be opened ({reason}); use render_mode="rgb_array" or "ansi"'
    )
