"""A trained policy as a file of plain arrays, flown by NumPy alone.

The file needs neither torch nor pickle: `save_network` takes the policy out of a Stable-Baselines3
model, `NetworkPilot.load` flies it.

    from llm_gym_autopilot.pilots.network import NetworkPilot, save_network
    save_network(model, "pilot.npz", steps=1_000_000, seed=0)
    action, _ = NetworkPilot.load("pilot.npz").predict(observation)

It is an `.npz` archive: `weight_0`, `bias_0`, ... of the layers, float32 `(outputs, inputs)` and
`(outputs,)`; `log_std`, float32 `(actions,)`, of the head "clip"; and `metadata`, a JSON text.
"""

from __future__ import annotations

import json
import os
import secrets
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from llm_gym_autopilot import task
from llm_gym_autopilot.movement import positions
from llm_gym_autopilot.pilots.network_checks import (
    ACTIVATIONS,
    OUTPUTS,
    READING_ERRORS,
    check_metadata,
    checked_layers,
    floats,
    read_arrays,
)

if TYPE_CHECKING:
    from stable_baselines3 import DQN, PPO, SAC

__all__ = ["NetworkPilot", "network_of", "save_network"]

Array = NDArray[Any]

_FORMAT = "llm_gym_autopilot network 1"
_LOG_STD_RANGE = (-20.0, 2.0)  # Stable-Baselines3's limits for the head "tanh"


