"""Numbers that training cannot bear: a sample of the benchmark's runs, through the command."""

from __future__ import annotations

import pytest
from safetensors.torch import load_file, save_file

from benchmarks.faults.numerics import World, faults, problems, tried

ENDS = {
    "train ppo lr 1e6": 1,
    "train rloo scores 1e39": 2,
    "train grpo kl_coef 1e30": 1,
    "train rloo scores 1e30": 1,
    "train ppo huge weights": 2,
    "pretrain lr 1e30": 1,
    "sft lr 1e30": 1,
    "dpo lr 1e30": 1,
    "reward-model lr 1e30": 1,
}


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    return World(tmp_path_factory.mktemp("world"))


def test_there_are_56_different_ones(world):
    assert len({fault.name for fault in faults(world)}) == len(list(faults(world))) == 56


@pytest.mark.parametrize("name", ENDS)
def test_a_run_ends_sound_or_with_one_sentence_and_nothing_bad_kept(world, tmp_path, name):
    (fault,) = (fault for fault in faults(world) if fault.name == name)
    outcome = tried(fault, tmp_path / "run")
    assert not outcome.problems
    assert outcome.code == ENDS[name], outcome.sentence


def test_the_benchmark_sees_a_bad_checkpoint(world, tmp_path):
    fault = next(fault for fault in faults(world) if fault.name == "train rloo scores zero")
    assert not tried(fault, tmp_path / "run").problems
    (weights,) = (tmp_path / "run" / "model").glob("model.safetensors")
    tensors = load_file(weights)
    tensors["transformer.wte.weight"][0, 0] = float("nan")
    save_file(tensors, weights, metadata={"format": "pt"})
    assert list(problems(0, "", tmp_path / "run")) == [
        "model/model.safetensors: transformer.wte.weight is not finite",
        "model: is no model to load",
    ]
