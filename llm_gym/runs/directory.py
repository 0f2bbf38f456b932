"""The directory of a run: whether a call begins one, goes on with one, or is refused.

A run writes its settings into its directory, and is held against them when it is called again. Some
runs are told to go on (`checkpoint`); others go on by themselves when the same call is made again
(`begin`). What a run of several steps has finished is recorded step by step: a step is finished
when its record is there, and the record is written last. A record depends on what its step and
earlier ones use, so that a setting of a later step can be put right.
"""

from __future__ import annotations

import hashlib
import json
import warnings
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

from llm_gym.files import atomic
from llm_gym.files.schema import anything, check_file, number, record, text
from llm_gym.parallel import world
from llm_gym.runs.opening import OpenedDirectory

SETTINGS = "settings.json"  # not config.json: in a directory of a model that is the model's own
CHECKPOINTS = "checkpoints"


class RestartWarning(UserWarning):
    """A run begins anew, because there is nothing from which it could go on."""


class CorrectionWarning(UserWarning):
    """A setting was put right, and the steps that use it are done again."""


class Record(NamedTuple):
    """A finished step of a run.

    Attributes:
        stage: Name of the step.
        fingerprint: Fingerprint of the settings and files that the step and earlier ones use.
        figures: What was measured, JSON-able.
        seconds: Wall-clock time since the step was last begun.
    """

    stage: str
    fingerprint: str
    figures: dict[str, Any]
    seconds: float


_RECORD = record(
    {
        "stage": text,
        "fingerprint": text,
        "figures": record({}, others=anything),
        "seconds": number(0),
    }
)


