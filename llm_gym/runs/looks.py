"""Files of looks at a run: one a look, numbered by steps, read whole or refused by name.

A file is safetensors. Its metadata have one entry, which is JSON and says the format: safetensors
writes several in no order, and files of equal looks would differ in their bytes.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load, save

from llm_gym.files.schema import Check, parse_json

TRACE = "trace"
"""The folder of looks in the directory of a run."""

_HEADER_BYTES = 8
Tensors = dict[str, NDArray[Any]]
Content = TypeVar("Content")


@dataclass(frozen=True)
class LookFiles:
    """A kind of looks, as files `trace/PREFIX-000000012345.safetensors` of a run's directory.

    Attributes:
        prefix: Of their names.
        called: What one holds, for messages.
        refusal: What is said of a file that is none of them.
        key: Of the metadata.
        format: Which the metadata say.
        check: What else the metadata must say.
    """

    prefix: str
    called: str
    refusal: str
    key: str
    format: str
    check: Check

    def files(self, directory: str | Path) -> list[Path]:
        """Those of a run, oldest first; none if it keeps none."""
        folder = Path(directory) / TRACE
        found = folder.iterdir() if folder.is_dir() else ()
        return sorted((path for path in found if self._number(path)), key=self.step_of)

    def step_of(self, path: Path) -> int:
        """The step that the name of a file says; `ValueError` if it says none."""
        found = self._number(path)
        if found is None:
            raise ValueError(
                f"{path} is no name of {self.called}: {self.prefix}-NUMBER.safetensors"
            )
        return int(found[1])

    def file_of(self, directory: str | Path, step: int) -> Path:
        """Where the look at a step lies."""
        return Path(directory) / TRACE / f"{self.prefix}-{step:012d}.safetensors"

    def _number(self, path: Path) -> re.Match[str] | None:
        return re.fullmatch(rf"{self.prefix}-(\d{{12,}})\.safetensors", path.name)

    def encode(self, told: dict[str, Any], tensors: Tensors) -> bytes:
        """The content of a file.

        Args:
            told: What the metadata say beside the format: JSON-able, without NaN.
            tensors: By name.
        """
        # ASCII: a model may write half a surrogate pair, which is no UTF-8.
        return save(
            tensors, {self.key: json.dumps({"format": self.format, **told}, allow_nan=False)}
        )

    def decode(
        self, content: bytes, where: str, make: Callable[[dict[str, Any], Tensors], Content]
    ) -> Content:
        """What a file holds.

        Args:
            content: All of it.
            where: Its name in messages.
            make: Makes it of what the metadata say beside the format, and of the tensors; raises
                `ValueError`, `LookupError` or `TypeError` if they do not fit together.

        Raises:
            ValueError: The content is damaged, or of another format.
        """
        try:
            size = int.from_bytes(content[:_HEADER_BYTES], "little")
            head = parse_json(content[_HEADER_BYTES : _HEADER_BYTES + size].decode(), where)
            told = parse_json(head["__metadata__"][self.key], where)
            if told["format"] != self.format:
                raise ValueError(f"{where} has format {told['format']!r}, not {self.format!r}")
            tensors = load(content)
        except (SafetensorError, LookupError, TypeError, UnicodeDecodeError) as error:
            raise ValueError(f"{where} {self.refusal}: {type(error).__name__}: {error}") from None
        try:
            self.check("", told)
            del told["format"]
            return make(told, tensors)
        except (ValueError, LookupError, TypeError) as error:
            raise ValueError(f"{where} is damaged: {error}") from error
