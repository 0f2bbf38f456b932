"""A live view of training in the terminal, and plain lines where there is no terminal."""

from __future__ import annotations

import itertools
import math
import os
import time
from collections.abc import Sequence
from types import TracebackType

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.panel import Panel
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text
from stable_baselines3.common.callbacks import BaseCallback

from llm_gym.files.page import duration
from llm_gym.files.untrusted import as_rich, shortened
from llm_gym.runs.callbacks.history import History, Row
from llm_gym.runs.callbacks.samples import SampleCallback

# Label, the keys it is logged under (ours, then stock Stable-Baselines3's), number format.
METRICS: tuple[tuple[str, tuple[str, ...], str], ...] = (
    ("score", ("rollout/ep_rew_mean",), ".2f"),
    ("KL per answer", ("rollout/kl_per_sequence",), ".2f"),
    ("entropy", ("train/entropy",), ".3f"),
    ("answer length", ("rollout/ep_len_mean",), ".1f"),
    ("explained variance", ("train/explained_variance",), ".2f"),
    ("tokens/s", ("time/tokens_per_second", "time/fps"), ",.0f"),
)
_BLOCKS = "▁▂▃▄▅▆▇█"


class ProgressCallback(BaseCallback):
    """Shows progress, the figures that matter with their course, the time left and a sample.

    In a terminal the view is redrawn in place; elsewhere (a pipe, a log file) each iteration is
    one line. Use it as a context manager around `learn`, so that the terminal is restored whatever
    happens:

        with ProgressCallback() as progress:
            model.learn(10_000, callback=[samples, progress])

    Args:
        samples: Where to take a sample of the text from; None shows none.
        console: Where to draw; None is standard error, which leaves standard output to results.
    """

    def __init__(
        self, samples: SampleCallback | None = None, console: Console | None = None
    ) -> None:
        super().__init__()
        self.console = Console(stderr=True) if console is None else console
        self._samples = samples
        self._history = History(listener=self._on_row)
        self._live: Live | None = None
        self._note = ""
        self._total = 0
        self._start = (0.0, 0)

    def __enter__(self) -> ProgressCallback:
        if self.console.is_terminal:
            self._live = Live(
                console=self.console, refresh_per_second=4, get_renderable=self._render
            )
            self._live.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._live is not None:
            self._live.stop()
            self._live = None

    def note(self, text: str) -> None:
        """Shows a line of text under the figures. May be called from a signal handler."""
        self._note = text
        if self._live is None and not self.console.quiet:
            # Not through the console: a handler may interrupt it in the middle of a write.
            os.write(2, f"{text}\n".encode())

    def _on_training_start(self) -> None:
        self._total = int(self.locals["total_timesteps"])
        self._start = time.perf_counter(), self.model.num_timesteps
        if self._history not in self.logger.output_formats:
            self.logger.output_formats.append(self._history)

    def _on_step(self) -> bool:
        return True

    def _on_training_end(self) -> None:
        self.logger.output_formats.remove(self._history)

    def _on_row(self, row: Row) -> None:
        if self._live is None:
            present = [
                (label, next((row[key] for key in keys if key in row), None), style)
                for label, keys, style in METRICS
            ]
            figures = ", ".join(
                f"{label} {value:{style}}" for label, value, style in present if value is not None
            )
            self.console.print(
                f"{self.model.num_timesteps:,} of {self._total:,} tokens, "
                f"{self._time_left()} left: {figures}",
                soft_wrap=True,
                highlight=False,
                markup=False,
            )

    def _time_left(self) -> str:
        elapsed = time.perf_counter() - self._start[0]
        done = self.model.num_timesteps - self._start[1]
        if done <= 0:
            return "unknown time"
        return duration(elapsed / done * max(self._total - self.model.num_timesteps, 0))

    def _render(self) -> RenderableType:
        if not self._total:
            return Text("starting ...")
        tokens = min(self.model.num_timesteps, self._total)
        head = Table.grid(padding=(0, 2))
        head.add_row(
            ProgressBar(total=self._total, completed=tokens, width=36),
            f"{tokens:,} of {self._total:,} tokens",
            f"{self._time_left()} left",
        )
        figures = Table.grid(padding=(0, 2))
        figures.add_column(style="bold")
        figures.add_column(justify="right")
        figures.add_column(justify="right", style="dim")
        figures.add_column(style="cyan")
        for label, keys, style in METRICS:
            values = [value for value in self._history.curve(*keys)[1] if math.isfinite(value)]
            if values:
                first = f"from {values[0]:{style}}" if len(values) > 1 else ""
                figures.add_row(label, f"{values[-1]:{style}}", first, sparkline(values))
        parts: list[RenderableType] = [head, figures]
        if self._samples is not None and self._samples.latest:
            sample = self._samples.latest[-1]
            score = "" if sample.score is None else f" (score {sample.score:.4g})"
            title = as_rich(shortened(sample.prompt, 64) + score)
            parts.append(Panel(as_rich(sample.completion[:600]), title=title, title_align="left"))
        if self._note:
            parts.append(Text(self._note, style="bold yellow"))
        return Group(*parts)


def sparkline(values: Sequence[float], width: int = 32) -> str:
    """The course of a figure as a line of block characters, the lowest to the highest.

    Args:
        values: Finite numbers in order.
        width: At most this many characters; longer series are averaged in bins.
    """
    if len(values) > width:
        edges = [round(i * len(values) / width) for i in range(width + 1)]
        values = [sum(values[a:b]) / (b - a) for a, b in itertools.pairwise(edges)]
    low, high = min(values), max(values)
    scale = (len(_BLOCKS) - 1) / (high - low) if high > low else 0.0
    return "".join(_BLOCKS[round((value - low) * scale)] for value in values)
