"""States of numpy's random generators: held against what they must be before one is made of them.

numpy takes a place beyond the end of a generator's buffer, and reads there; and a PCG64 of an even
increment may give the same number for ever.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from llm_gym.files.schema import Check, anything, list_of, one_of, record, refuse, whole

_U32, _U64 = whole(0, 2**32 - 1), whole(0, 2**64 - 1)
_U128 = whole(0, 2**128 - 1)


def _odd(name: str, value: Any) -> None:
    _U128(name, value)
    if value % 2 == 0:
        refuse(name, "an odd number", value)


_HALF = {"has_uint32": whole(0, 1), "uinteger": _U32}
_PCG: dict[str, Check] = {"state": record({"state": _U128, "inc": _odd}), **_HALF}

_STATES: Mapping[str, Mapping[str, Check]] = {
    "PCG64": _PCG,
    "PCG64DXSM": _PCG,
    "MT19937": {"state": record({"key": list_of(_U32, 624), "pos": whole(0, 624)})},
    "Philox": {
        "state": record({"counter": list_of(_U64, 4), "key": list_of(_U64, 2)}),
        "buffer": list_of(_U64, 4),
        "buffer_pos": whole(0, 4),
        **_HALF,
    },
    "SFC64": {"state": record({"state": list_of(_U64, 4)}), **_HALF},
}
"""What a state consists of, by the name of numpy's class."""


def generator_state(name: str, value: Any) -> None:
    """Checks the state of a generator, as `generator.bit_generator.state` gives it.

    Args:
        name: Of the state, for messages.
        value: The state; lists may take the place of arrays.

    Raises:
        ValueError: It is none.
    """
    record({"bit_generator": one_of(*_STATES)}, others=anything)(name, value)
    record({"bit_generator": one_of(*_STATES), **_STATES[value["bit_generator"]]})(name, value)


def generator_from(state: Mapping[str, Any]) -> np.random.Generator:
    """A generator in a saved state.

    Raises:
        ValueError: It is no state of one of numpy's generators.
    """
    generator_state("the state of a random generator", state)
    bit_generator = getattr(np.random, state["bit_generator"])()
    bit_generator.state = _with_arrays(state)
    return np.random.Generator(bit_generator)


def _with_arrays(value: Any) -> Any:
    """The same with arrays for lists, which JSON has instead."""
    if isinstance(value, Mapping):
        return {key: _with_arrays(item) for key, item in value.items()}
    return np.array(value, dtype=np.uint64) if isinstance(value, list) else value
