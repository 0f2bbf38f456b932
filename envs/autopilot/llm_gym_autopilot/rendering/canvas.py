"""Drawing on a pygame surface in the coordinates of a 600x400 picture, smooth at any size.

Everything is drawn larger than wanted and scaled down at the end: one way to smooth edges that
serves lines, polygons and text alike.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import lru_cache
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np
from gymnasium.error import DependencyNotInstalled
from numpy.typing import NDArray

if TYPE_CHECKING:
    import pygame

__all__ = ["HEIGHT", "WIDTH", "Canvas", "Color", "Point", "blend", "import_pygame"]

WIDTH, HEIGHT = 600, 400
OVERSAMPLING = 3
DEFAULT_FONT_SCALE = 0.6875  # pygame draws its own font that much smaller than asked

Point = tuple[float, float]
Color = tuple[int, int, int] | tuple[int, int, int, int]


def import_pygame() -> Any:
    """The module `pygame`.

    Raises:
        gymnasium.error.DependencyNotInstalled: It is not installed.
    """
    os.environ.setdefault("PYGAME_HIDE_SUPPORT_PROMPT", "1")  # it would print to standard output
    try:
        import pygame
    except ImportError as error:
        raise DependencyNotInstalled(
            'drawing the cockpit needs pygame-ce: pip install "llm-gym-autopilot[render]"'
        ) from error
    return pygame


def blend(first: Color, second: Color, share: float) -> Color:
    """A colour between two: `share` 0 gives the first, 1 the second."""
    r, g, b = (round(a + (z - a) * share) for a, z in zip(first[:3], second[:3], strict=True))
    return r, g, b


class Canvas:
    """A picture to draw on, in coordinates of 600x400 whatever its size.

    Args:
        width: Width of the finished picture, pixels.
        height: Height of the finished picture, two thirds of the width.
        rows: Height in coordinates, for a picture of another shape.

    Raises:
        ValueError: The sides are too small, or not as 600 to `rows`.
        gymnasium.error.DependencyNotInstalled: Pygame is not installed.
    """

    def __init__(self, width: int = WIDTH, height: int = HEIGHT, rows: int = HEIGHT) -> None:
        if width < WIDTH // 2 or width * rows != height * WIDTH:
            shape = "3 to 2 and at least 300x200" if rows == HEIGHT else f"{WIDTH} to {rows}"
            raise ValueError(f"width={width}, height={height}: the cockpit is {shape}")
        self._pygame = import_pygame()
        self._pygame.font.init()
        self._size = (width, height)
        self._scale = OVERSAMPLING * width / WIDTH
        self._origin = (0.0, 0.0)
        self._surface = self._pygame.Surface(
            (OVERSAMPLING * width, OVERSAMPLING * height), depth=32
        )
        self._font = lru_cache(maxsize=32)(self._make_font)
        self._text = lru_cache(maxsize=1024)(self._make_text)
        self._gradient = lru_cache(maxsize=16)(self._make_gradient)

    def finished(self) -> pygame.Surface:
        """The picture in its own size."""
        return self._pygame.transform.smoothscale(self._surface, self._size)

    def pixels(self) -> NDArray[np.uint8]:
        """The picture as an array, uint8 `(height, width, 3)`."""
        columns = self._pygame.surfarray.pixels3d(self.finished())  # (width, height, 3)
        return np.ascontiguousarray(columns.transpose(1, 0, 2))

    # ------------------------------------------------------------------ shapes

    def line(self, start: Point, end: Point, color: Color, width: float = 1.0) -> None:
        """A straight line with square ends."""
        (x0, y0), (x1, y1) = start, end
        length = max(((x1 - x0) ** 2 + (y1 - y0) ** 2) ** 0.5, 1e-9)
        dx, dy = (y1 - y0) / length * width / 2, (x0 - x1) / length * width / 2
        self.polygon(
            [(x0 + dx, y0 + dy), (x1 + dx, y1 + dy), (x1 - dx, y1 - dy), (x0 - dx, y0 - dy)], color
        )

    def curve(self, points: Sequence[Point], color: Color, width: float = 1.0) -> None:
        """Straight lines through points, with round joints."""
        for start, end in pairwise(points):
            self.line(start, end, color, width)
            self.disc(end, width / 2, color)

    def polygon(self, points: Sequence[Point], color: Color, outline: Color | None = None) -> None:
        """A filled polygon, with a thin outline if its colour is given."""
        places = [self._place(point) for point in points]
        self._pygame.draw.polygon(self._surface, color, places)
        if outline is not None:
            self._pygame.draw.lines(self._surface, outline, True, places, round(self._scale))

    def disc(self, centre: Point, radius: float, color: Color) -> None:
        """A filled circle."""
        if radius * self._scale >= 1:
            self._pygame.draw.circle(
                self._surface, color, self._place(centre), radius * self._scale
            )

    def ring(self, centre: Point, radius: float, color: Color, width: float = 1.0) -> None:
        """A circle's line."""
        self._pygame.draw.circle(
            self._surface,
            color,
            self._place(centre),
            radius * self._scale,
            max(1, round(width * self._scale)),
        )

    def ellipse(self, centre: Point, width: float, height: float, color: Color) -> None:
        """A filled ellipse, its axes along the picture's sides."""
        x, y = centre
        self._pygame.draw.ellipse(
            self._surface, color, self._box(x - width / 2, y - height / 2, width, height)
        )

    def box(
        self,
        x: float,
        y: float,
        width: float,
        height: float,
        color: Color,
        *,
        radius: float = 0.0,
        outline: Color | None = None,
    ) -> None:
        """A filled rectangle; a fourth number of its colour is its opacity, 0 to 255."""
        place, corner = self._box(x, y, width, height), round(radius * self._scale)
        if len(color) == 4:
            layer = self._pygame.Surface(place.size, self._pygame.SRCALPHA)
            self._pygame.draw.rect(layer, color, layer.get_rect(), border_radius=corner)
            self._surface.blit(layer, place)
        else:
            self._pygame.draw.rect(self._surface, color, place, border_radius=corner)
        if outline is not None:
            self._pygame.draw.rect(
                self._surface, outline, place, round(self._scale), border_radius=corner
            )

    def gradient(self, x: float, y: float, width: float, height: float, *colors: Color) -> None:
        """A rectangle that goes from the first colour at the top to the last at the bottom."""
        place = self._box(x, y, width, height)
        self._surface.blit(self._gradient(place.size, colors), place)

    def text(
        self,
        words: str,
        x: float,
        y: float,
        size: float,
        color: Color,
        *,
        anchor: str = "center",
    ) -> float:
        """Words beside a point.

        Args:
            words: The text.
            x: Horizontal place of the point.
            y: Vertical place of the point; capitals and digits are centred on it.
            size: Height of the font, pixels.
            color: Color of the letters.
            anchor: "left", "center" or "right": where in the words the point is.

        Returns:
            X of the words' end.
        """
        picture, middle = self._text(words, size, color)
        px, py = self._place((x, y))
        left = {"left": 0, "center": picture.get_width() / 2, "right": picture.get_width()}[anchor]
        self._surface.blit(picture, (round(px - left), round(py - middle)))
        return (px - left + picture.get_width()) / self._scale - self._origin[0]

    @contextmanager
    def clipped(self, x: float, y: float, width: float, height: float) -> Iterator[None]:
        """Leaves everything outside a rectangle as it is."""
        before = self._surface.get_clip()
        self._surface.set_clip(self._box(x, y, width, height).clip(before))
        try:
            yield
        finally:
            self._surface.set_clip(before)

    @contextmanager
    def moved(self, right: float, down: float) -> Iterator[None]:
        """Draws everything so far to the right and below."""
        before = self._origin
        self._origin = (before[0] + right, before[1] + down)
        try:
            yield
        finally:
            self._origin = before

    # ------------------------------------------------------------------ to pixels

    def _place(self, point: Point) -> Point:
        # Far outside the picture a coordinate would overflow the 16 bits that SDL draws in.
        limit = 4.0 * WIDTH
        moved = (c + start for c, start in zip(point, self._origin, strict=True))
        x, y = (min(max(c, -limit), limit) * self._scale for c in moved)
        return x, y

    def _box(self, x: float, y: float, width: float, height: float) -> pygame.Rect:
        x, y = x + self._origin[0], y + self._origin[1]
        left, top = round(x * self._scale), round(y * self._scale)
        right, bottom = round((x + width) * self._scale), round((y + height) * self._scale)
        return self._pygame.Rect(left, top, right - left, bottom - top)

    def _make_font(self, size: float) -> pygame.font.Font:
        return self._pygame.font.Font(None, round(size * self._scale / DEFAULT_FONT_SCALE))

    def _make_text(self, words: str, size: float, color: Color) -> tuple[pygame.Surface, float]:
        font = self._font(size)
        zero = font.metrics("0")[0]
        assert zero is not None  # the bundled font has digits
        capital_height = zero[3]
        return font.render(words, True, color), font.get_ascent() - capital_height / 2

    def _make_gradient(self, size: tuple[int, int], colors: tuple[Color, ...]) -> pygame.Surface:
        width, height = size
        layer = self._pygame.Surface((max(width, 1), max(height, 1)), depth=32)
        for row in range(height):
            place = row / max(height - 1, 1) * (len(colors) - 1)
            part = min(int(place), len(colors) - 2)
            layer.fill(blend(colors[part], colors[part + 1], place - part), (0, row, width, 1))
        return layer
