"""The tour as a run: stops that are done stay done, and the same call goes on with the next one."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from llm_gym.runs.directory import RunDirectory
from llm_gym.stages.tour.stops import STOPS, Stop, Tour

PICTURES = "pictures"


class Road:
    """A tour that has begun.

    Args:
        directory: Where stops are recorded.
        tour: What they have in common.
    """

    def __init__(self, directory: RunDirectory, tour: Tour) -> None:
        self._directory, self.tour = directory, tour

    def figures_of(self, stop: Stop) -> dict[str, Any]:
        """What a stop found; it is done now unless it is done already.

        Args:
            stop: One that is not missing.

        Raises:
            KeyboardInterrupt: It was stopped; what it has done is kept.
        """
        record = self._directory.record(stop.name)
        if record is None:
            started = time.perf_counter()
            figures = stop.work(self.tour)
            record = self._directory.finish(stop.name, figures, time.perf_counter() - started)
        return record.figures

    def is_done(self, stop: Stop) -> bool:
        """Whether a stop was done in an earlier call."""
        return self._directory.record(stop.name) is not None

    def picture_of(self, stop: Stop) -> Path:
        """Where the picture of a stop is kept."""
        name = f"{STOPS.index(stop) + 1:02d}-{stop.name}.png"
        return self.tour.root / PICTURES / name


@contextmanager
def on_the_road(output: str | Path, seed: int) -> Iterator[Road]:
    """Begins a tour, or goes on with the one that is there.

    Args:
        output: Its directory.
        seed: Of everything random.

    Yields:
        The road.

    Raises:
        ValueError: The directory holds a tour with another seed, or something else.
    """
    names = [stop.name for stop in STOPS]
    directory = RunDirectory(output, {"seed": seed}, steps=names, command="tour")
    with directory.opened():
        directory.begin(f"take that of {output} or choose another --output")
        yield Road(directory, Tour(output, seed))
