"""What an unfinished DPO run leaves behind, so that the same command goes on where it stopped."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from llm_gym.files import atomic, owned
from llm_gym.files.schema import anything, check_file, list_of, number, record, whole
from llm_gym.runs import misfit
from llm_gym.runs.directory import read_object, refuse_another_run
from llm_gym.runs.training_state import below

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from llm_gym.feedback.dpo.preference_pairs import EncodedPreference

RECORD = "progress.json"
TENSORS = "progress.safetensors"
KIND = "unfinished run of DPO"


_CONTENT = record(
    {
        "settings": record({}, others=anything),
        "step": whole(),
        "statistics": record({}, others=list_of(number())),
    }
)


@dataclass
class Progress:
    """An unfinished run: a directory beside the one that it will become.

    Attributes:
        directory: `NAME-unfinished` beside the output directory.
        settings: What the run depends on; another run is not continued.
        defaults: Of settings that a run knows nothing of which began before they were.
        step: Gradient steps taken.
        statistics: What was noted at each step, by name.
        tensors: log-probabilities of the reference, parameters, Adam's moments.
    """

    directory: Path
    settings: dict[str, Any]
    defaults: dict[str, Any]
    step: int = 0
    statistics: dict[str, list[float]] = field(default_factory=dict)
    tensors: dict[str, torch.Tensor] = field(default_factory=dict)

    @classmethod
    def beside(
        cls,
        output: str | Path,
        settings: Mapping[str, Any],
        defaults: Mapping[str, Any] = MappingProxyType({}),
    ) -> Progress:
        """The unfinished run that belongs to an output directory, or a new one.

        Raises:
            ValueError: It is a run with other settings or data, or its files are corrupt.
        """
        output = Path(output)
        unfinished = output.with_name(f"{output.name}-unfinished")
        progress = cls(unfinished, dict(settings), dict(defaults))
        owned.recover_directory(progress.directory)
        if (progress.directory / RECORD).is_file():
            progress._load()
        return progress

    def _load(self) -> None:
        advice = f"finish that run with its own settings, or delete {self.directory}"
        try:
            problem = owned.damage(self.directory, KIND)
            if problem is not None:
                raise ValueError(problem)
            content = read_object(self.directory / RECORD)
            check_file(self.directory / RECORD, _CONTENT, content)
            tensors = load_file(self.directory / TENSORS)
        except (OSError, ValueError, SafetensorError) as error:
            raise ValueError(f"{self.directory} is corrupt ({error}); delete it") from error
        there, defaults = content["settings"], self.defaults
        refuse_another_run(self.directory, there, self.settings, advice, defaults=defaults)
        self.step, self.statistics, self.tensors = content["step"], content["statistics"], tensors

    def save(
        self, model: PreTrainedModel | None = None, optimizer: torch.optim.Optimizer | None = None
    ) -> None:
        """Writes everything, whole or not at all.

        Args:
            model: Its parameters, but for frozen ones; None before the first step.
            optimizer: With its moments.
        """
        if model is not None and optimizer is not None:
            self.tensors |= {f"model.{name}": p for name, p in _learnt(model)}
            for index, moments in optimizer.state_dict()["state"].items():
                self.tensors |= {f"adam.{index}.{name}": v for name, v in moments.items()}
        tensors = {
            name: value.detach().cpu().contiguous().clone() for name, value in self.tensors.items()
        }
        content = {"settings": self.settings, "step": self.step, "statistics": self.statistics}
        with owned.replace_directory(self.directory, KIND) as temporary:
            save_file(tensors, temporary / TENSORS)
            atomic.write_json(temporary / RECORD, content)

    @torch.no_grad()
    def restore(self, model: PreTrainedModel, optimizer: torch.optim.Optimizer) -> None:
        """Puts parameters and moments back, if a step has been taken.

        Raises:
            ValueError: They are not those of this model; neither is changed then.
        """
        if not self.step:
            return
        try:
            self._check_fit(model, optimizer)
        except ValueError as error:
            path = self.directory / TENSORS
            raise ValueError(f"{path} does not fit: {error}; delete {self.directory}") from error
        for name, parameter in _learnt(model):
            parameter.copy_(self.tensors[f"model.{name}"])
        state: dict[int, dict[str, torch.Tensor]] = {}
        for key, value in self.tensors.items():
            if key.startswith("adam."):
                _, index, name = key.split(".")
                state.setdefault(int(index), {})[name] = value
        optimizer.load_state_dict(
            {"state": state, "param_groups": optimizer.state_dict()["param_groups"]}
        )

    def _check_fit(self, model: PreTrainedModel, optimizer: torch.optim.Optimizer) -> None:
        for name, parameter in _learnt(model):
            if f"model.{name}" not in self.tensors:
                raise ValueError(f"model.{name} is missing")
            saved = self.tensors[f"model.{name}"]
            misfit.check_tensor(f"model.{name}", saved, parameter.shape, parameter.dtype)
        moments = below(self.tensors, "adam.")
        misfit.check_moments(optimizer, {key.partition(".")[0]: {} for key in moments}, moments)

    def note(self, **values: float) -> None:
        """Notes the statistics of a step that has been taken."""
        self.step += 1
        for name, value in values.items():
            self.statistics.setdefault(name, []).append(value)

    def remove(self) -> None:
        """Deletes the directory, once its run is finished."""
        if self.directory.exists():
            owned.remove_directory(self.directory, KIND)


def _learnt(model: PreTrainedModel) -> list[tuple[str, torch.nn.Parameter]]:
    """What a run changes of a model."""
    return [(name, p) for name, p in model.named_parameters() if p.requires_grad]


def data_digest(preferences: Sequence[EncodedPreference]) -> str:
    """A fingerprint of the token ids and weights of encoded preferences."""
    rows = [
        (row.chosen.prompt_ids, row.chosen.completion_ids, row.rejected.completion_ids, row.weight)
        for row in preferences
    ]
    return hashlib.sha256(json.dumps(rows).encode()).hexdigest()
