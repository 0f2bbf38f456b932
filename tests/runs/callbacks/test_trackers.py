"""Trackers, against modules that write down what they are told."""

from __future__ import annotations

import io
import sys
from dataclasses import replace
from types import ModuleType, SimpleNamespace

import pytest
from rich.console import Console

from llm_gym.stages.train import TrainConfig, load_config, train


class Wandb(ModuleType):
    def __init__(self):
        super().__init__("wandb")
        self.begun, self.logged, self.finished = [], [], 0

    def init(self, **settings):
        self.begun.append(settings)
        return SimpleNamespace(id="abc123", log=self._log, finish=self._finish)

    def _log(self, row, step):
        self.logged.append((step, row))

    def _finish(self):
        self.finished += 1


class MLflow(ModuleType):
    def __init__(self):
        super().__init__("mlflow")
        self.experiments, self.begun, self.params, self.logged, self.ended = [], [], [], [], 0

    def set_experiment(self, name):
        self.experiments.append(name)

    def start_run(self, run_id=None, run_name=None):
        self.begun.append((run_id, run_name))
        return SimpleNamespace(info=SimpleNamespace(run_id="f00"))

    def log_params(self, params):
        self.params.append(params)

    def log_metrics(self, row, step):
        self.logged.append((step, row))

    def end_run(self):
        self.ended += 1


@pytest.fixture
def config(tiny_dir, tmp_path):
    prompts = tmp_path / "prompts.txt"
    prompts.write_text("w1 w2\nw3\n")
    return TrainConfig(
        model=tiny_dir(), prompts=str(prompts), scorer="length:3", max_new_tokens=4, num_envs=4,
        batch_size=16, device="cpu", total_tokens=32, wandb="letters", mlflow="emails",
    )  # fmt: skip


@pytest.fixture
def trackers(monkeypatch):
    modules = Wandb(), MLflow()
    for module in modules:
        monkeypatch.setitem(sys.modules, module.__name__, module)
    return modules


def silent():
    return Console(file=io.StringIO())


def test_figures_and_settings_arrive(config, trackers, tmp_path):
    wandb, mlflow = trackers
    history = train(tmp_path / "run", config, console=silent()).history
    [begun] = wandb.begun
    assert (begun["project"], begun["name"], begun["id"]) == ("letters", "run", None)
    assert begun["config"]["learning_rate"] == 1e-4  # what was used, not only what was said
    assert begun["config"]["prompt_format"] == "{prompt}"
    assert mlflow.experiments == ["emails"]
    assert mlflow.params == [begun["config"]]
    for logged in (wandb.logged, mlflow.logged):
        assert [{"step": step, **row} for step, row in logged] == history.rows
        assert any("rollout/ep_rew_mean" in row for _, row in logged)
        assert all(type(value) is float for _, row in logged for value in row.values())
    assert (wandb.finished, mlflow.ended) == (1, 1)


def test_a_resumed_run_is_the_same_run(config, trackers, tmp_path):
    wandb, mlflow = trackers
    train(tmp_path / "run", config, console=silent())
    longer = replace(load_config(tmp_path / "run"), total_tokens=48)
    train(tmp_path / "run", longer, resume=True, console=silent())
    assert [begun["id"] for begun in wandb.begun] == [None, "abc123"]
    assert [run for run, _ in mlflow.begun] == [None, "f00"]
    assert len(mlflow.params) == 1  # MLflow refuses a parameter that changes


@pytest.mark.parametrize("library", ["wandb", "mlflow"])
def test_a_missing_library_is_named_with_its_extra(library, config, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, library, None)
    only = replace(config, **{"wandb": None, "mlflow": None, library: "x"})
    message = rf'--{library} needs {library}: pip install "llm-gym\[{library}\]"'
    with pytest.raises(ImportError, match=message):
        train(tmp_path / "run", only, console=silent())


def test_nothing_is_imported_for_a_run_without_them(config, trackers, tmp_path):
    wandb, mlflow = trackers
    train(tmp_path / "run", replace(config, wandb=None, mlflow=None), console=silent())
    assert wandb.begun == mlflow.begun == []
