"""What each process of a run has of its own, in a checkpoint that the first of them writes.

Weights, optimizer, counters and what is known of returns and divergence are equal in all processes.
Its own are a process's random states, its environment and its last observations. Those of the first
lie where those of a run in one process do, those of the others in files beside, one each.
"""

from __future__ import annotations

import json
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.torch import save

from llm_gym.files.schema import record
from llm_gym.learning.joined import draw_otherwise
from llm_gym.parallel import world
from llm_gym.runs.checkpoint_schema import STATE
from llm_gym.runs.training_state import Tensors, collect

if TYPE_CHECKING:
    from stable_baselines3.common.on_policy_algorithm import OnPolicyAlgorithm

_FILE = "process-{}.safetensors"
_VALUES = ("last_episode_starts", "random", "environment", "own")
_TENSORS = ("last_obs.", "random.")
_KEY = "values"  # of the metadata of a file


class OtherProcessesWarning(UserWarning):
    """A run goes on in another number of processes than it was saved by."""


def packed(values: Mapping[str, Any], tensors: Tensors) -> bytes:
    """This process's own part of a state, as the content of a file."""
    own = {name: values[name] for name in _VALUES}
    tensors = {name: t.cpu() for name, t in tensors.items() if name.startswith(_TENSORS)}
    return save(tensors, {_KEY: json.dumps(own)})


def write(directory: Path, everyone: list[bytes]) -> None:
    """Writes the parts of all processes but the first."""
    for rank, content in enumerate(everyone[1:], start=1):
        (directory / _FILE.format(rank)).write_bytes(content)


def with_own(
    algorithm: OnPolicyAlgorithm, directory: Path, values: dict[str, Any], tensors: Tensors
) -> tuple[dict[str, Any], Tensors]:
    """A state that was read from a checkpoint, with this process's own part.

    Where the checkpoint is of another number of processes the parts of its own begin anew, which a
    warning says.

    Args:
        algorithm: Built as the saved one was.
        directory: The checkpoint.
        values: As `checkpoint_schema.STATE` says.
        tensors: By name.

    Raises:
        ValueError: The part of this process cannot be read.
    """
    processes, saved = world(), 1 + len(list(directory.glob(_FILE.format("*"))))
    if saved == processes.size:
        if processes.rank == 0:
            return values, tensors
        own, own_tensors = _read(directory / _FILE.format(processes.rank))
    else:
        if processes.rank == 0:
            warnings.warn(
                f"{directory} was saved by {saved} process(es), and the run goes on in "
                f"{processes.size}: weights, optimizer, counters, the KL coefficient and the scale "
                "of rewards are as they were; prompts begin anew, answers that were not finished "
                "are given up, and other tokens are drawn",
                OtherProcessesWarning,
                stacklevel=4,
            )
        own, own_tensors = _begun_anew(algorithm, values["num_timesteps"])
        own["own"] = values["own"] | {k: v for k, v in own["own"].items() if k == "unfinished"}
    kept = {name: t for name, t in tensors.items() if not name.startswith(_TENSORS)}
    return values | own, kept | own_tensors


def _read(path: Path) -> tuple[dict[str, Any], Tensors]:
    try:
        with safe_open(path, "pt") as file:
            values = json.loads((file.metadata() or {})[_KEY])
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError, KeyError, ValueError) as error:
        raise ValueError(f"{path} is corrupt: {error}") from error
    record({name: STATE[name] for name in _VALUES})(str(path), values)
    return values, tensors


def _begun_anew(algorithm: OnPolicyAlgorithm, num_timesteps: int) -> tuple[dict[str, Any], Tensors]:
    """The own part of a process that begins in the middle of a run."""
    assert algorithm.env is not None
    draw_otherwise(algorithm, num_timesteps)
    before = algorithm._last_obs, algorithm._last_episode_starts
    algorithm._last_obs = algorithm.env.reset()  # type: ignore[assignment]
    algorithm._last_episode_starts = np.ones(algorithm.n_envs, dtype=bool)
    values, tensors = collect(algorithm)
    algorithm._last_obs, algorithm._last_episode_starts = before
    own = {name: values[name] for name in _VALUES}
    return own, {name: t for name, t in tensors.items() if name.startswith(_TENSORS)}
