"""What lies in the directory of a run: its settings, the prompts, and a record of each stage.

A stage is finished when its record is there, and the record is written last. Files that a run was
given are remembered by their content, so that nothing is continued with other data unnoticed.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any, NamedTuple

from llm_gym.files import atomic
from llm_gym.stages.rlhf.settings import RLHFConfig

__all__ = ["STAGES", "Places", "Record", "begin", "once", "read_record"]

STAGES = ("pretrain", "sft", "compare", "reward-model", "ppo")
"""Names of the stages, in their order; each is also the command that does the same by itself."""

_INPUTS = ("text", "pairs", "prompts")  # settings that name a file
_FREE = ("enough_votes", "shown_prompts")  # what may change between two calls: nothing is redone


class Places(NamedTuple):
    """Where a run keeps what it makes."""

    root: Path

    @property
    def base(self) -> Path:
        """The pre-trained model."""
        return self.root / "base"

    @property
    def sft(self) -> Path:
        """The fine-tuned model."""
        return self.root / "sft"

    @property
    def store(self) -> Path:
        """Comparisons and votes."""
        return self.root / "comparisons.db"

    @property
    def reward_model(self) -> Path:
        """The reward model."""
        return self.root / "reward-model"

    @property
    def ppo(self) -> Path:
        """Checkpoints, curves and samples of PPO."""
        return self.root / "ppo"

    @property
    def model(self) -> Path:
        """The model at the end of the road."""
        return self.root / "model"

    @property
    def settings(self) -> Path:
        """Settings of the run, and hashes of the files it was given."""
        return self.root / "settings.json"

    @property
    def summary(self) -> Path:
        """All figures; written last of all."""
        return self.root / "summary.json"

    @property
    def report(self) -> Path:
        """The page."""
        return self.root / "report.html"

    def prompts(self, split: str) -> Path:
        """The prompts of "train" or "held-out"."""
        return self.root / "prompts" / f"{split}.jsonl"

    def answers(self, stage: str) -> Path:
        """What the model of a stage wrote to the held-out prompts."""
        return self.root / "evaluations" / f"{stage}.json"

    def record(self, stage: str) -> Path:
        """The record of a stage."""
        return self.root / "stages" / f"{STAGES.index(stage) + 1}-{stage}.json"


class Record(NamedTuple):
    """A finished stage.

    Attributes:
        stage: One of `STAGES`.
        fingerprint: Fingerprint of the run's settings and files; the same in all records of a run.
        figures: What was measured, JSON-able.
        seconds: Wall-clock time since the stage was last begun.
    """

    stage: str
    fingerprint: str
    figures: dict[str, Any]
    seconds: float


def begin(settings: RLHFConfig, output: str | Path) -> Places:
    """Opens the directory of a run, or goes on with it.

    Args:
        settings: Settings of the run.
        output: Its directory.

    Returns:
        Its places.

    Raises:
        ValueError: It holds a run with other settings, or one whose files have changed since.
        FileNotFoundError: A file that the settings name is not there.
    """
    places = Places(Path(output))
    wanted = {"settings": asdict(settings), "files": _digests(settings)}
    if not places.settings.exists():
        # A hidden file is what a kill left of the settings while they were written.
        there = list(places.root.iterdir()) if places.root.exists() else []
        if any(not path.name.startswith(".") for path in there):
            raise ValueError(
                f"{places.root} is not empty and holds no run of rlhf (it has no "
                f"{places.settings.name}); choose another output"
            )
        atomic.write_json(places.settings, wanted)
        return places
    found = _read_json(places.settings)
    _refuse_other(found, wanted, places.root)
    if found != wanted:
        atomic.write_json(places.settings, wanted)
    return places


def once(
    stage: str,
    settings: RLHFConfig,
    output: str | Path,
    work: Callable[[Places], dict[str, Any] | None],
) -> Record | None:
    """Does the work of a stage, unless it is done.

    Args:
        stage: One of `STAGES`.
        settings: Settings of the run.
        output: Its directory.
        work: Returns the figures; None if it was stopped before its end.

    Returns:
        The record; None if the work was stopped.

    Raises:
        ValueError: See `begin`, or an earlier stage is not finished.
    """
    places = begin(settings, output)
    done = read_record(places, stage)
    if done is not None:
        return done
    for earlier in STAGES[: STAGES.index(stage)]:
        if read_record(places, earlier) is None:
            raise ValueError(f"stage {stage} in {places.root} needs stage {earlier} to be finished")
    started = time.perf_counter()
    figures = work(places)
    if figures is None:
        return None
    record = Record(stage, _fingerprint(places), figures, time.perf_counter() - started)
    atomic.write_json(places.record(stage), record._asdict())
    return record


def read_record(places: Places, stage: str) -> Record | None:
    """The record of a stage; None if it is not finished.

    Raises:
        ValueError: The record is damaged, or belongs to other settings.
    """
    path = places.record(stage)
    if not path.exists():
        return None
    found = _read_json(path)
    try:
        record = Record(**found)
    except TypeError as error:
        raise ValueError(f"{path} is no record of a stage: {error}") from error
    if record.fingerprint != _fingerprint(places):
        raise ValueError(
            f"{path} was written by a run with other settings than {places.settings.name} has; "
            "delete it to do the stage again, or restore the settings"
        )
    return record


def _refuse_other(found: dict[str, Any], wanted: dict[str, Any], root: Path) -> None:
    old, new = found.get("settings", {}), wanted["settings"]
    other = [name for name in new if name not in _FREE and old.get(name) != new[name]]
    if other:
        named = ", ".join(f"{name}={new[name]!r} (there: {old.get(name)!r})" for name in other)
        raise ValueError(
            f"{root} holds a run with other settings: {named}; take those of {root} or choose "
            "another output"
        )
    changed = [
        n for n, digest in wanted["files"].items() if found.get("files", {}).get(n) != digest
    ]
    if changed:
        raise ValueError(
            f"the file of {changed[0]}={new[changed[0]]!r} has changed since the run in {root} "
            "began; restore it or choose another output"
        )


def _digests(settings: RLHFConfig) -> dict[str, str]:
    """SHA-256 of the files that the settings name."""
    found = {}
    for name in _INPUTS:
        path = getattr(settings, name)
        if path is None:
            continue
        if not Path(path).is_file():
            raise FileNotFoundError(f"{name}={path!r}: there is no such file")
        found[name] = hashlib.sha256(Path(path).read_bytes()).hexdigest()
    return found


def _fingerprint(places: Places) -> str:
    content = _read_json(places.settings)
    content["settings"] = {k: v for k, v in content["settings"].items() if k not in _FREE}
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def _read_json(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ValueError(f"{path} cannot be read: {error}") from error
    if not isinstance(content, dict):
        raise ValueError(f"{path} is no JSON object")
    return content
