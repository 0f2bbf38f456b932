"""Those who watch a flight: a film, a window, or somebody who reads the terminal."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Protocol, TypeVar

from llm_gym_autopilot.rendering.frame import CockpitFrame
from llm_gym_autopilot.rendering.instrument_line import instrument_line
from llm_gym_autopilot.rendering.recording import Recorder
from llm_gym_autopilot.rendering.screen import Screen
from llm_gym_autopilot.rendering.transcript import legible

__all__ = ["STEPS_PER_SECOND", "Watcher", "cockpit_lines", "has_display", "show_to", "watching"]

STEPS_PER_SECOND = 5
STEPS_PER_LINE = 5  # of instruments: one a second
LAST_PICTURES = 10  # a crash stays in the window for two seconds


class _Moment(Protocol):
    """What a frame of any kind says of its moment."""

    @property
    def time_s(self) -> float: ...

    @property
    def cause(self) -> str | None: ...


Frame = TypeVar("Frame", bound=_Moment)
Watcher = Callable[[Frame], bool]  # False: has had enough


def has_display() -> bool:
    """Whether a window can be expected to open."""
    if not sys.platform.startswith("linux"):
        return True
    return bool(os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY"))


@contextmanager
def watching(
    film: Recorder | None,
    window: bool,
    speed: float,
    screen: Callable[[], Screen[Frame]],
    lines: Callable[[Frame], str],
) -> Iterator[list[Watcher[Frame]]]:
    """Opens a film and a window, and finishes and closes them in the end.

    Args:
        film: Where pictures go; None for none.
        window: Whether to open one.
        speed: Pace of the window; 1 is real time.
        screen: Makes what draws the pictures.
        lines: Reads a frame aloud.

    Yields:
        The watchers. Without film and window it is one who prints `lines` once a second.
    """
    if film is None and not window:
        yield [_reading_aloud(lines)]
        return
    with ExitStack() as stack:
        drawn = screen()
        stack.callback(drawn.close)
        watchers = []
        if film is not None:
            stack.enter_context(film)
            watchers.append(stack.enter_context(_filming(film, drawn)))
        if window:
            watchers.append(_watching_window(drawn, speed))
        yield watchers


def show_to(watchers: list[Watcher[Frame]], frame: Frame) -> bool:
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


def cockpit_lines(frame: CockpitFrame) -> str:
    """The instruments of one flight, and the last words of a pilot of words.

    Args:
        frame: What to read.
    """
    said = [f"  {legible(heard, 110)} -> {legible(said)}" for heard, said in frame.words[-1:]]
    return "\n".join([instrument_line(frame), *said])


def _reading_aloud(lines: Callable[[Frame], str]) -> Watcher[Frame]:
    def watch(frame: Frame) -> bool:
        steps = round(frame.time_s * STEPS_PER_SECOND)
        if steps % STEPS_PER_LINE == 0 or frame.cause is not None:
            print(lines(frame), flush=True)
        return True

    return watch


@contextmanager
def _filming(film: Recorder, screen: Screen[Frame]) -> Iterator[Watcher[Frame]]:
    """Films, and counts pictures on one line of a terminal, if there is one."""
    terminal = sys.stderr.isatty()

    def watch(frame: Frame) -> bool:
        film.write(screen.draw(frame))
        if terminal:
            counted = f"filming: {film.num_frames} pictures, {frame.time_s:.1f} s"
            print(f"\r{counted}  ", end="", file=sys.stderr, flush=True)
        return True

    try:
        yield watch
    finally:
        if terminal:
            print(file=sys.stderr)


def _watching_window(screen: Screen[Frame], speed: float) -> Watcher[Frame]:
    def watch(frame: Frame) -> bool:
        if frame.cause is None:
            screen.show(frame, STEPS_PER_SECOND * speed)
        else:
            for _ in range(LAST_PICTURES):
                screen.show(frame, STEPS_PER_SECOND)
        return not screen.closed_by_user

    return watch