class NetworkPilot:
    """A multilayer perceptron that flies; `predict` is that of the model it was taken from.

    Args:
        weights: Weights of the layers, float `(outputs, inputs)` each.
        biases: Biases of the layers, float `(outputs,)` each.
        metadata: `algorithm`, `activation` ("tanh" or "relu"), `head` ("clip", "tanh" or "argmax"),
            `spread` (whether `deterministic=False` explores), `moves` (None if outputs are
            positions of stick and lever; else they are movements, of which these two numbers are
            the largest: see `movement.MovementActions`) and `provenance`.
        log_std: log standard deviation of each action, float `(2,)`, for the head "clip".
        seed: Seed of exploration.

    Attributes:
        metadata: As given, with `layers` and `discrete`.
        layers: Number of inputs, then of outputs of every layer.
        discrete: Whether it clicks or moves stick and throttle.

    Raises:
        ValueError: Arrays and metadata do not make a network.
    """

    def __init__(
        self,
        weights: Sequence[Array],
        biases: Sequence[Array],
        metadata: dict[str, Any],
        log_std: Array | None = None,
        *,
        seed: int | None = None,
    ) -> None:
        check_metadata(metadata)
        self._head: str = metadata["head"]
        moves = metadata.get("moves")
        self._moves = None if moves is None else (float(moves[0]), float(moves[1]))
        self._activation = ACTIVATIONS[metadata["activation"]]
        self._weights, self._biases = checked_layers(weights, biases)
        self.layers = [self._weights[0].shape[1], *(bias.size for bias in self._biases)]
        self.discrete = self._head == "argmax"
        ends = len(task.OBSERVATION_NAMES), OUTPUTS[self._head]
        if (self.layers[0], self.layers[-1]) != ends:
            raise ValueError(
                f"layers {self.layers} must start with {ends[0]} and end with {ends[1]} for the "
                f"head {self._head!r}"
            )
        if self._head == "clip" and log_std is None:
            raise ValueError("log_std is missing; the head 'clip' needs it")
        self._log_std = np.zeros(0) if log_std is None else floats("log_std", log_std, (2,))
        known = {"format": _FORMAT, "layers": self.layers, "discrete": self.discrete}
        self.metadata = {**metadata, **known}
        self._transposed = [np.ascontiguousarray(weight.T) for weight in self._weights]
        self._rng = np.random.default_rng(seed)

    # ------------------------------------------------------------------ flying

    def predict(
        self,
        observation: Array | dict[str, Array],
        state: tuple[Array, ...] | None = None,
        episode_start: Array | None = None,
        deterministic: bool = True,
    ) -> tuple[Array, tuple[Array, ...] | None]:
        """Action for an observation.

        Args:
            observation: float32 `(11,)` or `(N, 11)`.
            state: Of no consequence: a network has no memory.
            episode_start: Of no consequence either.
            deterministic: The most likely action instead of one drawn as in training.

        Returns:
            Action float32 `(2,)` or `(N, 2)` from -1 to 1, or integers `()` or `(N,)`; and `state`.

        Raises:
            ValueError: The observation has another shape.
        """
        observed = np.asarray(observation, dtype=np.float32)
        if observed.ndim not in (1, 2) or observed.shape[-1] != self.layers[0]:
            raise ValueError(
                f"observation must have shape ({self.layers[0]},) or (N, {self.layers[0]}), got "
                f"{observed.shape}"
            )
        seen = observed
        for weight, bias in zip(self._transposed[:-1], self._biases[:-1], strict=True):
            seen = self._activation(seen @ weight + bias)
        outputs = seen @ self._transposed[-1] + self._biases[-1]
        action = self._choose(outputs, not deterministic and self.metadata["spread"])
        return (action if self._moves is None else positions(observed, action, self._moves)), state

    def _choose(self, outputs: Array, explore: bool) -> Array:
        noise = self._rng.standard_normal
        if self._head == "argmax":
            if explore:  # Gumbel noise on logits draws from their softmax
                outputs = outputs + self._rng.gumbel(size=outputs.shape)
            return np.asarray(outputs.argmax(-1))
        if self._head == "clip":
            if explore:
                outputs = outputs + np.exp(self._log_std) * noise(outputs.shape, np.float32)
            return np.clip(outputs, -1.0, 1.0)
        mean, log_std = np.split(outputs, 2, axis=-1)
        if explore:
            mean = mean + np.exp(np.clip(log_std, *_LOG_STD_RANGE)) * noise(mean.shape, np.float32)
        return np.tanh(mean)

    # ------------------------------------------------------------------ files

    def save(self, path: str | Path) -> Path:
        """Writes the network, whole or not at all.

        Args:
            path: A file name that ends in `.npz`; its folders are made.

        Returns:
            The path.

        Raises:
            ValueError: The name ends otherwise.
        """
        path = Path(path)
        if path.suffix != ".npz":
            raise ValueError(f"path {str(path)!r} must end in .npz")
        arrays: dict[str, Any] = {"metadata": np.array(json.dumps(self.metadata))}
        for index, (weight, bias) in enumerate(zip(self._weights, self._biases, strict=True)):
            arrays[f"weight_{index}"], arrays[f"bias_{index}"] = weight, bias
        if self._head == "clip":
            arrays["log_std"] = self._log_std
        path.parent.mkdir(parents=True, exist_ok=True)
        # A run that goes on knows by such a name what a killed one was writing, and removes it.
        temporary = path.with_name(f".{path.name}.llm_gym-{secrets.token_hex(4)}.tmp")
        try:
            with open(temporary, "xb") as file:
                np.savez(file, **arrays)
            os.replace(temporary, path)
        finally:
            temporary.unlink(missing_ok=True)
        return path

    @classmethod
    def load(cls, path: str | Path, *, seed: int | None = None) -> NetworkPilot:
        """Reads a network; nothing in the file is ever run.

        Args:
            path: File written by `save` or `save_network`.
            seed: Seed of exploration.

        Returns:
            The pilot.

        Raises:
            FileNotFoundError: There is no such file.
            ValueError: It is no network: another format, damaged, or arrays of the wrong shapes.
        """
        path = Path(path)
        try:
            arrays = read_arrays(path)
            metadata = json.loads(str(arrays.pop("metadata")[()]))
            if not isinstance(metadata, dict) or metadata.get("format") != _FORMAT:
                raise ValueError(f"its metadata does not say format {_FORMAT!r}")
            count = sum(name.startswith("weight_") for name in arrays)
            weights = [arrays[f"weight_{index}"] for index in range(count)]
            biases = [arrays[f"bias_{index}"] for index in range(count)]
            return cls(weights, biases, metadata, arrays.get("log_std"), seed=seed)
        except FileNotFoundError:
            raise
        except KeyError as error:
            raise ValueError(f"{path} is no network: {error.args[0]!r} is missing") from None
        except READING_ERRORS as error:
            raise ValueError(f"{path} is no network: {error}") from None


