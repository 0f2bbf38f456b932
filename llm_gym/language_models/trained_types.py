"""Types in which weights are trained: what is refused, and what is said.

Weights in float16 write answers and are not trained, nor is anything that reads them. A gradient
passes through them in their own type. Without a factor on the loss, which nobody here puts there,
what is below 6e-8 becomes 0, what is below 6e-5 is coarse, and what is above 65504 becomes
infinite, and NaN in the layer below.

bfloat16 has the range of float32 and eight bits of every number: its gradients are right to a
twentieth or so, and small steps are lost.
"""

from __future__ import annotations

import warnings
from contextlib import suppress
from pathlib import Path
from typing import Any

from llm_gym.language_models.adapter_files import base_of, is_adapter
from llm_gym.language_models.embedded import resolve
from llm_gym.language_models.memory import stored_numbers

#: Why, and what to do.
FLOAT16 = (
    "weights in float16 cannot be trained, nor an adapter on them: small gradients vanish in that "
    "type and large ones become infinite; take bfloat16 or float32"
)


COARSE = (
    "the weights are trained in bfloat16, so a step that is smaller than a 256th of a weight is "
    "lost: it learns less than float32 does, in half the memory; a LoRA adapter (--lora-rank 8, "
    "lora=dict(r=8)) is trained in float32 on weights in bfloat16"
)


class PrecisionWarning(UserWarning):
    """Numbers are so coarse that a part of what is learnt is lost."""


def say_coarse(stacklevel: int = 1) -> None:
    """Says, as a warning, that steps of weights in bfloat16 are rounded away."""
    warnings.warn(COARSE, PrecisionWarning, stacklevel=stacklevel + 2)


def is_coarse(name_or_path: str | Path, dtype: str) -> bool:
    """Whether a model that is trained whole would be trained in bfloat16.

    Args:
        name_or_path: As for `load_causal_lm`; of an adapter, that alone is trained, in float32.
        dtype: Type that its weights are to have, or `"auto"`.
    """
    source = resolve(name_or_path)
    if is_adapter(source):
        return False
    return dtype == "bfloat16" or (dtype == "auto" and "BF16" in stored_numbers(source))


def refuse_float16(dtype: str) -> None:
    """Raises `ValueError` for the type in which nothing is trained, with what to do."""
    if dtype == "float16":
        raise ValueError(f"dtype='float16': {FLOAT16}")


def refuse_training(name_or_path: str | Path, dtype: str) -> None:
    """Refuses to train a model, or an adapter on it, whose weights would be float16.

    Args:
        name_or_path: As for `load_causal_lm`; of a model that is on the hub alone nothing is known.
        dtype: Type that its weights are to have, or `"auto"`.

    Raises:
        ValueError: They would be, with what to do.
    """
    refuse_float16(dtype)
    if dtype != "auto":
        return
    source = resolve(name_or_path)
    with suppress(ValueError, OSError):  # what is wrong with it is said where it is loaded
        source = base_of(source) if is_adapter(source) else source
    if "F16" in stored_numbers(source):
        raise ValueError(
            f"dtype='auto' is float16 in the files of {str(name_or_path)!r}: {FLOAT16}"
        )


def refuse_step(*_: Any) -> None:
    """Refuses a step of what reads weights in float16: a hook to run before it.

    Raises:
        ValueError: Always.
    """
    raise ValueError(FLOAT16)
