"""At which lengths a model may begin to read differently, as its configuration tells."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

_NAMES = re.compile(r"window|chunk|local|original_max_position")


def windows(config: Any) -> list[int]:
    """The lengths at which a configuration says that a model begins to read differently."""
    found = set(_numbers(config.to_dict(), named=False))
    return sorted(w for w in found if w > 1)


def _numbers(value: Any, *, named: bool) -> Iterator[int]:
    if isinstance(value, dict):
        for key, entry in value.items():
            yield from _numbers(entry, named=named or bool(_NAMES.search(str(key))))
    elif isinstance(value, (list, tuple)):
        for entry in value:
            yield from _numbers(entry, named=named)
    elif named and isinstance(value, int) and not isinstance(value, bool):
        yield value
