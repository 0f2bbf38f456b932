"""What a GGUF file says of itself before its weights: read within bounds, as from a stranger.

The layout is that of https://github.com/ggml-org/ggml/blob/master/docs/gguf.md. Every count in it
is held against the bytes that are left before anything is made of it, so that no number in a file
makes this program take memory or time.
"""

from __future__ import annotations

import math
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

MAGIC = b"GGUF"
VERSIONS = (2, 3)
_COUNT, _TYPE, _TEXT, _LIST = 10, 4, 8, 9  # types of values, by their numbers in the file
_ALIGNMENT = 32
_MOST_DIMENSIONS = 4
_LONGEST_NAME = 65_535
_MOST_ELEMENTS = 10_000_000  # of all lists; the largest vocabularies with their merges have 2

# Bytes and struct's letter of each plain type of a value, by its number in the file.
_PLAIN: dict[int, tuple[int, str]] = {
    0: (1, "B"),
    1: (1, "b"),
    2: (2, "H"),
    3: (2, "h"),
    4: (4, "I"),
    5: (4, "i"),
    6: (4, "f"),
    7: (1, "?"),
    10: (8, "Q"),
    11: (8, "q"),
    12: (8, "d"),
}


@dataclass(frozen=True)
class GGUFTensor:
    """Where a tensor is.

    Attributes:
        name: As llama.cpp calls it.
        shape: Lengths of its dimensions, the fastest first.
        kind: Number of its type of numbers or of blocks.
        offset: Its first byte, counted from where tensors begin.
    """

    name: str
    shape: tuple[int, ...]
    kind: int
    offset: int

    @property
    def numbers(self) -> int:
        """How many numbers it holds."""
        return math.prod(self.shape)


@dataclass(frozen=True)
class GGUFHeader:
    """The part of a GGUF file before its weights.

    Attributes:
        path: The file.
        metadata: Values by key. Lists are left out; their lengths are in `lengths`.
        lengths: Of the lists, by key.
        tensors: All of them.
        data_start: Byte of the file at which tensors begin.
        size: Bytes of the file.
    """

    path: Path
    metadata: dict[str, Any]
    lengths: dict[str, int]
    tensors: tuple[GGUFTensor, ...]
    data_start: int
    size: int

    @property
    def numbers(self) -> int:
        """How many numbers all tensors hold."""
        return sum(tensor.numbers for tensor in self.tensors)


def read_header(path: str | Path) -> GGUFHeader:
    """Reads what stands before the weights of a GGUF file.

    Args:
        path: The file.

    Returns:
        Its metadata and where its tensors are.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: It is no GGUF file, of another version or byte order, cut off, or says numbers
            that no file of its size can hold.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"there is no file {str(path)!r}")
    with path.open("rb") as file:
        reader = _Reader(path, file, path.stat().st_size)
        _check_beginning(path, reader)
        tensors, pairs = reader.number(_COUNT), reader.number(_COUNT)
        # A pair has at least a length, a type and a value; a tensor a length, a count, a type and
        # an offset.
        reader.holds(pairs, 13, "entries")
        reader.holds(tensors, 24, "tensors")
        metadata: dict[str, Any] = {}
        lengths: dict[str, int] = {}
        for _ in range(pairs):
            key, kind = reader.text(_LONGEST_NAME), reader.number(_TYPE)
            if kind == _LIST:
                lengths[key] = reader.skip_list()
                if sum(lengths.values()) > _MOST_ELEMENTS:
                    raise ValueError(
                        f"{path} has lists of more than {_MOST_ELEMENTS:,} elements before its "
                        "weights, which no tokenizer needs; it is damaged"
                    )
            else:
                metadata[key] = reader.text() if kind == _TEXT else reader.number(kind)
        found = tuple(reader.tensor() for _ in range(tensors))
        end = file.tell()
    alignment = metadata.get("general.alignment", _ALIGNMENT)
    if not (isinstance(alignment, int) and 0 < alignment <= 2**20):
        raise ValueError(f"{path} is damaged: general.alignment={alignment!r}")
    start = -(-end // alignment) * alignment
    return GGUFHeader(path, metadata, lengths, found, start, path.stat().st_size)


def _check_beginning(path: Path, reader: _Reader) -> None:
    magic = reader.file.read(4)
    if magic != MAGIC:
        raise ValueError(
            f"{path} is no GGUF file: it begins with {magic!r}, not {MAGIC!r}; give a model in "
            "llama.cpp's format (.gguf)"
        )
    version = reader.number(_TYPE)
    if version not in VERSIONS:
        swapped = int.from_bytes(version.to_bytes(4, "little"), "big")
        what = "in the byte order of other machines" if swapped in VERSIONS else f"v{version}"
        raise ValueError(
            f"{path} is a GGUF file {what}, and {' and '.join(f'v{each}' for each in VERSIONS)} "
            "in little-endian order are read; convert it again with llama.cpp"
        )


@dataclass
class _Reader:
    """Reads values one after the other, and refuses what goes beyond the file."""

    path: Path
    file: BinaryIO
    size: int

    def holds(self, count: int, bytes_each: int, of_what: str) -> None:
        """Refuses a count for which the rest of the file has no room."""
        if count * bytes_each > self.size - self.file.tell():
            raise ValueError(
                f"{self.path} is cut off or damaged: it announces {count:,} {of_what}, and "
                f"{self.size - self.file.tell():,} bytes are left; download or copy it again"
            )

    def number(self, kind: int) -> Any:
        if kind not in _PLAIN:
            raise ValueError(f"{self.path} is damaged: it has a value of the unknown type {kind}")
        width, letter = _PLAIN[kind]
        self.holds(1, width, "values")
        return struct.unpack(f"<{letter}", self.file.read(width))[0]

    def text(self, longest: int | None = None) -> str:
        length = self.number(_COUNT)
        self.holds(length, 1, "characters")
        if longest is not None and length > longest:
            raise ValueError(f"{self.path} is damaged: it has a name of {length:,} characters")
        return self.file.read(length).decode("utf-8", errors="replace")

    def skip_list(self) -> int:
        """Goes behind a list, whose elements nobody needs here; returns its length."""
        kind, count = self.number(_TYPE), self.number(_COUNT)
        if kind in _PLAIN:
            self.holds(count, _PLAIN[kind][0], "elements")
            self.file.seek(count * _PLAIN[kind][0], 1)
        elif kind == _TEXT:
            self.holds(count, 8, "texts")
            for _ in range(count):
                length = self.number(_COUNT)
                self.holds(length, 1, "characters")
                self.file.seek(length, 1)
        else:
            raise ValueError(f"{self.path} is damaged: it has a list of the unknown type {kind}")
        return int(count)

    def tensor(self) -> GGUFTensor:
        name, dimensions = self.text(_LONGEST_NAME), self.number(_TYPE)
        if not 0 < dimensions <= _MOST_DIMENSIONS:
            raise ValueError(
                f"{self.path} is damaged: tensor {name!r} has {dimensions:,} dimensions"
            )
        shape = tuple(self.number(_COUNT) for _ in range(dimensions))
        return GGUFTensor(name, shape, kind=self.number(_TYPE), offset=self.number(_COUNT))