class RunDirectory(OpenedDirectory):
    """Where one run keeps what it makes. Nothing is written before a method that says so.

        with directory.opened():
            checkpoint = directory.checkpoint(resume=resume, advice="...")
            directory.write_settings()
            ...

    Args:
        root: The directory.
        settings: What the run was asked to do, JSON-able.
        files: SHA-256 of the files that the run was given, by the setting that names them (see
            `digests_of`); None for a run whose files are not watched.
        free: Settings that may change from call to call, because nothing is done again for them.
        steps: Names of the steps that are recorded, in their order.
        uses: The step that uses a setting first, or the file it names. Such a setting may be put
            right from call to call, see `begin`; what is not named, may not.
        settled: Steps that are never done again once they are finished.
        defaults: Settings of which a run may know nothing, because it began before they were: what
            it was done with. They are what they were for it, and stay out of its files.
        settings_name: Name of the file of the settings.
        command: What kind of run it is; the directory of another kind is refused.
    """

    def __init__(
        self,
        root: str | Path,
        settings: Mapping[str, Any],
        *,
        files: Mapping[str, str] | None = None,
        free: Collection[str] = (),
        steps: Sequence[str] = (),
        uses: Mapping[str, str] = MappingProxyType({}),
        settled: Collection[str] = (),
        defaults: Mapping[str, Any] = MappingProxyType({}),
        settings_name: str = SETTINGS,
        command: str = "train",
    ) -> None:
        super().__init__(root, command)
        self.settings = settings
        self.files = files
        self.free = free
        self.steps = steps
        self.uses = uses
        self.settled = settled
        self.defaults = defaults
        self._younger: frozenset[str] = frozenset()
        self.settings_path = self.root / settings_name
        self.checkpoints = self.root / CHECKPOINTS
        self._records: dict[str, Record] = {}

    # ------------------------------------------------------------------ new, resumed or refused

    def checkpoint(self, *, resume: bool, advice: str) -> Path | None:
        """Finds the checkpoint to go on from, for a run that is told whether to.

        A run that was killed before its first checkpoint has nothing to lose and nothing to go on
        from: it begins anew, whatever it is told.

        Args:
            resume: Whether it shall go on.
            advice: What to do if the directory holds a run already.

        Returns:
            The newest checkpoint that is whole, with a warning if there are newer ones; None for a
            run that begins.

        Raises:
            ValueError: A new run, and the directory already holds one; or it holds no run to go on
                with, or one whose checkpoints are all damaged.
        """
        found = self._checkpoint(resume, advice) if world().rank == 0 else None
        told = world().of_first(None if found is None else str(found))
        return None if told is None else Path(told)

    def _checkpoint(self, resume: bool, advice: str) -> Path | None:
        from llm_gym.runs.checkpoint import has_checkpoint, resume_point

        if resume:
            if self._state == "new":
                raise ValueError(
                    f"{self.root} holds no run to resume; leave out --resume to begin one"
                )
            checkpoint = resume_point(self.checkpoints)
            if checkpoint is None:
                warnings.warn(
                    f"the run in {self.root} ended before its first checkpoint, so it begins anew",
                    RestartWarning,
                    stacklevel=3,
                )
            return checkpoint
        if has_checkpoint(self.root):
            raise ValueError(f"{self.root} already holds a run ({self._told}): {advice}")
        return None

    @property
    def _told(self) -> str:
        return {"running": "which was killed"}.get(self._state, self._state)

    def go_on(self, advice: str) -> None:
        """Holds the settings against those of the run that is there.

        Args:
            advice: What to do if they are others.

        Raises:
            ValueError: The directory holds a run with other settings, or one whose files have
                changed since it began; or its settings cannot be read.
        """
        saved = read_object(self.settings_path)
        self._refuse_another(saved, advice)
        self._younger = self._unheard_of(saved)

    def begin(self, advice: str) -> None:
        """Begins the run, or goes on with it if it is there.

        A setting may differ from that of the run that is there, and a file from what it was, if no
        step that is settled uses it. The steps that do are done again, with a warning.

        Args:
            advice: What to do if there is another.

        Raises:
            ValueError: See `go_on`.
        """
        if self.settings_path.exists():
            saved = read_object(self.settings_path)
            self._refuse_another(saved, advice, free=self._correctable())
            self._younger = self._unheard_of(saved)
            self._take_corrections(saved)
            if saved == self._content:
                self.state = "running"
                return
        self.write_settings()

    def write_settings(self) -> None:
        """Writes the settings, and with them the digests of the files if they are watched.

        The run is at work from here on.
        """
        self.state = "running"
        if world().rank == 0:
            atomic.write_json(self.settings_path, self._content)

    @property
    def _content(self) -> dict[str, Any]:
        """What the file of the settings holds."""
        settings = {n: value for n, value in self.settings.items() if n not in self._younger}
        return settings if self.files is None else {"settings": settings, "files": self.files}

    def _refuse_another(
        self, saved: dict[str, Any], advice: str, free: Collection[str] = ()
    ) -> None:
        if self.files is not None:
            both = {"settings": record({}, others=anything), "files": record({}, others=text)}
            check_file(self.settings_path, record(both), saved)
        settings = saved if self.files is None else saved["settings"]
        allowed = {*self.free, *free}
        refuse_another_run(self.root, settings, self.settings, advice, allowed, self.defaults)
        for name, digest in (self.files or {}).items():
            if name not in free and saved.get("files", {}).get(name) != digest:
                raise ValueError(
                    f"the file of {name}={self.settings[name]!r} has changed since the run in "
                    f"{self.root} began; restore it or choose another output"
                )

    def _unheard_of(self, saved: dict[str, Any]) -> frozenset[str]:
        """Settings that are as they were before there were such, for a run that began then."""
        there = saved if self.files is None else saved["settings"]
        younger = {n: value for n, value in self.settings.items() if n not in there}
        told = different({}, younger, defaults=self.defaults)
        return frozenset(younger) - frozenset(told)

    # ------------------------------------------------------------------ corrected settings

    def is_settled(self, step: str) -> bool:
        """Whether a step keeps the settings with which it was done."""
        return step in self.settled and self.record_path(step).exists()

    def discard(self, step: str) -> None:
        """Does away with what a step has made, where the step would go on with it.

        Args:
            step: Name of a step that is done again; its record is gone.
        """

    def _correctable(self) -> list[str]:
        last = max((i for i, step in enumerate(self.steps) if self.is_settled(step)), default=-1)
        return [name for name, step in self.uses.items() if self.steps.index(step) > last]

    def _take_corrections(self, saved: dict[str, Any]) -> None:
        """Has the steps done again that use what is said otherwise than it was."""
        settings = saved if self.files is None else saved.get("settings", {})
        told = different(settings, self.settings, self.free, self.defaults)
        for name, digest in (self.files or {}).items():
            if name not in told and saved.get("files", {}).get(name) != digest:
                told[name] = f"the file of {name}={self.settings[name]!r}"
        if not told:
            return
        again = self.steps[min(self.steps.index(self.uses[name]) for name in told) :]
        for step in reversed(again):
            self.record_path(step).unlink(missing_ok=True)
            self._records.pop(step, None)
            self.discard(step)
        warnings.warn(
            f"{self.root} has another {', '.join(told.values())}: done again with it: "
            f"{', '.join(again)}; what was finished before stays",
            CorrectionWarning,
            stacklevel=4,
        )

    # ------------------------------------------------------------------ finished steps

    def record_path(self, step: str) -> Path:
        """The file of a step's record."""
        return self.root / "stages" / f"{self.steps.index(step) + 1}-{step}.json"

    def record(self, step: str) -> Record | None:
        """Reads the record of a step, once; None if the step is not finished.

        Raises:
            ValueError: The record is damaged, or belongs to other settings.
        """
        path = self.record_path(step)
        if step not in self._records and path.exists():
            self._records[step] = self._read_record(path, step)
        return self._records.get(step)

    def finish(self, step: str, figures: dict[str, Any], seconds: float) -> Record:
        """Writes the record of a step, which is finished by that.

        Args:
            step: Name of the step.
            figures: What was measured, JSON-able.
            seconds: Wall-clock time that it took.
        """
        record = Record(step, self.fingerprint_of(step), figures, seconds)
        atomic.write_json(self.record_path(step), record._asdict())
        self._records[step] = record
        return record

    def fingerprint_of(self, step: str) -> str:
        """SHA-256 of all that the record of a step depends on."""
        done = self.steps[: self.steps.index(step) + 1]
        later = {name for name, first in self.uses.items() if first not in done}
        unused = {*self.free, *self._younger, *later}
        used = [
            {name: value for name, value in values.items() if name not in unused}
            for values in (self.settings, self.files or {})
        ]
        return hashlib.sha256(json.dumps(used, sort_keys=True).encode()).hexdigest()

    def _read_record(self, path: Path, step: str) -> Record:
        content = read_object(path)
        try:
            _RECORD("", content)
        except ValueError as error:
            raise ValueError(f"{path} is no record of a stage: {error}") from error
        record = Record(**content)
        if record.fingerprint != self.fingerprint_of(step):
            raise ValueError(
                f"{path} was written by a run with other settings than {self.settings_path.name} "
                "has; delete it to do the stage again, or restore the settings"
            )
        return record


