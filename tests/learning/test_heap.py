"""Free memory goes back to the system where that is worth it, and nowhere else."""

from __future__ import annotations

import platform

import pytest
import torch

from llm_gym.learning import heap
from tests.learning.online_worlds import MODEL, make, small_env

LARGE = torch.nn.Linear(2**12, 2**12, bias=False)  # 64 MiB


def calls(monkeypatch) -> list[int]:
    made: list[int] = []
    monkeypatch.setattr(heap, "_malloc_trim", lambda: made.append)
    return made


def test_only_large_weights_on_the_cpu_are_worth_it(monkeypatch):
    made = calls(monkeypatch)
    heap.trim(torch.nn.Linear(2**12, 2**12 - 1, bias=False))
    heap.trim(torch.nn.Linear(2**12, 2**12, bias=False, device="meta"))
    assert made == []
    heap.trim(LARGE)
    assert made == [0]


def test_other_allocators_are_left_alone(monkeypatch):
    monkeypatch.setattr(heap, "_malloc_trim", lambda: None)
    heap.trim(LARGE)


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="needs glibc")
def test_glibc_has_it():
    assert heap._malloc_trim() is not None
    heap.trim(LARGE)


def test_what_a_rollout_has_read_is_gone_before_the_update(tiny_dir, monkeypatch):
    model = tiny_dir("gpt2", **MODEL)
    algorithm = make("RLOO", model, small_env(model, group_size=4))
    kept = []
    monkeypatch.setattr(
        algorithm, "train", lambda: kept.append(algorithm.transformer.actor_trunk._cache)
    )
    algorithm.learn(1)
    assert kept == [None]
