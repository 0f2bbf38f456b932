"""Figures of a run to Weights & Biases or MLflow, as writers of Stable-Baselines3's logger."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from typing import Any

from stable_baselines3.common.logger import KVWriter

from llm_gym.files import atomic
from llm_gym.files.schema import check_file, read_json, record, text
from llm_gym.runs.callbacks.history import finite_numbers

RUNS = "trackers.json"
"""Where a run keeps its ids with the trackers, to go on under the same when it is resumed."""


class WandbWriter(KVWriter):
    """Logs to Weights & Biases; `WANDB_MODE=offline` and its other variables are wandb's own.

    Args:
        project: Name of the project.
        settings: Of the run.
        directory: Of the run: wandb's files go there.
        resume: Go on with the run of before.

    Raises:
        ImportError: wandb is not installed.
    """

    def __init__(
        self, project: str, settings: Mapping[str, Any], directory: Path, *, resume: bool = False
    ) -> None:
        wandb = _imported("wandb")
        known = _known_runs(directory).get("wandb") if resume else None
        self._run = wandb.init(
            project=project,
            config=dict(settings),
            dir=str(directory),
            name=directory.name,
            id=known,
            resume="allow",
        )
        _remember(directory, "wandb", self._run.id)

    def write(
        self, key_values: dict[str, Any], key_excluded: dict[str, tuple[str, ...]], step: int = 0
    ) -> None:
        """Logs the finite numbers of a dump; called by `Logger.dump`."""
        self._run.log(finite_numbers(key_values), step=step)

    def close(self) -> None:
        """Ends the run."""
        self._run.finish()


class MLflowWriter(KVWriter):
    """Logs to MLflow; `MLFLOW_TRACKING_URI` says where to, as always.

    Args:
        experiment: Name of the experiment; made if there is none.
        settings: Of the run, logged as its parameters.
        directory: Of the run, whose name it gets.
        resume: Go on with the run of before, which has its parameters already.

    Raises:
        ImportError: mlflow is not installed.
    """

    def __init__(
        self, experiment: str, settings: Mapping[str, Any], directory: Path, *, resume: bool = False
    ) -> None:
        self._mlflow = _imported("mlflow")
        known = _known_runs(directory).get("mlflow") if resume else None
        self._mlflow.set_experiment(experiment)
        run = self._mlflow.start_run(run_id=known, run_name=directory.name)
        if known is None:
            self._mlflow.log_params(dict(settings))
        _remember(directory, "mlflow", run.info.run_id)

    def write(
        self, key_values: dict[str, Any], key_excluded: dict[str, tuple[str, ...]], step: int = 0
    ) -> None:
        """Logs the finite numbers of a dump; called by `Logger.dump`."""
        self._mlflow.log_metrics(finite_numbers(key_values), step=step)

    def close(self) -> None:
        """Ends the run."""
        self._mlflow.end_run()


def _imported(library: str) -> Any:
    try:
        return import_module(library)
    except ImportError as error:
        raise ImportError(
            f'--{library} needs {library}: pip install "llm-gym[{library}]" ({error})'
        ) from error


def _known_runs(directory: Path) -> dict[str, str]:
    path = directory / RUNS
    if not path.is_file():
        return {}
    known: dict[str, str] = read_json(path)
    check_file(path, record({}, others=text), known)
    return known


def _remember(directory: Path, tracker: str, run: str) -> None:
    atomic.write_json(directory / RUNS, {**_known_runs(directory), tracker: run})