def refuse_another_run(
    root: Path,
    saved: Mapping[str, Any],
    settings: Mapping[str, Any],
    advice: str,
    free: Collection[str] = (),
    defaults: Mapping[str, Any] = MappingProxyType({}),
) -> None:
    """Keeps a run from going on with what was begun with other settings.

    Args:
        root: The directory, for the message.
        saved: Settings that were written there, as JSON gives them back.
        settings: Settings of the call, JSON-able.
        advice: What to do instead.
        free: Names of settings that may differ.
        defaults: See `different`.

    Raises:
        ValueError: They differ; the message has both values of each.
    """
    told = different(saved, settings, free, defaults)
    if told:
        named = ", ".join(told.values())
        raise ValueError(f"{root} holds a run with other settings: {named}; {advice}")


def different(
    saved: Mapping[str, Any],
    settings: Mapping[str, Any],
    free: Collection[str] = (),
    defaults: Mapping[str, Any] = MappingProxyType({}),
) -> dict[str, str]:
    """Settings that differ from those that were written, by name, with both values for a message.

    Args:
        saved: Settings as JSON gives them back.
        settings: Settings of the call, JSON-able.
        free: Names of settings that may differ.
        defaults: What a setting was that was not written, because there was none of that name yet.
    """
    settings = json.loads(json.dumps(settings))
    before = {n: value for n, value in defaults.items() if n in settings and n not in saved}
    saved = {**saved, **json.loads(json.dumps(before))}
    return {
        name: f"{name}={settings.get(name)!r} (there: {saved.get(name)!r})"
        for name in {**settings, **saved}
        if name not in free and saved.get(name) != settings.get(name)
    }


def digests_of(paths: Mapping[str, str | None]) -> dict[str, str]:
    """Fingerprints of the files that a run is given.

    Args:
        paths: Paths by the setting that names them; None is left out.

    Returns:
        SHA-256 by setting.

    Raises:
        FileNotFoundError: A file is not there.
    """
    digests = {}
    for name, path in paths.items():
        if path is None:
            continue
        if not Path(path).is_file():
            raise FileNotFoundError(f"{name}={path!r}: there is no such file")
        digests[name] = atomic.sha256_of(path)
    return digests


def read_object(path: Path) -> dict[str, Any]:
    """Reads a JSON object.

    Raises:
        ValueError: The file is missing, or holds something else.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise ValueError(f"{path} cannot be read: {error}") from error
    if not isinstance(content, dict):
        raise ValueError(f"{path} is no JSON object")
    return content
