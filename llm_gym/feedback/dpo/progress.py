"""What an unfinished DPO run leaves behind, so that the same command goes on where it stopped."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from llm_gym.files import atomic, owned
from llm_gym.runs.directory import read_object, refuse_another_run

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from llm_gym.feedback.dpo.preference_pairs import EncodedPreference

RECORD = "progress.json"
TENSORS = "progress.safetensors"
KIND = "unfinished run of DPO"


@dataclass
class Progress:
    """An unfinished run: a directory beside the one that it will become.

    Attributes:
        directory: `NAME-unfinished` beside the output directory.
        settings: What the run depends on; another run is not continued.
        step: Gradient steps taken.
        statistics: What was noted at each step, by name.
        tensors: log-probabilities of the reference, parameters, Adam's moments.
    """

    directory: Path
    settings: dict[str, Any]
    step: int = 0
    statistics: dict[str, list[float]] = field(default_factory=dict)
    tensors: dict[str, torch.Tensor] = field(default_factory=dict)

    @classmethod
    def beside(cls, output: str | Path, settings: Mapping[str, Any]) -> Progress:
        """The unfinished run that belongs to an output directory, or a new one.

        Raises:
            ValueError: It is a run with other settings or data, or its files are corrupt.
        """
        output = Path(output)
        progress = cls(output.with_name(f"{output.name}-unfinished"), dict(settings))
        owned.recover_directory(progress.directory)
        if (progress.directory / RECORD).is_file():
            progress._load()
        return progress

    def _load(self) -> None:
        advice = f"finish that run with its own settings, or delete {self.directory}"
        try:
            record = read_object(self.directory / RECORD)
            tensors = load_file(self.directory / TENSORS)
            saved, step, statistics = record["settings"], record["step"], record["statistics"]
        except (OSError, ValueError, KeyError, TypeError, SafetensorError) as error:
            raise ValueError(f"{self.directory} is corrupt ({error}); delete it") from error
        refuse_another_run(self.directory, saved, self.settings, advice)
        self.step, self.statistics, self.tensors = step, statistics, tensors

    def save(
        self, model: PreTrainedModel | None = None, optimizer: torch.optim.Optimizer | None = None
    ) -> None:
        """Writes everything, whole or not at all.

        Args:
            model: Its parameters; None before the first step.
            optimizer: With its moments.
        """
        if model is not None and optimizer is not None:
            self.tensors |= {f"model.{name}": p for name, p in model.named_parameters()}
            for index, moments in optimizer.state_dict()["state"].items():
                self.tensors |= {f"adam.{index}.{name}": v for name, v in moments.items()}
        tensors = {
            name: value.detach().cpu().contiguous().clone() for name, value in self.tensors.items()
        }
        record = {"settings": self.settings, "step": self.step, "statistics": self.statistics}
        with owned.replace_directory(self.directory, KIND) as temporary:
            save_file(tensors, temporary / TENSORS)
            atomic.write_json(temporary / RECORD, record)

    @torch.no_grad()
    def restore(self, model: PreTrainedModel, optimizer: torch.optim.Optimizer) -> None:
        """Puts parameters and moments back, if a step has been taken."""
        if not self.step:
            return
        for name, parameter in model.named_parameters():
            parameter.copy_(self.tensors[f"model.{name}"])
        state: dict[int, dict[str, torch.Tensor]] = {}
        for key, value in self.tensors.items():
            if key.startswith("adam."):
                _, index, name = key.split(".")
                state.setdefault(int(index), {})[name] = value
        optimizer.load_state_dict(
            {"state": state, "param_groups": optimizer.state_dict()["param_groups"]}
        )

    def note(self, **values: float) -> None:
        """Notes the statistics of a step that has been taken."""
        self.step += 1
        for name, value in values.items():
            self.statistics.setdefault(name, []).append(value)

    def remove(self) -> None:
        """Deletes the directory, once its run is finished."""
        if self.directory.exists():
            owned.remove_directory(self.directory, KIND)


def data_digest(preferences: Sequence[EncodedPreference]) -> str:
    """A fingerprint of the token ids and weights of encoded preferences."""
    rows = [
        (row.chosen.prompt_ids, row.chosen.completion_ids, row.rejected.completion_ids, row.weight)
        for row in preferences
    ]
    return hashlib.sha256(json.dumps(rows).encode()).hexdigest()
