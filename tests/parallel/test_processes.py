"""What one process makes of what all have said, without starting any."""

from __future__ import annotations

import pytest
import torch
from stable_baselines3.common.save_util import load_from_zip_file

from llm_gym.learning.joined import joined
from llm_gym.parallel import World
from llm_gym.parallel.processes import number_started
from llm_gym.parallel.torchrun import _BUCKET, _buckets
from tests.tiny_runs import tiny_ppo


class Told(World):
    """One of several, of which it is told what they say."""

    size = 3

    def __init__(self, *said):
        self.said = said

    def each(self, value):
        return list(self.said)


def test_means_weigh_by_tokens_and_are_over_those_that_have_a_figure():
    told = Told([1, {"a": 2.0, "b": 0.1}], [3, {"a": 4.0}], [5, {"b": 0.1}])
    assert told.means({}, 0) == {"a": 3.5, "b": 0.1}  # to the bit where all are equal


def test_figures_of_processes_without_tokens_weigh_alike():
    assert Told([0, {"a": 1.0}], [0, {"a": 2.0}], [0, {}]).means({}, 0) == {"a": 1.5}


@pytest.mark.parametrize(("launcher", "number"), [("TORCHELASTIC_RUN_ID", 4), ("SLURM_JOB_ID", 1)])
def test_processes_of_another_launcher_are_runs_of_their_own(launcher, number, monkeypatch):
    monkeypatch.delenv("TORCHELASTIC_RUN_ID", raising=False)
    monkeypatch.setenv(launcher, "x")
    monkeypatch.setenv("WORLD_SIZE", "4")
    assert number_started() == number


def test_buckets_have_all_parameters_once_of_one_type_and_within_their_size():
    most = _BUCKET // 4  # numbers in float32
    sizes = [most // 2, most // 2, 1, most + 1, 2, most // 3]
    parameters = [torch.empty(size, device="meta") for size in sizes]
    parameters.insert(2, torch.empty(5, dtype=torch.float16, device="meta"))
    found = list(_buckets(parameters))
    assert sorted(id(p) for bucket in found for p in bucket) == sorted(map(id, parameters))
    for bucket in found:
        assert len({p.dtype for p in bucket}) == 1
        assert len(bucket) == 1 or sum(p.nbytes for p in bucket) <= _BUCKET
    assert len(found) == 5


class Same(World):
    """The first of two that say the same."""

    size = 2

    def each(self, value):
        return [value, value]


def test_what_joins_processes_is_not_saved_and_is_gone_afterwards(tiny_dir, tmp_path, monkeypatch):
    monkeypatch.setattr("llm_gym.learning.joined.world", Same)
    algorithm = tiny_ppo(tiny_dir())
    algorithm.save(tmp_path / "alone")
    before = set(vars(algorithm))
    with joined(algorithm):
        assert set(vars(algorithm)) > before
        algorithm.save(tmp_path / "joined")
    assert set(vars(algorithm)) == before
    data = [load_from_zip_file(tmp_path / name)[0].keys() for name in ("alone", "joined")]
    assert data[0] == data[1]
