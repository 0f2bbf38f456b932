"""Two processes that `torchrun` starts learn what one would from the episodes of both."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from llm_gym.parallel import world
from tests.learning.online_worlds import MODEL

WORKER = Path(__file__).with_name("two_processes.py")
ROOT = WORKER.parents[2]


def torchrun(*command: object, processes: int = 2) -> list[str]:
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    return [*launcher, "--nproc-per-node", str(processes), *map(str, command)]


def environment() -> dict[str, str]:
    path = os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
    return {**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1"}


@pytest.fixture(scope="module")
def found(tiny_dir, tmp_path_factory):
    results = tmp_path_factory.mktemp("parallel") / "results.json"
    command = torchrun(WORKER, tiny_dir("gpt2", **MODEL), results)
    done = subprocess.run(command, capture_output=True, text=True, env=environment(), timeout=300)
    assert done.returncode == 0, done.stderr
    return json.loads(results.read_text())


def test_gradients_are_those_of_one_process_on_all_episodes(found):
    differences = found["gradients"]
    assert len(differences) > 13
    assert max(differences.values()) <= 1e-10, differences


def test_weights_counters_and_figures_are_equal_in_all_processes(found):
    for name, run in found["equal"].items():
        first, second = run["weights"]
        assert first == second, name
        first, second = run["known"]
        assert first == second, name
        tokens, updates, lengths, _ = first
        assert tokens >= 300
        assert updates > 1
        assert len(lengths) > 30
        first, second = run["observed"]
        assert first != second, f"{name}: both processes have played the same"


def test_tokens_of_all_processes_are_counted(found):
    tokens = found["equal"]["PPO"]["known"][0][0]
    assert tokens % (2 * 4 * 9) == 0
    assert found["stop"] == [2 * (2 * 4 * 9)] * 2  # in the second rollout, played to its end


def test_one_divergence_stops_an_update_in_all_processes(found):
    early = found["early"]
    (few, same), (many, also) = early["1e-09"], early["1000000000.0"]
    assert few == same
    assert many == also == 3 * few
    for target in ("1e-09", "1000000000.0"):
        assert len(set(early[f"{target} weights"])) == 1


def test_a_process_may_have_nothing_to_learn_from(found):
    assert len(set(found["nothing"]["weights"])) == 1
    assert found["nothing"]["updates"] > 1


def test_what_is_put_together(found):
    assert found["means"] == {
        "means": {"everywhere": pytest.approx(2 / 3), "here": 7.0},
        "union": [0, 0, 1],
        "nothing": [0, 2],
        "sums": [pytest.approx(0.2), 4.0],
        "of first": ["rank", 0],
    }


def test_gradients_of_every_type_are_summed_by_their_shares(found):
    # 0.25 times the first process's and 0.75 times the second's; the fourth has one of the first.
    assert found["buckets"] == [0.75, 1.75, 2.75, 0.75, None]


def test_a_process_alone_is_all_there_is():
    processes = world()
    array = np.arange(3)
    assert (processes.rank, processes.size) == (0, 1)
    assert processes.union(array) is array
    assert processes.sums(1, 0.1) == [1, 0.1]
    assert processes.means({"a": 0.1}, 3) == {"a": 0.1}
    assert processes.of_first("x") == "x"
    assert not processes.any(False)
