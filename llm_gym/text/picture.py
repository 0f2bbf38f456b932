"""A frame of text as a picture, for `render_mode="rgb_array"`: videos, windows, slides.

Drawn with Pillow, which is an optional dependency, and in the font that ships with it. That font
has little more than ASCII; other characters come from a wider font where the machine has one
(DejaVu Sans, also as part of matplotlib; Noto; Arial Unicode) and are spelled out where it has not.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache
from importlib.util import find_spec
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from gymnasium.error import DependencyNotInstalled

from llm_gym.text.rendering import Frame, end_of, parts_of, reward_of

if TYPE_CHECKING:
    from PIL.ImageDraw import ImageDraw

#: Size of every picture, in pixels: even numbers, as video codecs want them.
WIDTH, HEIGHT = 960, 540

_MARGIN = 48
_PAPER, _INK, _GREY, _RULE = "#fbfaf7", "#1f2430", "#8a8f98", "#e3e0d8"
_MARK, _BLUE = "#ffd666", "#2f5fd0"
_WIDER_FONTS = ("DejaVuSans.ttf", "NotoSans-Regular.ttf", "Arial Unicode.ttf")

Character = tuple[str, bool]  # and whether it belongs to the newest token


class Style(NamedTuple):
    """Size and line height of a block of text, in pixels, and its colour."""

    size: int
    leading: int
    colour: str


_PROMPT = Style(19, 27, _GREY)
_ANSWER = Style(24, 34, _INK)
_SMALL = Style(15, 20, _GREY)
_PROMPT_LINES, _ANSWER_LINES = 3, 7


def draw(frame: Frame) -> np.ndarray:
    """Draws a frame.

    Args:
        frame: What there is to see.

    Returns:
        uint8 `(HEIGHT, WIDTH, 3)`: the prompt; below it the answer so far, the newest token marked,
        its last lines if it has too many; at the bottom how far it is and how probable the newest
        token was, or at the end the score and its parts.

    Raises:
        gymnasium.error.DependencyNotInstalled: Pillow is missing.
    """
    try:
        from PIL import Image, ImageDraw
    except ImportError as error:
        raise DependencyNotInstalled(
            "render_mode='rgb_array' draws with Pillow: pip install 'llm-gym[render]'"
        ) from error
    image = Image.new("RGB", (WIDTH, HEIGHT), _PAPER)
    canvas = ImageDraw.Draw(image)
    _label(canvas, 40, "PROMPT")
    prompt = _wrapped([(character, False) for character in frame.prompt], _PROMPT)
    _block(canvas, 62, _last(prompt, _PROMPT_LINES), _PROMPT)
    canvas.line((_MARGIN, 158, WIDTH - _MARGIN, 158), fill=_RULE, width=1)
    _label(canvas, 176, "ANSWER")
    newest = frame.newest
    if not newest.strip():  # a token of nothing but line ends and blanks would not be seen
        newest = newest.replace("\n", "\\n")
    answer = [(c, False) for c in frame.completion] + [(c, True) for c in newest]
    _block(canvas, 200, _last(_wrapped(answer, _ANSWER), _ANSWER_LINES), _ANSWER)
    _footer(canvas, frame)
    return np.array(image)


def _footer(canvas: ImageDraw, frame: Frame) -> None:
    canvas.rectangle((_MARGIN, 452, WIDTH - _MARGIN, 455), fill=_RULE)
    share = min(frame.tokens / frame.max_new_tokens, 1.0)
    if share > 0:
        right = _MARGIN + share * (WIDTH - 2 * _MARGIN)
        canvas.rectangle((_MARGIN, 452, right, 455), fill=_BLUE)
    if frame.outcome is None:
        _line(canvas, (_MARGIN, 470), f"token {frame.tokens} of {frame.max_new_tokens}", _SMALL)
        if frame.probability is not None:
            text = f"probability of the newest: {frame.probability:.3f}"
            _line(canvas, (WIDTH - _MARGIN, 470), text, _SMALL, from_right=True)
        return
    _line(canvas, (_MARGIN, 470), end_of(frame.outcome, frame.tokens), _SMALL)
    score = frame.outcome.info.get("score")
    details = (
        parts_of(frame.outcome, zeros=False) if score is not None else reward_of(frame.outcome)
    )
    room = WIDTH - 2 * _MARGIN - (0 if score is None else 240)
    lines = _wrapped([(character, False) for character in details], _SMALL, room)
    _block(canvas, 492, lines[:2], _SMALL)
    if score is not None:
        right = WIDTH - _MARGIN
        number = _line(canvas, (right, 466), f"{score:.4g}", Style(40, 46, _BLUE), from_right=True)
        _line(canvas, (right - number - 12, 487), "score", _SMALL, from_right=True)


def _label(canvas: ImageDraw, top: int, text: str) -> None:
    x = float(_MARGIN)
    for letter in text:  # spaced out, as labels are
        _line(canvas, (x, top), letter, Style(12, 16, _GREY))
        x += _advance(letter, 12) + 2


def _last(lines: list[list[Character]], count: int) -> list[list[Character]]:
    """The last lines, the first of them saying that others went before."""
    if len(lines) <= count:
        return lines
    rest = lines[-count][4:]
    while rest and rest[0][0] == " ":
        rest = rest[1:]
    return [[*[(letter, False) for letter in "... "], *rest], *lines[1 - count :]]


def _wrapped(
    text: list[Character], style: Style, room: float = WIDTH - 2 * _MARGIN
) -> list[list[Character]]:
    """Lines that are no wider than `room`, broken behind blanks where there are any."""
    lines: list[list[Character]] = [[]]
    width, last_blank = 0.0, 0  # of the line; characters up to its last blank
    for letter, is_newest in text:
        if letter == "\n":
            lines.append([])
            width, last_blank = 0.0, 0
            continue
        for shown in _spelled(letter, style.size):
            advance = _advance(shown, style.size)
            if width + advance > room and lines[-1] and shown != " ":
                rest = lines[-1][last_blank:] if last_blank else []
                lines[-1] = lines[-1][: last_blank or None]
                lines.append(rest)
                width, last_blank = sum(_advance(c, style.size) for c, _ in rest), 0
            lines[-1].append((shown, is_newest))
            width += advance
            if shown == " ":
                last_blank = len(lines[-1])
    return lines


def _block(canvas: ImageDraw, top: int, lines: list[list[Character]], style: Style) -> None:
    for number, line in enumerate(lines):
        x, y = float(_MARGIN), top + number * style.leading
        for is_newest, letters in groupby(line, key=lambda character: character[1]):
            text = "".join(letter for letter, _ in letters)
            if is_newest:
                box = (x - 1, y, x + _width(text, style.size) + 1, y + style.leading - 4)
                canvas.rounded_rectangle(box, radius=5, fill=_MARK)
            x += _line(canvas, (x, y), text, style)


def _line(
    canvas: ImageDraw,
    place: tuple[float, float],
    text: str,
    style: Style,
    *,
    from_right: bool = False,
) -> float:
    """Draws one line on the baseline of Pillow's font; returns its width."""
    text = "".join(shown for letter in text for shown in _spelled(letter, style.size))
    width = _width(text, style.size)
    x = place[0] - width if from_right else place[0]
    baseline = place[1] + _fonts(style.size)[0].getmetrics()[0]
    for font, run in _runs(text, style.size):
        for letter in run:  # one by one, so that widths are those that lines were broken by
            canvas.text((x, baseline), letter, font=font, fill=style.colour, anchor="ls")
            x += _advance(letter, style.size)
    return width


