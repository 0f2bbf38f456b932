"""Two processes that `torchrun` starts learn what one would from the episodes of both."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from llm_gym.files import owned
from llm_gym.parallel import world
from llm_gym.runs.checkpoint import load_checkpoint
from llm_gym.runs.own_state import OtherProcessesWarning
from tests.learning.online_worlds import MODEL
from tests.parallel.two_processes import ROWS, digest, learner, small_steps

WORKER = Path(__file__).with_name("two_processes.py")
ROOT = WORKER.parents[2]

pytestmark = pytest.mark.slow


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
    assert len(differences) > 10
    assert max(differences.values()) <= 1e-10, differences


def test_weights_counters_and_figures_are_equal_in_all_processes(found):
    for name, run in found["equal"].items():
        first, second = run["weights"]
        assert first == second, name
        first, second = run["known"]
        assert first == second, name
        tokens, updates, lengths, _ = first
        assert tokens >= 150
        assert updates > 1
        assert len(lengths) > 20
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


def test_weights_that_one_process_has_changed_are_found(found):
    first, second = found["differ"]
    assert "weights of process 1 and process 0 differ" in first
    assert "weights of process 0 and process 1 differ" in second


@pytest.mark.gpu
def test_gradients_on_devices_are_those_of_one_process(tiny_dir, tmp_path):
    import torch

    if torch.cuda.device_count() < 2:
        pytest.skip("NCCL needs a CUDA device for each of two processes")
    results = tmp_path / "results.json"
    command = torchrun(WORKER, tiny_dir("gpt2", **MODEL), results)
    env = {**environment(), "LLM_GYM_TEST_DEVICE": "cuda"}
    done = subprocess.run(command, capture_output=True, text=True, env=env, timeout=600)
    assert done.returncode == 0, done.stderr
    found = json.loads(results.read_text())
    assert max(found["gradients"].values()) <= 1e-10
    assert all(len(set(run["weights"])) == 1 for run in found["equal"].values())


def test_a_process_may_have_nothing_to_learn_from(found):
    assert len(set(found["nothing"]["weights"])) == 1
    assert found["nothing"]["updates"] > 1


def test_a_checkpoint_goes_on_bit_for_bit_in_as_many_processes(found):
    for name, run in found["goes on"].items():
        assert run["whole"] == run["resumed"], name
        assert run["whole"][0][0] == run["whole"][1][0], name  # weights
        assert run["whole"][0][2] != run["whole"][1][2], f"{name}: both draw the same"


def test_a_checkpoint_of_two_processes_goes_on_in_one(found, tiny_dir):
    directory, weights = found["goes on"]["PPO"]["checkpoint"]
    model = tiny_dir("gpt2", **MODEL)
    algorithm = learner("PPO", model, ROWS, **small_steps("PPO", model))
    with pytest.warns(OtherProcessesWarning, match=r"saved by 2 process.* goes on in 1:.*anew"):
        metadata = load_checkpoint(algorithm, directory)
    assert digest(algorithm) == weights
    assert algorithm.num_timesteps == metadata["num_timesteps"] > 0
    moments = algorithm.policy.optimizer.state_dict()["state"]
    assert len(moments) == len(metadata["optimizer"]["scalars"])
    state = algorithm.get_state()
    assert state["kl_coef"] == metadata["own"]["kl_coef"]
    assert state["return_statistics"] == metadata["own"]["return_statistics"]
    before = algorithm.num_timesteps
    algorithm.learn(1, reset_num_timesteps=False)
    assert algorithm.num_timesteps > before
    assert digest(algorithm) != weights


def test_a_checkpoint_of_one_process_goes_on_in_two(found):
    run = found["from one"]
    assert [len(told) for told in run["told"]] == [1, 0]  # the first says it
    assert "saved by 1 process" in run["told"][0][0]
    assert run["before"][0] == run["before"][1]
    assert run["before"][0][2] == 2 * 2 * 4 * 9  # tokens, counted on
    assert run["first"][0] != run["first"][1]
    assert run["after"][0] == run["after"][1]
    assert run["after"][0][1] == 3 * 2 * 4 * 9


def test_a_damaged_part_of_a_process_is_named(found, tmp_path):
    directory = Path(found["goes on"]["PPO"]["checkpoint"][0])
    copy = shutil.copytree(directory, tmp_path / "copy")
    (copy / "process-1.safetensors").write_bytes(b"")
    assert "process-1.safetensors" in owned.damage(copy, "checkpoint")


def test_a_run_is_one_directory_that_the_first_process_writes(found):
    run = found["run"]
    for name in ("checkpoints", "model", "report.html", "metrics.jsonl", "best"):
        assert name in run["files"]
    steps = run["rows"]
    assert steps == sorted(steps)
    assert steps[-1] >= 300
    assert len(set(steps)) >= len(steps) - 2  # the last update of each call has a row of its own
    assert run["evaluations"] == [[["after", "before"]] * 2, [[], []]]
    assert run["checkpoints"][0] == run["checkpoints"][1]


def test_what_is_put_together(found):
    assert found["means"] == {
        "means": {"everywhere": pytest.approx(2 / 3), "here": 7.0},
        "union": [0, 0, 1],
        "nothing": [0, 2],
        "unions": [[0, 0, 1], [], [6, 6, 6]],
        "long": [2 * 1400, 700],
        "longest": [True] * 6,
        "sums": [pytest.approx(0.2), 4.0],
        "of first": ["rank", 0],
    }


def test_gradients_of_every_type_are_summed_by_their_shares(found):
    # 0.25 times the first process's and 0.75 times the second's; the fourth has one of the first.
    shares_memory, *ways = found["buckets"]
    assert shares_memory == hasattr(os, "memfd_create")
    assert ways == [[0.75, 1.75, 2.75, 0.75, None, [pytest.approx(1.2), 1.0]]] * 2


def test_a_process_alone_is_all_there_is():
    processes = world()
    array = np.arange(3)
    assert (processes.rank, processes.size) == (0, 1)
    assert processes.union(array) is array
    assert processes.sums(1, 0.1) == [1, 0.1]
    assert processes.means({"a": 0.1}, 3) == {"a": 0.1}
    assert processes.of_first("x") == "x"
    assert not processes.any(False)
