"""What makes arrays and metadata a network, and a file one: all that may be wrong with them."""

from __future__ import annotations

import zipfile
import zlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from llm_gym_autopilot import task

Array = NDArray[Any]

_MAX_BYTES = 64 * 2**20  # of all arrays; ours take 0.05
_MAX_LAYERS = 16
ACTIVATIONS: dict[str, Callable[[Array], Array]] = {
    "tanh": np.tanh,
    "relu": lambda x: np.maximum(x, np.float32(0)),
}
OUTPUTS = {
    "clip": 2,  # means of the actions, which are cut off at -1 and 1 (PPO)
    "tanh": 4,  # means and log standard deviations of actions before a tanh (SAC)
    "argmax": task.NUM_ACTIONS,  # logits or values of the discrete actions (PPO, DQN)
}

# What a damaged archive or JSON text may raise, damaged by accident or on purpose.
READING_ERRORS = (
    ValueError, OSError, EOFError, RuntimeError, MemoryError, zipfile.BadZipFile, zlib.error,
)  # fmt: skip


def read_arrays(path: Path) -> dict[str, Array]:
    """Arrays of an `.npz` archive by name, without unpickling anything.

    Args:
        path: The archive.

    Returns:
        The arrays.

    Raises:
        ValueError: They are too large. A damaged file raises any of `READING_ERRORS`.
    """
    with zipfile.ZipFile(path) as archive:
        size = sum(entry.file_size for entry in archive.infolist())
    if size > _MAX_BYTES:
        raise ValueError(f"its arrays take {size} bytes, more than {_MAX_BYTES}")
    with np.load(path, allow_pickle=False) as archive:
        return {name: archive[name] for name in archive.files}


def check_metadata(metadata: dict[str, Any]) -> None:
    """Refuses metadata that `NetworkPilot` cannot fly by.

    Args:
        metadata: As `NetworkPilot` takes it.

    Raises:
        ValueError: An entry is missing or unknown.
    """
    for key, allowed in (("head", OUTPUTS), ("activation", ACTIVATIONS)):
        if not isinstance(metadata.get(key), str) or metadata[key] not in allowed:
            raise ValueError(f"{key} {metadata.get(key)!r} must be one of {', '.join(allowed)}")
    moves = metadata.get("moves")
    if moves is not None and (
        metadata["head"] == "argmax"
        or not isinstance(moves, (list, tuple))
        or len(moves) != 2
        or not all(isinstance(move, (int, float)) and 0 < move <= 2 for move in moves)
    ):
        raise ValueError(
            f"moves {moves!r} must be null, or for stick and throttle two numbers from 0 to 2"
        )
    if not isinstance(metadata.get("spread"), bool):
        raise ValueError(f"spread {metadata.get('spread')!r} must be true or false")


def checked_layers(
    weights: Sequence[Array], biases: Sequence[Array]
) -> tuple[list[Array], list[Array]]:
    """Layers that fit each other, as float32.

    Args:
        weights: float `(outputs, inputs)` each.
        biases: float `(outputs,)` each.

    Returns:
        Weights and biases.

    Raises:
        ValueError: There are too few or too many, or their shapes do not fit.
    """
    if not 1 <= len(weights) <= _MAX_LAYERS or len(biases) != len(weights):
        raise ValueError(
            f"it has {len(weights)} weights and {len(biases)} biases; there must be as many of "
            f"both, 1 to {_MAX_LAYERS}"
        )
    checked_weights, checked_biases = [], []
    inputs: int | None = None
    for index, (weight, bias) in enumerate(zip(weights, biases, strict=True)):
        shape = np.shape(weight)
        if len(shape) != 2 or 0 in shape or inputs not in (None, shape[1]):
            raise ValueError(
                f"weight_{index} has shape {shape}, expected (outputs, {inputs or 'inputs'})"
            )
        checked_weights.append(floats(f"weight_{index}", weight, shape))
        checked_biases.append(floats(f"bias_{index}", bias, shape[:1]))
        inputs = shape[0]
    return checked_weights, checked_biases


def floats(name: str, values: Array, shape: tuple[int, ...]) -> Array:
    """An array as float32.

    Args:
        name: Name of the array, for the error.
        values: Floating numbers.
        shape: That it must have.

    Returns:
        A copy.

    Raises:
        ValueError: Another shape or type, or values that are not finite.
    """
    if not np.issubdtype(np.asarray(values).dtype, np.floating):
        raise ValueError(f"{name} is of {np.asarray(values).dtype}, expected float32")
    array = np.array(values, dtype=np.float32)
    if array.shape != shape:
        raise ValueError(f"{name} has shape {array.shape}, expected {shape}")
    if not np.isfinite(array).all():
        raise ValueError(f"{name} has values that are not finite")
    return array
