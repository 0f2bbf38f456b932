"""The looks of a run on the disk: which stay, when the next is due, and how much they may weigh."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from llm_gym.files import atomic
from llm_gym.runs.trace import LOOKS, Look, encode, read_look, trace_files


class TraceFolder:
    """Writes the looks of a run; the files alone decide when the next is due.

    A resumed run has its looks where it would have had them.

    Args:
        directory: Of the run; looks lie in its folder `trace`.
        budget: Most bytes of all looks.
    """

    def __init__(self, directory: str | Path, budget: int) -> None:
        self.directory, self.budget = Path(directory), budget
        self._sizes: dict[int, int] = {}  # bytes of each look, by its step
        self._newest = 0, 0  # where the newest one begins and ends

    def take_up(self, now: int) -> None:
        """Counts the looks of a run that stands at `now` tokens.

        Removes looks that go beyond where the run stands, and the last one of a run that ended:
        they will be taken again.
        """
        for path in reversed(trace_files(self.directory)):
            if LOOKS.step_of(path) < now and _end_of(path) <= now:
                break
            path.unlink()
        files = trace_files(self.directory)
        self._sizes = {LOOKS.step_of(path): path.stat().st_size for path in files}
        if files:
            self._newest = LOOKS.step_of(files[-1]), read_look(files[-1]).end

    def is_due(self, now: int, every: int) -> bool:
        """Whether so many tokens have come since the last look.

        Args:
            now: Tokens that have been generated.
            every: Rollouts between two looks while less than half of the budget is used.
        """
        if not self._sizes:
            return True
        left = 1 - sum(self._sizes.values()) / self.budget
        if left <= 0:
            return False
        rarer = 2.0 ** np.floor(-np.log2(left))
        begun, ended = self._newest
        # To the nearest rollout: they differ in length.
        rollouts = (now - begun) / (ended - begun)
        return bool(rollouts > every * rarer - 0.5)

    def has(self, step: int) -> bool:
        """Whether there is a look at a step."""
        return step in self._sizes

    def prompts(self) -> list[tuple[int, ...]]:
        """Prompts of the probes of a run that goes on."""
        for path in trace_files(self.directory):
            try:
                probes = [each for each in read_look(path).answers if each.kind == "probe"]
            except ValueError:
                continue
            if probes:
                return [each.prompt_ids for each in probes]
        return []

    def write(self, look: Look) -> None:
        """Writes a look, unless it would be more than the budget."""
        content = encode(look)
        if sum(self._sizes.values()) + len(content) <= self.budget:
            atomic.write_bytes(LOOKS.file_of(self.directory, look.step), content)
            self._sizes[look.step] = len(content)
        self._newest = look.step, look.end


def _end_of(path: Path) -> float:
    """Where a look ends; one that cannot be read never does."""
    try:
        return read_look(path).end
    except ValueError:
        return float("inf")
