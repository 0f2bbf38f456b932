"""Those who watch a flight: a film, a window, or somebody who reads the terminal."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager

from llm_gym_autopilot.rendering.cockpit import Cockpit
from llm_gym_autopilot.rendering.frame import CockpitFrame
from llm_gym_autopilot.rendering.instrument_line import instrument_line
from llm_gym_autopilot.rendering.recording import Recorder
from llm_gym_autopilot.rendering.transcript import legible

__all__ = ["STEPS_PER_SECOND", "Watcher", "has_display", "show_to", "watching"]

STEPS_PER_SECOND = 5
STEPS_PER_LINE = 5  # of instruments: one a second
LAST_PICTURES = 10  # a crash stays in the window for two seconds

Watcher = Callable[[CockpitFrame], bool]  # False: has had enough


def has_display() -> bool:
    """Whether a window can be expected to open."""
    if not sys.platform.startswith("linux"):
        return True
    return bool(os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY"))


@contextmanager
def watching(film: Recorder | None, window: bool, speed: float) -> Iterator[list[Watcher]]:
    """Opens a film and a window, and finishes and closes them in the end.

    Args:
        film: Where pictures go; None for none.
        window: Whether to open one.
        speed: Pace of the window; 1 is real time.

    Yields:
        The watchers. Without film and window it is one who prints the instruments once a second.
    """
    if film is None and not window:
        yield [_read_aloud]
        return
    with ExitStack() as stack:
        cockpit = Cockpit()
        stack.callback(cockpit.close)
        watchers = []
        if film is not None:
            stack.enter_context(film)
            watchers.append(stack.enter_context(_filming(film, cockpit)))
        if window:
            watchers.append(_watching_window(cockpit, speed))
        yield watchers


def show_to(watchers: list[Watcher], frame: CockpitFrame) -> bool:
    """Shows a frame to everybody.

    Args:
        watchers: All of them see it.
        frame: What to show.

    Returns:
        Whether all want to go on.
    """
    go_on = True
    for watch in watchers:
        go_on = watch(frame) and go_on
    return go_on


def _read_aloud(frame: CockpitFrame) -> bool:
    steps = round(frame.time_s * STEPS_PER_SECOND)
    if steps % STEPS_PER_LINE == 0 or frame.cause is not None:
        print(instrument_line(frame), flush=True)
        for heard, said in frame.words[-1:]:
            print(f"  {legible(heard, 110)} -> {legible(said)}", flush=True)
    return True


@contextmanager
def _filming(film: Recorder, cockpit: Cockpit) -> Iterator[Watcher]:
    """Films, and counts pictures on one line of a terminal, if there is one."""
    terminal = sys.stderr.isatty()

    def watch(frame: CockpitFrame) -> bool:
        film.write(cockpit.draw(frame))
        if terminal:
            counted = f"filming: {film.num_frames} pictures, {frame.time_s:.1f} s"
            print(f"\r{counted}  ", end="", file=sys.stderr, flush=True)
        return True

    try:
        yield watch
    finally:
        if terminal:
            print(file=sys.stderr)


def _watching_window(cockpit: Cockpit, speed: float) -> Watcher:
    def watch(frame: CockpitFrame) -> bool:
        if frame.cause is None:
            cockpit.show(frame, STEPS_PER_SECOND * speed)
        else:
            for _ in range(LAST_PICTURES):
                cockpit.show(frame, STEPS_PER_SECOND)
        return not cockpit.closed_by_user

    return watch
