"""Watch a Stable-Baselines3 algorithm learn to fly: held-out flights and a progress bar."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn
from stable_baselines3.common.callbacks import BaseCallback

from llm_gym_autopilot.evaluation import evaluate_pilot
from llm_gym_autopilot.pilots import Pilot
from llm_gym_autopilot.pilots.network import NetworkPilot
from llm_gym_autopilot.tracing import keep_look

__all__ = ["WATCHED", "TrainingWatch"]

WATCHED = ("none", "moderate")  # severe turbulence is for the end


class TrainingWatch(BaseCallback):
    """Flies held-out episodes at intervals, writes the figures to the logger, shows progress.

    Every look is one row of the algorithm's log: for each turbulence level `return/LEVEL`,
    `success/LEVEL` (0 to 1) and `stick/LEVEL` (elevator movement, degrees per step);
    `time/cpu_seconds` and `time/seconds` of learning alone; and what the algorithm recorded of its
    last update. Use `learn(..., log_interval=None)`, so that it writes no rows of its own, and the
    watch as a context manager, which restores the terminal whatever happens:

        with TrainingWatch(network_of, every=100_000) as watch:
            model.learn(1_000_000, callback=watch, log_interval=None)

    Args:
        pilot_of: Makes a pilot of the algorithm, such as `pilots.network.network_of`.
        every: Steps between two looks; the first is at the start, the last at the end. A run that
            goes on from a checkpoint has had those up to there.
        episodes: Episodes of each level.
        levels: Levels of turbulence.
        keep_in: Directory of the run, in whose `trace/` every look's pilot, a `NetworkPilot`, is
            kept for `llm-gym fly --checkpoints`, and a flight of each level for `llm-gym watch`;
            None keeps nothing.
        console: Where to draw; None is standard error, which leaves standard output to results.

    Raises:
        ValueError: `every` or `episodes` is not positive.
    """

    def __init__(
        self,
        pilot_of: Callable[[Any], Pilot],
        *,
        every: int,
        episodes: int = 100,
        levels: Sequence[str] = WATCHED,
        keep_in: Path | None = None,
        console: Console | None = None,
    ) -> None:
        super().__init__()
        for name, value in (("every", every), ("episodes", episodes)):
            if value < 1:
                raise ValueError(f"{name} must be at least 1, got {value}")
        self._pilot_of = pilot_of
        self._every, self._episodes, self._levels = every, episodes, tuple(levels)
        self._keep_in = keep_in
        self._console = Console(stderr=True) if console is None else console
        self._bar = Progress(
            BarColumn(bar_width=30),
            TextColumn("{task.completed:,.0f} of {task.total:,.0f} steps  {task.fields[figures]}"),
            TimeRemainingColumn(),
            console=self._console,
            disable=not self._console.is_terminal,
        )
        self._task = self._bar.add_task("", total=0, figures="")
        self._due = 0
        self._seen: int | None = None  # where the last look was
        self._wall = self._cpu = 0.0  # when learning began; moved on by what the looks take

    def __enter__(self) -> TrainingWatch:
        self._bar.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._bar.stop()

    def _on_training_start(self) -> None:
        steps = self.model.num_timesteps
        self._bar.update(self._task, total=int(self.locals["total_timesteps"]), completed=steps)
        self._due = (steps // self._every + 1) * self._every if steps else 0
        self._seen = steps or None
        wall, cpu = self._time_before()
        self._wall, self._cpu = time.perf_counter() - wall, time.process_time() - cpu

    def _time_before(self) -> tuple[float, float]:
        """Seconds, and those of the CPU, at the last look of a run that goes on."""
        rows = [row for each in self.logger.output_formats for row in getattr(each, "rows", [])]
        last = rows[-1] if rows and self.model.num_timesteps else {}
        return last.get("time/seconds", 0.0), last.get("time/cpu_seconds", 0.0)

    def _on_rollout_start(self) -> None:
        # Between two rollouts the policy is the one that the last update left.
        if self.model.num_timesteps >= self._due:
            self._look()
            self._due = (self.model.num_timesteps // self._every + 1) * self._every

    def _on_step(self) -> bool:
        self._bar.update(self._task, completed=self.num_timesteps)
        return True

    def _on_training_end(self) -> None:
        steps = self.model.num_timesteps
        if steps != self._seen and steps >= self.model._total_timesteps:  # else it was stopped
            self._look()

    def note(self, text: str) -> None:
        """Shows a line of text. May be called from a signal handler."""
        if self._bar.disable:
            with suppress(OSError):  # the terminal may be gone
                os.write(2, f"{text}\n".encode())
        else:
            self._bar.update(self._task, figures=text)

    def _look(self) -> None:
        self._seen = self.model.num_timesteps
        wall, cpu = time.perf_counter(), time.process_time()
        self.logger.record("time/seconds", wall - self._wall)
        self.logger.record("time/cpu_seconds", cpu - self._cpu)
        pilot, returns = self._pilot_of(self.model), []
        for level in self._levels:
            evaluation = evaluate_pilot(pilot, turbulence=level, episodes=self._episodes)
            self.logger.record(f"return/{level}", evaluation.mean_return)
            self.logger.record(f"success/{level}", evaluation.success_rate)
            self.logger.record(f"stick/{level}", evaluation.means["elevator_deg_per_step"].mean)
            returns.append(f"{level} {evaluation.mean_return:.1f}")
        self.logger.dump(self.model.num_timesteps)
        if self._keep_in is not None:
            assert isinstance(pilot, NetworkPilot)
            keep_look(self.model, pilot, self._keep_in, self._levels)
        self._wall += time.perf_counter() - wall
        self._cpu += time.process_time() - cpu
        text = "return " + ", ".join(returns)
        self._bar.update(self._task, figures=text)
        if self._bar.disable:
            self._console.print(f"{self.num_timesteps:,} steps: {text}", highlight=False)
