"""Checkpoints that are damaged, and checkpoints that lie: each must be refused by name.

The files of a checkpoint are damaged; single bits of `checkpoint.json` are flipped; and values and
tensors are replaced by wrong ones while all digests are made to fit. Loading must end in one
sentence with a path of the checkpoint in it, and leave the algorithm as it was, bit for bit.
"""

from __future__ import annotations

import json
import pickle
import random
import shutil
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeAlias

import torch
from safetensors.torch import load_file, save_file

from benchmarks.faults.lies import Lie, lies
from benchmarks.faults.rows import Row
from llm_gym.files import owned
from llm_gym.runs.checkpoint import KIND, METADATA, TENSORS, load_checkpoint, save_checkpoint
from llm_gym.runs.training_state import collect

BIT_FLIPS = 90

Outcome: TypeAlias = tuple[str, "str | None"]
"""What was done, and what is wrong with how it was refused; None if nothing is."""


def _halved(path: Path) -> None:
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])


def _flipped(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def _longer(path: Path) -> None:
    path.write_bytes(path.read_bytes() + b"\0" * 10)


def _a_directory(path: Path) -> None:
    path.unlink()
    path.mkdir()


DAMAGES: dict[str, Callable[[Path], Any]] = {
    "missing": Path.unlink,
    "empty": lambda path: path.write_bytes(b""),
    "half": _halved,
    "a flipped bit": _flipped,
    "garbage": lambda path: path.write_bytes(random.Random(3).randbytes(500)),  # noqa: S311
    "a pickle": lambda path: path.write_bytes(pickle.dumps({"weights": [1, 2]})),
    "longer": _longer,
    "a directory": _a_directory,
}


class Target:
    """An algorithm, a checkpoint of it, and a place for broken copies.

    Args:
        root: Directory for all of that.
    """

    def __init__(self, root: Path) -> None:
        root.mkdir(parents=True, exist_ok=True)
        self.algorithm = _tiny_algorithm(root / "tiny")
        self.algorithm.learn(40)
        self.whole = save_checkpoint(self.algorithm, root / "whole")
        self.broken = root / "broken"
        self.algorithm.learn(40, reset_num_timesteps=False)  # so that loading would change it

    @property
    def files(self) -> list[str]:
        """All files of the checkpoint."""
        return [owned.MARKER, *owned.present_files(self.whole)]

    def copy(self) -> Path:
        """A fresh copy of the checkpoint."""
        shutil.rmtree(self.broken, ignore_errors=True)
        return Path(shutil.copytree(self.whole, self.broken))

    def tell(self, lie: Lie) -> None:
        """Makes a copy that lies, with digests that fit."""
        directory = self.copy()
        values = json.loads((directory / METADATA).read_text(encoding="utf-8"))
        tensors = load_file(directory / TENSORS)
        lie.tell(values, tensors)
        (directory / METADATA).write_text(json.dumps(values), encoding="utf-8")
        save_file(tensors, directory / TENSORS)
        self.seal()

    def seal(self) -> None:
        """Lets the digests of the copy say what is there."""
        (self.broken / owned.MARKER).unlink()
        owned.write_marker(self.broken, KIND, files=owned.manifest(self.broken))

    def problem(self, *, may_load: bool = False) -> str | None:
        """What is wrong with how the copy was refused; None if nothing is.

        Args:
            may_load: Whether it may be taken for good.
        """
        values, tensors = _frozen(self.algorithm)
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                load_checkpoint(self.algorithm, self.broken)
        except ValueError as error:
            said = str(error)
        except Exception as error:  # a defect: the report names it
            return f"{type(error).__name__}: {error}"
        else:
            load_checkpoint(self.algorithm, self.whole)
            return None if may_load else "it was loaded"
        if str(self.broken) not in said:
            return f"does not say where: {said}"
        if "\n" in said:
            return f"more than one line: {said}"
        values_now, tensors_now = _frozen(self.algorithm)
        changed = [k for k in tensors if not torch.equal(tensors[k], tensors_now[k])]
        changed += [k for k in values if values[k] != values_now[k]]
        return f"changed {changed[0]}, though it was refused" if changed else None


def _tiny_algorithm(model: Path) -> Any:
    import gymnasium as gym

    import llm_gym
    from llm_gym.testing.tiny import save_tiny_model

    env = gym.make_vec(
        "llm_gym/TextGeneration-v0",
        num_envs=4,
        tokenizer=save_tiny_model(model),
        prompts=["w1 w2", "w3", "w4 w5 w6", "w7", "w8 w9"],
        scorer=lambda prompts, completions: [float(len(text)) for text in completions],
        max_new_tokens=8,
        autoreset_mode="SameStep",
    )
    return llm_gym.PPO(
        "TransformerPolicy", env, n_steps=10, batch_size=20, n_epochs=1, kl_coef=0.1,
        seed=3, device="cpu", policy_kwargs={"model": str(model)},
    )  # fmt: skip


def _frozen(algorithm: Any) -> tuple[dict[str, Any], dict[str, torch.Tensor]]:
    values, tensors = collect(algorithm)
    return values, {name: tensor.clone() for name, tensor in tensors.items()}


def damaged_files(target: Target, every: int = 1) -> Iterator[Outcome]:
    """Each file, damaged in each way."""
    ways = [(name, what) for name in target.files for what in DAMAGES]
    for name, what in ways[::every]:
        DAMAGES[what](target.copy() / name)
        yield f"{name}: {what}", target.problem()


def flipped_bits(target: Target, every: int = 1, *, sealed: bool) -> Iterator[Outcome]:
    """Single bits of `checkpoint.json`, flipped.

    Args:
        target: The checkpoint.
        every: How many to leave out for one that is tried.
        sealed: Whether the digests are made to fit. A digit that is another digit can be as good.
    """
    size = (target.whole / METADATA).stat().st_size
    places = random.Random(7).sample(range(8 * size), BIT_FLIPS)  # noqa: S311
    for place in places[::every]:
        path = target.copy() / METADATA
        content = bytearray(path.read_bytes())
        content[place // 8] ^= 1 << place % 8
        path.write_bytes(content)
        if sealed:
            target.seal()
        yield f"bit {place}", target.problem(may_load=sealed)


def told_lies(target: Target, every: int = 1) -> Iterator[Outcome]:
    """Each lie, with digests that fit."""
    for lie in lies()[::every]:
        target.tell(lie)
        yield lie.what, target.problem()


def measure(output: Path, quick: bool) -> list[Row]:
    """Tries them all, or a sample.

    Args:
        output: Directory for the checkpoints.
        quick: Every eighth only.

    Returns:
        A row for each kind of damage.
    """
    target, every = Target(output / "checkpoints"), 8 if quick else 1
    flipped = flipped_bits(target, every, sealed=False)
    sealed = flipped_bits(target, every, sealed=True)
    kinds = {
        "damaged files of a checkpoint: refused by name": damaged_files(target, every),
        "one flipped bit of checkpoint.json: refused by name": flipped,
        "the same with digests that fit: refused by name, or within every range": sealed,
        "lies with digests that fit: refused by name": told_lies(target, every),
    }
    rows = []
    for what, outcomes in kinds.items():
        found = list(outcomes)
        failures = [f"{name}: {problem}" for name, problem in found if problem]
        rows.append(Row(what, len(found) - len(failures), len(found), failures))
    return rows
