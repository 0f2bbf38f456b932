"""Pictures made of characters, for a terminal, and the same pictures as PNG files.

A bar is a row of blocks, a sparkline a row of columns of eight heights. `write_png` draws whatever
`rich` can print: blocks as rectangles, so that no font need have them.
"""

from __future__ import annotations

import io
import math
from collections.abc import Sequence
from importlib.util import find_spec
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

from llm_gym.files import atomic

if TYPE_CHECKING:
    from rich.console import RenderableType
    from rich.style import Style

COLUMNS = "▁▂▃▄▅▆▇█"
BLOCKS = "▏▎▍▌▋▊▉█"

WIDTH = 88  # characters of a picture that is kept
_CELL, _ROW, _SIZE, _MARGIN = 11, 26, 18, 30  # pixels
_PAPER, _INK, _MUTED = "#fbfaf7", "#1f2430", "#8a8f98"
_HUES = {1: "#c2571a", 2: "#2f855a", 3: "#8a6d1f", 4: "#2563b8", 5: "#a21caf", 6: "#0e7490"}
_MONOSPACED = ("DejaVuSansMono.ttf", "Menlo.ttc", "consola.ttf", "LiberationMono-Regular.ttf")


def bar(share: float, width: int = 30) -> str:
    """A bar of blocks, to an eighth of a character; anything above nothing is seen.

    Args:
        share: From 0 to 1; what is beyond is cut off, and NaN is nothing.
        width: Characters of a share of 1.
    """
    if math.isnan(share):
        return ""
    eighths = round(8 * width * min(max(share, 0.0), 1.0))
    if share > 0:
        eighths = max(eighths, 1)
    whole, rest = divmod(eighths, 8)
    return BLOCKS[-1] * whole + (BLOCKS[rest - 1] if rest else "")


def sparkline(
    values: Sequence[float],
    width: int = 48,
    low: float | None = None,
    high: float | None = None,
) -> str:
    """A curve as a row of columns, from the lowest value to the highest.

    Args:
        values: In their order; what is not finite is a gap.
        width: Most characters; of more values each shows the mean of its share.
        low: Value of the lowest column; None takes the lowest value.
        high: Value of the highest.
    """
    shown = _means(values, width)
    finite = [value for value in shown if math.isfinite(value)]
    if not finite:
        return ""
    bottom = min(finite) if low is None else low
    top = max(finite) if high is None else high
    span = (top - bottom) or 1.0
    levels = [
        round(7 * min(max((value - bottom) / span, 0.0), 1.0)) if math.isfinite(value) else None
        for value in shown
    ]
    return "".join(" " if level is None else COLUMNS[level] for level in levels)


def _means(values: Sequence[float], width: int) -> list[float]:
    count = len(values)
    if count <= width:
        return [float(value) for value in values]
    edges = [place * count // width for place in range(width + 1)]
    parts = [values[start:end] for start, end in pairwise(edges)]
    return [sum(part) / len(part) for part in parts]


def can_draw() -> bool:
    """Whether `write_png` finds what it draws with (Pillow)."""
    return find_spec("PIL") is not None


def write_png(picture: RenderableType, path: str | Path) -> Path:
    """Draws what `rich` would print, light on a page of `WIDTH` characters.

    Args:
        picture: Anything that `rich` can print.
        path: The file; its folder is made.

    Returns:
        The path.

    Raises:
        ImportError: Pillow is not installed.
    """
    try:
        from PIL import Image, ImageDraw
    except ImportError as error:
        raise ImportError(
            "pictures are drawn with Pillow: pip install 'llm-gym[render]'"
        ) from error
    rows = _printed(picture)
    size = (2 * _MARGIN + WIDTH * _CELL, 2 * _MARGIN + max(len(rows), 1) * _ROW)
    image = Image.new("RGB", size, _PAPER)
    canvas, font = ImageDraw.Draw(image), _font()
    for number, row in enumerate(rows):
        column = 0
        for text, style in row:
            column = _draw(canvas, font, text, style, column, _MARGIN + number * _ROW)
    content = io.BytesIO()
    image.save(content, "PNG", optimize=True)
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    return atomic.write_bytes(path, content.getvalue())


def _printed(picture: RenderableType) -> list[list[tuple[str, Style | None]]]:
    """Lines of pieces of text, each with its style."""
    from rich.console import Console

    console = Console(width=WIDTH, file=io.StringIO(), force_terminal=True, legacy_windows=False)
    lines = console.render_lines(picture, console.options, pad=False)
    return [[(segment.text, segment.style) for segment in line] for line in lines]


def _draw(canvas: Any, font: Any, text: str, style: Style | None, column: int, top: int) -> int:
    """Draws a piece of a line; returns the column behind it."""
    from rich.cells import cell_len

    colour = _colour(style)
    word, start = "", column
    for character in text:
        if character in BLOCKS or character in COLUMNS or character == " ":
            _write(canvas, font, word, colour, start, top)
            _block(canvas, character, colour, column, top)
            word, start = "", column + 1
        else:
            word += character
        column += cell_len(character)
    _write(canvas, font, word, colour, start, top)
    return column


def _write(canvas: Any, font: Any, word: str, colour: str, column: int, top: int) -> None:
    # Word by word, so that one stands where it should in a font that is not monospaced, too.
    if word:
        canvas.text((_MARGIN + column * _CELL, top + 3), word, font=font, fill=colour)


def _block(canvas: Any, character: str, colour: str, column: int, top: int) -> None:
    if character == " ":
        return
    left, bottom, height = _MARGIN + column * _CELL, top + _ROW - 3, _ROW - 6
    wide = (BLOCKS.index(character) + 1) / 8 if character in BLOCKS else 1.0
    tall = (COLUMNS.index(character) + 1) / 8 if character in COLUMNS else 1.0
    box = (left, bottom - height * tall, left + _CELL * wide - 1, bottom)
    canvas.rectangle(box, fill=colour)


def _colour(style: Style | None) -> str:
    if style is None:
        return _INK
    if style.color is not None and style.color.number in _HUES:
        return _HUES[style.color.number]
    return _MUTED if style.dim else _INK


def _font() -> Any:
    """A monospaced font where the machine has one, else Pillow's own."""
    from PIL import ImageFont

    for name in (*_MONOSPACED, *_fonts_of_matplotlib()):
        try:
            return ImageFont.truetype(name, _SIZE)
        except OSError:
            continue
    return ImageFont.load_default(_SIZE)


def _fonts_of_matplotlib() -> list[str]:
    spec = find_spec("matplotlib")
    if spec is None or spec.origin is None:
        return []
    return [str(Path(spec.origin).parent / "mpl-data" / "fonts" / "ttf" / "DejaVuSansMono.ttf")]
