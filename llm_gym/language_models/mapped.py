"""Weights that lie on the disk, and are in memory only while somebody reads them."""

from __future__ import annotations

import mmap
import tempfile
from collections.abc import Iterable
from typing import IO

import torch

_ALIGNMENT = 64  # bytes; wider than any number, and what vector instructions like


class MappedWeights:
    """Puts tensors into a file without a name and maps that in their place.

    The file is deleted as soon as it is open: nothing is left of it when the process ends, however
    it ends. It lies where temporary files do (`tempfile.gettempdir()`, which follows `TMPDIR`);
    where that is a file system in memory, nothing is gained.

    Args:
        parameters: On the CPU and frozen; tensors that occur twice are written once.

    Attributes:
        nbytes: Bytes that `release` gives back.

    Raises:
        ValueError: A parameter is not on the CPU, or the system cannot give such memory back.
    """

    def __init__(self, parameters: Iterable[torch.nn.Parameter]) -> None:
        if not hasattr(mmap, "MADV_DONTNEED"):
            raise ValueError(
                "weights on disk need a system that gives mapped memory back (Linux, macOS): keep "
                "them in memory"
            )
        self._parameters = [p for p in {id(p): p for p in parameters}.values() if p.numel()]
        elsewhere = [p.device for p in self._parameters if p.device.type != "cpu"]
        if elsewhere:
            raise ValueError(f"weights on {elsewhere[0]} cannot be mapped: only the CPU's can")
        self.nbytes = sum(p.nbytes for p in self._parameters)
        with tempfile.TemporaryFile(prefix="llm-gym-") as file:
            places = [self._write(file, parameter) for parameter in self._parameters]
            file.flush()
            self._map = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY)
        for parameter, place in zip(self._parameters, places, strict=True):
            flat = torch.frombuffer(
                self._map, dtype=parameter.dtype, count=parameter.numel(), offset=place
            )
            parameter.data = flat.view(parameter.shape)
        self._versions = self._written()
        self.release()

    @staticmethod
    def _write(file: IO[bytes], parameter: torch.nn.Parameter) -> int:
        """Appends a tensor; returns where it begins, in bytes."""
        place = -(-file.tell() // _ALIGNMENT) * _ALIGNMENT
        file.seek(place)
        flat = parameter.detach().contiguous().flatten().view(torch.uint8)
        file.write(flat.numpy().data)
        return place

    def _written(self) -> list[int]:
        return [parameter._version for parameter in self._parameters]

    def release(self) -> None:
        """Gives the memory back; the next reader finds the numbers in the file.

        Raises:
            ValueError: Somebody wrote to a tensor, which the file knows nothing of.
        """
        if self._written() != self._versions:
            raise ValueError(
                "weights that lie on the disk were written to, and would be lost: they are frozen; "
                "make a new model of other weights"
            )
        self._map.madvise(mmap.MADV_DONTNEED)
