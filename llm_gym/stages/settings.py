"""Settings as frozen dataclasses, whose documentation is the help of the command line."""

from __future__ import annotations

import inspect
import re
from dataclasses import fields, is_dataclass

__all__ = ["field_help"]

_COMMENT = re.compile(r"^    (\w+)\s*:[^#\n]*#\s*(.+)$", re.MULTILINE)
_ATTRIBUTE = re.compile(r"^    (\w+): (.+(?:\n {8,}.+)*)", re.MULTILINE)


def field_help(settings: type) -> dict[str, str]:
    """What each field of a settings dataclass means, read from its source.

    Args:
        settings: A dataclass with a comment behind each field (`name: type = default  # comment`),
            or an "Attributes" section in its docstring. What a parent describes counts, too,
            unless the class describes it itself.

    Returns:
        Field name -> description on one line, without the full stop.

    Raises:
        ValueError: A field is not described.
    """
    found: dict[str, str] = {}
    for one in reversed(settings.__mro__):
        if is_dataclass(one):
            documented = (inspect.getdoc(one) or "").partition("Attributes:\n")[2]
            found |= dict(_ATTRIBUTE.findall(documented))
            found |= dict(_COMMENT.findall(inspect.getsource(one)))
    for field in fields(settings):
        if field.name not in found:
            raise ValueError(f"{settings.__name__}.{field.name} is not described")
    return {
        field.name: " ".join(found[field.name].split()).rstrip(".") for field in fields(settings)
    }