def _runs(text: str, size: int) -> Iterator[tuple[Any, Iterator[str]]]:
    return groupby(text, key=lambda letter: _font_of(letter, size))


def _width(text: str, size: int) -> float:
    return sum(_advance(letter, size) for letter in text)


@lru_cache(maxsize=16384)
def _advance(letter: str, size: int) -> float:
    font = _font_of(letter, size)
    return 0.0 if font is None else float(font.getlength(letter))


def _spelled(letter: str, size: int) -> str:
    """The character, or its code where no font has it."""
    if _font_of(letter, size) is not None:
        return letter
    return letter.encode("unicode_escape").decode("ascii")


@lru_cache(maxsize=16384)
def _font_of(letter: str, size: int) -> Any:
    """The first font that has the character; None if there is none."""
    return next((font for font in _fonts(size) if _has(font, letter)), None)


def _has(font: Any, letter: str) -> bool:
    def look(text: str) -> tuple[Any, bytes]:
        mask = font.getmask(text)
        return mask.size, bytes(mask)

    return letter == " " or look(letter) != look("\uffff")  # U+FFFF is no character


@lru_cache(maxsize=8)
def _fonts(size: int) -> list[Any]:
    """Pillow's own font, and a wider one where there is one."""
    from PIL import ImageFont

    fonts: list[Any] = [ImageFont.load_default(size)]
    for name in (*_WIDER_FONTS, *_fonts_of_matplotlib()):
        try:
            fonts.append(ImageFont.truetype(name, size - 2))  # DejaVu is a size larger
            break
        except OSError:
            continue
    return fonts


def _fonts_of_matplotlib() -> list[str]:
    spec = find_spec("matplotlib")
    if spec is None or spec.origin is None:
        return []
    return [str(Path(spec.origin).parent / "mpl-data" / "fonts" / "ttf" / "DejaVuSans.ttf")]