# ---------------------------------------------------------------------- from Stable-Baselines3


def save_network(
    model: PPO | SAC | DQN,
    path: str | Path,
    *,
    moves: tuple[float, float] | None = None,
    **provenance: Any,
) -> NetworkPilot:
    """Takes the policy out of a Stable-Baselines3 model and writes it; see `network_of`.

    Args:
        model: PPO, SAC or DQN.
        path: A file name that ends in `.npz`.
        moves: As in `network_of`.
        **provenance: What to remember of the training (steps, seed, return, ...); JSON values.

    Returns:
        The pilot that was saved.
    """
    pilot = network_of(model, moves=moves, **provenance)
    pilot.save(path)
    return pilot


def network_of(
    model: PPO | SAC | DQN, *, moves: tuple[float, float] | None = None, **provenance: Any
) -> NetworkPilot:
    """The policy of a Stable-Baselines3 model.

    Args:
        model: PPO, SAC or DQN with "MlpPolicy", trained on an autopilot environment.
        moves: `largest` of the `MovementActions` it was trained behind; None if there were none.
        **provenance: What to remember of the training; JSON values.

    Returns:
        A pilot that flies as the model does.

    Raises:
        TypeError: Another algorithm.
        ValueError: Another kind of network.
        ImportError: Stable-Baselines3 is missing.
    """
    try:
        from stable_baselines3 import DQN, PPO, SAC
    except ImportError as error:
        raise ImportError("a model's network needs pip install stable-baselines3") from error
    policy: Any = getattr(model, "policy", None)
    log_std = None
    if isinstance(model, PPO):
        stages = [*policy.mlp_extractor.policy_net, policy.action_net]
        if hasattr(policy, "log_std"):
            log_std = policy.log_std.detach().cpu().numpy()
        algorithm, head = "PPO", "argmax" if log_std is None else "clip"
    elif isinstance(model, SAC):
        stages = [*policy.actor.latent_pi, (policy.actor.mu, policy.actor.log_std)]
        algorithm, head = "SAC", "tanh"
    elif isinstance(model, DQN):
        stages, algorithm, head = [*policy.q_net.q_net], "DQN", "argmax"
    else:
        raise TypeError(f"model must be PPO, SAC or DQN of Stable-Baselines3, got {type(model)}")
    weights, biases, activation = _layers_of(stages)
    metadata = {
        "algorithm": algorithm,
        "activation": activation,
        "head": head,
        "spread": algorithm != "DQN",  # DQN explores by a schedule, which is not of the network
        "moves": moves,
        "provenance": provenance,
    }
    return NetworkPilot(weights, biases, metadata, log_std)


def _layers_of(stages: Sequence[Any]) -> tuple[list[Array], list[Array], str]:
    """Weights and biases of linear layers, and the activation that stands between any two."""
    between = {type(stage).__name__.lower() for stage in stages[1::2]}
    if len(between) > 1 or not between <= set(ACTIVATIONS):
        raise ValueError(
            f"the network's activations are {', '.join(sorted(between))}; it must have one of "
            f"{', '.join(ACTIVATIONS)}"
        )
    weights, biases = [], []
    for stage in stages[::2]:
        parts = stage if isinstance(stage, tuple) else (stage,)
        weights.append(np.concatenate([part.weight.detach().cpu().numpy() for part in parts]))
        biases.append(np.concatenate([part.bias.detach().cpu().numpy() for part in parts]))
    return weights, biases, between.pop() if between else "tanh"
