"""QR codes of addresses, for a terminal and for a page (segno, ISO/IEC 18004)."""

from __future__ import annotations

import io
from functools import lru_cache
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    import segno

_WHITE_ON_BLACK, _RESET = "\x1b[38;5;231;48;5;16m", "\x1b[0m"
_QUIET = 4  # modules of white around a code, as the standard has it


class Drawing(NamedTuple):
    """A code as a page draws it.

    Attributes:
        size: Modules in a row, the white margin included.
        path: The dark ones, as the path of an SVG.
    """

    size: int
    path: str


@lru_cache(maxsize=64)
def drawing(address: str) -> Drawing:
    """The QR code of an address, to be drawn dark on white.

    Args:
        address: A URL.
    """
    rows = [list(row) for row in _code(address).matrix]
    dark = [
        f"M{column + _QUIET} {row + _QUIET}h1v1h-1z"
        for row, modules in enumerate(rows)
        for column, module in enumerate(modules)
        if module
    ]
    return Drawing(len(rows) + 2 * _QUIET, "".join(dark))


def in_terminal(address: str) -> str:
    """The QR code of an address in lines of half blocks, for a terminal that shows colours.

    Blocks are the light modules: white on black whatever the terminal's own colours are, since not
    every phone reads a code that is the other way round.

    Args:
        address: A URL.
    """
    out = io.StringIO()
    _code(address).terminal(out, border=2, compact=True)
    return "\n".join(f"{_WHITE_ON_BLACK}{line}{_RESET}" for line in out.getvalue().splitlines())


def _code(address: str) -> segno.QRCode:
    try:
        import segno
    except ImportError as error:
        raise ImportError(
            "a QR code needs segno: pip install 'llm-gym[label]' "
            "(--host 127.0.0.1, the default, needs none)"
        ) from error
    return segno.make_qr(address, error="m")
