"""Free memory goes back to the system where that is worth it, and nowhere else."""

from __future__ import annotations

import platform

import pytest
import torch

from llm_gym.learning import heap
from tests.learning.online_worlds import MODEL, make, small_env

LARGE = torch.nn.Linear(2**12, 2**12, bias=False)  # 64 MiB


@pytest.fixture
def calls(monkeypatch):
    """What the C library is asked, by name."""
    made: list[tuple[str, ...]] = []
    monkeypatch.setattr(heap, "_function", lambda name: lambda *args: made.append((name, *args)))
    for name in heap._SETTINGS:
        monkeypatch.delenv(name, raising=False)
    return made


def keep(model):
    with heap.kept(model):
        pass


@pytest.mark.parametrize("ask", [heap.trim, keep])
def test_only_large_weights_on_the_cpu_are_worth_it(calls, ask):
    ask(torch.nn.Linear(2**12, 2**12 - 1, bias=False))
    ask(torch.nn.Linear(2**12, 2**12, bias=False, device="meta"))
    assert calls == []
    ask(LARGE)
    assert calls


def test_memory_is_kept_in_the_block_and_not_behind_it(calls):
    before = [("mallopt", -3, 32 * 2**20), ("mallopt", -1, -1)]

    def fail():
        assert calls == before
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError), heap.kept(LARGE):
        fail()
    assert calls == [*before, ("mallopt", -1, 64 * 2**20)]


@pytest.mark.parametrize("name", heap._SETTINGS)
def test_what_the_environment_sets_is_left_as_it_is(calls, monkeypatch, name):
    monkeypatch.setenv(name, "1")
    keep(LARGE)
    assert calls == []


@pytest.mark.parametrize("ask", [heap.trim, keep])
def test_other_allocators_are_left_alone(monkeypatch, ask):
    monkeypatch.setattr(heap, "_function", lambda name: None)
    ask(LARGE)


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="needs glibc")
@pytest.mark.parametrize("name", ["malloc_trim", "mallopt"])
def test_glibc_has_it(name):
    assert heap._function(name) is not None
    heap.trim(LARGE)
    keep(LARGE)


@pytest.mark.parametrize(
    ("options", "spares"),
    [
        ({"kl_coef": 0.0}, False),
        ({"kl_coef": 0.1}, False),
        ({"kl_coef": 0.1, "reference_weights": "disk"}, True),
        ({"kl_coef": 0.1, "reference_weights": "bfloat16"}, True),
        ({"kl_coef": 0.1, "policy_kwargs": {"lora": {"r": 1}}}, True),
    ],
    ids=str,
)
def test_memory_goes_back_where_somebody_asked_for_less(
    tiny_dir, monkeypatch, calls, options, spares
):
    monkeypatch.setattr(heap, "LARGE_BYTES", 0)
    model = tiny_dir("gpt2", **MODEL)
    make("RLOO", model, small_env(model, group_size=4), **options).learn(1)
    trims = [("malloc_trim", 0)] * 2
    keeps = [("mallopt", -3, 2**25), ("mallopt", -1, -1), ("mallopt", -1, 2**26)]
    assert calls == (trims if spares else keeps)


def test_what_a_rollout_has_read_is_gone_before_the_update(tiny_dir, monkeypatch):
    model = tiny_dir("gpt2", **MODEL)
    algorithm = make("RLOO", model, small_env(model, group_size=4))
    kept = []
    monkeypatch.setattr(
        algorithm, "train", lambda: kept.append(algorithm.transformer.actor_trunk._cache)
    )
    algorithm.learn(1)
    assert kept == [None]
