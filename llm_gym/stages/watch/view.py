"""What the page shows of a run: JSON, made of its files, whether it still runs or not."""

from __future__ import annotations

from pathlib import Path
from threading import Lock
from typing import Any

import numpy as np

from llm_gym.files.owned import MARKER, read_marker
from llm_gym.files.untrusted import pieces, printable
from llm_gym.runs.flights import FLIGHTS, flight_files, read_flights
from llm_gym.runs.trace import LOOKS, Look, TracedAnswer, read_look, trace_files
from llm_gym.stages.watch.curves import Curves
from llm_gym.stages.watch.flights import listed, shown_flights

METRICS = "metrics.jsonl"
_FLIES = "autopilot"  # what the agents of the autopilot call their runs
_STAGE = "ppo"  # the folder of `rlhf` in which reinforcement learning is at work
_DIGITS = 5


class NoSuchLookError(ValueError):
    """The run has no look at that step: there never was one, or the run went on from before."""


class WatchedRun:
    """A run as the page asks for it.

    Args:
        directory: Of the run, or of an `rlhf` whose reinforcement learning is watched.

    Raises:
        FileNotFoundError: There is no such directory.
        ValueError: It holds no run.
    """

    def __init__(self, directory: str | Path) -> None:
        self.root = Path(directory)
        if not self.root.is_dir():
            raise FileNotFoundError(f"there is no directory {str(directory)!r}; give a run's")
        if not (self._has_something(self.root) or (self.root / MARKER).exists()):
            raise ValueError(
                f"{directory} holds no run to watch: it has neither {METRICS} nor trace/"
            )
        self._curves: dict[Path, Curves] = {}
        self._reading = Lock()  # the server answers in several threads

    @staticmethod
    def _has_something(directory: Path) -> bool:
        traced = trace_files(directory) or flight_files(directory)
        return (directory / METRICS).exists() or bool(traced)

    @property
    def directory(self) -> Path:
        """Where the curves and looks are: a stage of `rlhf` has them in a folder of its own."""
        stage = self.root / _STAGE
        return stage if not self._has_something(self.root) and stage.is_dir() else self.root

    @property
    def state(self) -> str:
        """How the run stands, as its directory says; empty where that does not say."""
        return self._marked("state")

    @property
    def flies(self) -> bool:
        """Whether it learns to fly, so that its looks are flights."""
        return bool(flight_files(self.root)) or self._marked("command") == _FLIES

    def _marked(self, name: str) -> str:
        try:
            return printable(str(read_marker(self.root).get(name, "")), multiline=False)
        except ValueError:
            return ""

    def summary(self) -> dict[str, Any]:
        """Name, state, curves, and the steps at which there are looks."""
        directory, kind = self.directory, FLIGHTS if self.flies else LOOKS
        with self._reading:
            curves = self._curves.setdefault(directory, Curves(directory / METRICS)).read()
        return {
            "name": pieces(self.root.resolve().name),
            "state": self.state,
            "curves": curves,
            "looks": [kind.step_of(path) for path in kind.files(directory)],
        }

    def look(self, step: int) -> dict[str, Any]:
        """A look, every text of it in pieces (`llm_gym.files.untrusted.pieces`).

        Args:
            step: One of those that `summary` names.

        Raises:
            NoSuchLookError: There is none.
            ValueError: It is damaged.
        """
        path = LOOKS.file_of(self.directory, step)
        try:
            return shown(read_look(path))
        except FileNotFoundError:
            raise NoSuchLookError(f"There is no look at {step} tokens.") from None

    def flights(self, step: int) -> dict[str, Any]:
        """The flights of a look.

        Args:
            step: One of those that `summary` names.

        Raises:
            NoSuchLookError: There is none.
            ValueError: It is damaged.
        """
        try:
            return shown_flights(read_flights(FLIGHTS.file_of(self.root, step)))
        except FileNotFoundError:
            raise NoSuchLookError(f"There is no look at {step} steps.") from None


def shown(look: Look) -> dict[str, Any]:
    """A look as JSON.

    Args:
        look: What was read.

    Returns:
        Its fields by their names; probabilities in place of their logarithms, None in place of NaN.
    """
    return {
        "step": look.step,
        "end": look.end,
        "algorithm": look.algorithm,
        "clip": look.clip,
        "kl_coef": look.kl_coef,
        "absent": look.absent,
        "vocabulary": {str(token): pieces(text) for token, text in look.vocabulary.items()},
        "answers": [_answer(each) for each in look.answers],
    }


def _answer(answer: TracedAnswer) -> dict[str, Any]:
    columns = dict(answer.quantities)
    probabilities = {
        name: np.exp(columns.pop(log_name))
        for name, log_name in (("prob", "log_prob"), ("prob_after", "log_prob_after"))
        if log_name in columns
    }
    return {
        "kind": answer.kind,
        "number": answer.number,
        "prompt": pieces(answer.prompt),
        "ids": answer.ids.tolist(),
        "tokens": [pieces(text) for text in answer.texts],
        "by_agent": answer.by_agent.tolist(),
        "quantities": {
            name: listed(c, _DIGITS) for name, c in {**probabilities, **columns}.items()
        },
        "top_ids": answer.top_ids.tolist(),
        "top_prob": listed(np.exp(answer.top_log_prob), _DIGITS),
        "top_prob_after": listed(np.exp(answer.top_log_prob_after), _DIGITS),
        "score": answer.score,
        "stop_reason": answer.stop_reason,
        "begins": answer.begins,
        "ends": answer.ends,
    }
