"""Weights on the disk: the same numbers, in memory only while they are read."""

from __future__ import annotations

import mmap
import tempfile
from pathlib import Path

import pytest
import torch

from llm_gym.language_models.mapped import MappedWeights


def parameters() -> list[torch.nn.Parameter]:
    torch.manual_seed(0)
    many = torch.randn(3, 5)
    half, transposed = torch.randn(7).bfloat16(), torch.randn(4, 6).T
    tensors = (many, half, transposed, torch.empty(0, 3), torch.tensor(2.5, dtype=torch.float64))
    return [torch.nn.Parameter(tensor, requires_grad=False) for tensor in tensors]


def test_numbers_types_and_shapes_are_as_they_were():
    expected, mapped = parameters(), parameters()
    weights = MappedWeights([*mapped, mapped[0]])
    assert weights.nbytes == sum(p.nbytes for p in expected)
    for _ in range(2):
        for ours, theirs in zip(mapped, expected, strict=True):
            assert ours.dtype == theirs.dtype
            assert torch.equal(ours, theirs)
        weights.release()


def test_no_file_is_left(tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    weights = MappedWeights(parameters())
    assert not list(tmp_path.iterdir())
    weights.release()


@pytest.mark.skipif(not Path("/proc/self/smaps").exists(), reason="needs Linux's /proc")
def test_released_weights_are_not_in_memory(tmp_path):
    if tempfile.gettempdir() == "/dev/shm":
        pytest.skip("temporary files are in memory here")
    large = torch.nn.Parameter(torch.ones(2**21), requires_grad=False)  # 8 MiB
    weights = MappedWeights([large])

    def resident() -> int:
        """KiB of the mapping that the weights are in."""
        found, inside = 0, False
        for line in Path("/proc/self/smaps").read_text().splitlines():
            if "-" in line.split()[0] and not line.split()[0].endswith(":"):
                start, stop = (int(end, 16) for end in line.split()[0].split("-"))
                inside = start <= large.data_ptr() < stop
            elif inside and line.startswith("Rss:"):
                found = int(line.split()[1])
        return found

    assert resident() == 0
    assert float(large.sum()) == 2**21
    assert resident() >= 8 * 1024
    weights.release()
    assert resident() == 0
    assert float(large[-1]) == 1.0


def test_a_tensor_that_was_written_to_is_not_forgotten_in_silence():
    mapped = parameters()
    weights = MappedWeights(mapped)
    mapped[1].zero_()
    with pytest.raises(ValueError, match="were written to"):
        weights.release()


def test_what_cannot_be_mapped_is_refused(monkeypatch):
    with pytest.raises(ValueError, match="weights on meta"):
        MappedWeights([torch.nn.Parameter(torch.empty(3, device="meta"))])
    monkeypatch.delattr(mmap, "MADV_DONTNEED")
    with pytest.raises(ValueError, match="keep them in memory"):
        MappedWeights(parameters())
