"""Turn-level worlds: what they must be, and N of them at work, each within a time limit."""

from __future__ import annotations

import numbers
import re
import weakref
from collections import UserDict
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from concurrent.futures import TimeoutError as FutureTimeoutError
from functools import partial
from queue import SimpleQueue
from threading import Thread
from time import monotonic
from typing import Any, Literal, NamedTuple, Protocol, TypeVar

import gymnasium as gym
import numpy as np

from llm_gym.files.encoding import check_characters
from llm_gym.files.importing import object_named
from llm_gym.files.ranges import check_mapping
from llm_gym.files.untrusted import printable

Result = TypeVar("Result")
_ANSWER = "answer"
_LARGEST = float(np.finfo(np.float32).max)  # rewards are float32
_COLOURS = re.compile(r"\x1b\[[0-9;]*m")
_SHOWN = 200  # characters of somebody else's message


class World(Protocol):
    """The least that a turn-level environment must have; every `gymnasium.Env` of texts has it."""

    def reset(self, *, seed: int) -> Any:
        """Begins anew; the first text, or `(text, info)`."""

    def step(self, text: str, /) -> tuple[str, float, bool, bool, dict[str, Any]]:
        """Answers: text, reward, terminated, truncated and info."""


class WorldError(RuntimeError):
    """A world raised an exception, or was not made or did not begin in time."""


class WorldInfo(UserDict[str, Any]):
    """A world's info, whole.

    Gymnasium's vector environments take a `dict` apart, name by name, into arrays that have the
    type of the first row's value: what other rows say is then rounded, or an error.
    """


class Answered(NamedTuple):
    """What a world says to a turn."""

    text: str
    reward: float
    terminated: bool
    truncated: bool
    info: Mapping[str, Any]


class Fault(NamedTuple):
    """Why a world says nothing."""

    reason: Literal["timeout", "error"]
    error: WorldError


class _RaisedError(Exception):
    """Carries what a world raised, as `__cause__`, past our own checks."""


def world_maker(world: Any, num_rows: int, world_kwargs: Mapping[str, Any] | None) -> Callable:
    """How a row gets its world.

    Args:
        world: A world; a function, or a class, that makes one, or the place of such as
            "module:NAME" or "path.py:NAME"; an id of Gymnasium's; or the name of another library's,
            such as "gem:game:Sudoku-v0-easy" (`llm_gym.turns.sources`).
        num_rows: Rows that need one each.
        world_kwargs: Arguments of the function, class or id.

    Returns:
        A function that makes a world.

    Raises:
        ImportError: The plug-in that knows the library is not installed.
        TypeError: It is none of these.
        ValueError: There is nothing at the place, or one world would have to serve several rows or
            has arguments.
    """
    check_mapping("world_kwargs", world_kwargs)
    kwargs = dict(world_kwargs or {})
    if isinstance(world, str):
        if not world.strip():
            raise ValueError(
                f"world={world!r} names none: give module:NAME, path.py:NAME, an id of Gymnasium's "
                "or another library's name"
            )
        from llm_gym.turns.sources import source_of

        source = source_of(world)
        if source is not None:
            return partial(source, **kwargs)
        if ":" not in world or not world.rpartition(":")[2].isidentifier():  # which no id ends with
            return partial(gym.make, world, **kwargs)
        world = object_named("world", world)
    if _is_world(world) and not isinstance(world, type):
        if kwargs:
            raise ValueError(f"world_kwargs={kwargs!r} are of a function that makes worlds")
        if num_rows > 1:
            raise ValueError(
                f"world={world!r} is one world, but num_envs={num_rows} rows need one each: pass a "
                "function that makes one, or the class"
            )
        return _Once(world)
    if not callable(world):
        raise TypeError(
            f"world={world!r} must have reset(seed) and step(text), be a function that makes such "
            "an environment, or an id of Gymnasium's"
        )
    return lambda: world(**kwargs)


class _Once:
    """Gives a world that somebody has made, which nobody can make anew."""

    def __init__(self, world: Any) -> None:
        self._world = world

    def __call__(self) -> Any:
        world, self._world = self._world, None
        if world is None:
            raise WorldError(
                "the world took too long and cannot be made anew: as world=, pass its class, or a "
                "function that makes one"
            )
        return world


def _is_world(world: Any) -> bool:
    return callable(getattr(world, "reset", None)) and callable(getattr(world, "step", None))


class Worlds:
    """N worlds, those of one step at work together.

    With a time limit each world lives in a thread of its own, from its making to its end: worlds
    wait for the network side by side, and one that hangs is given up, and made anew. It is closed
    in its thread if it ever comes back. Without a limit all are called one after the other, in the
    caller's thread.

    Args:
        make: Makes a world.
        num_rows: N.
        time_limit: Seconds that a world may take to be made, and the worlds of one step to begin or
            to answer; None is no limit.

    Raises:
        TypeError: What was made is no world, or its arguments have wrong types.
        ValueError: The same was made for two rows, or a world refuses its arguments.
        WorldError: A world raised another exception while it was made, or took too long.
    """

    def __init__(self, make: Callable[[], Any], num_rows: int, time_limit: float | None) -> None:
        self._make, self._limit = make, time_limit
        self._threads: list[_WorldThread | None] = [None] * num_rows
        self._held = [_Held(make) for _ in range(num_rows)]
        weakref.finalize(self, _end, self._threads)
        try:
            for row, held in enumerate(self._held):
                _raise_faults(self._call({row: held.made}, "be made"))
            if len({id(held.world) for held in self._held}) < num_rows:
                raise ValueError(
                    "world= makes the same world for several rows: make a new one a call"
                )
        except BaseException:
            self.close()
            raise

    def reset(self, seeds: Mapping[int, int]) -> dict[int, tuple[str, Mapping[str, Any]]]:
        """Begins rows' worlds anew.

        One that takes too long, or whose row has none after a turn that did, is made anew; if that
        takes too long, too, it is an error.

        Args:
            seeds: A seed for each row.

        Returns:
            First text and info of each.

        Raises:
            TypeError: A world gave no text.
            WorldError: A world raised, or took too long; its row has a new one.
        """
        begun = self._begun(seeds)
        again = {row: seeds[row] for row, told in begun.items() if _is_late(told)}
        begun |= self._begun(again)
        _raise_faults(begun)
        return begun

    def _begun(self, seeds: Mapping[int, int]) -> dict[int, Any]:
        jobs = {row: partial(self._held[row].reset, seed) for row, seed in seeds.items()}
        return self._call(jobs, "begin")

    def step(self, texts: Mapping[int, str]) -> dict[int, Answered | Fault]:
        """Hands rows' turns to their worlds.

        Args:
            texts: What the agent says, by row.

        Returns:
            What each world says, or why it says nothing.

        Raises:
            TypeError: A world gave something of another type.
            ValueError: A world's reward is no finite number.
        """
        jobs = {row: partial(self._held[row].step, text) for row, text in texts.items()}
        return self._call(jobs, _ANSWER)

    def close(self) -> None:
        """Closes worlds that can be closed, and ends their threads."""
        jobs = {row: held.close for row, held in enumerate(self._held) if held.world is not None}
        self._call(jobs, "close")
        _end(self._threads)

    # ------------------------------------------------------------------ calls

    def _call(self, jobs: Mapping[int, Callable[[], Any]], asked_to: str) -> dict[int, Any]:
        """What the jobs of rows return, or a `Fault`; other exceptions are ours, and raised."""
        if self._limit is None:
            return {row: self._outcome(row, job, asked_to) for row, job in jobs.items()}
        deadline = monotonic() + self._limit
        futures = {row: self._thread(row).submit(job) for row, job in jobs.items()}

        def wait(future: Future) -> Any:
            return future.result(max(0.0, deadline - monotonic()))

        return {row: self._outcome(row, partial(wait, f), asked_to) for row, f in futures.items()}

    def _outcome(self, row: int, result: Callable[[], Any], asked_to: str) -> Any:
        try:
            return result()
        except _RaisedError as raised:
            cause = raised.__cause__
            assert cause is not None
            advice = ", or pass on_world_error='truncate'" if asked_to == _ANSWER else ""
            error = WorldError(f"the world of row {row} raised {said_by(cause)}; mend it{advice}")
            error.__cause__ = cause
            return Fault("error", error)
        except FutureTimeoutError:
            self._give_up(row)
            return Fault(
                "timeout",
                WorldError(
                    f"the world of row {row} took longer than world_time_limit={self._limit:g} s "
                    f"to {asked_to}: mend it, or raise the limit"
                ),
            )

    def _thread(self, row: int) -> _WorldThread:
        thread = self._threads[row]
        if thread is None:
            thread = self._threads[row] = _WorldThread(f"world {row}")
        return thread

    def _give_up(self, row: int) -> None:
        """Leaves a thread and its world to their call; if ever it returns, both end."""
        self._thread(row).submit(self._held[row].close)
        self._thread(row).end()
        self._threads[row], self._held[row] = None, _Held(self._make)


class _WorldThread:
    """Runs jobs one after the other. Python waits for no such thread when it exits."""

    def __init__(self, name: str) -> None:
        self._jobs: SimpleQueue[tuple[Future, Callable[[], Any]] | None] = SimpleQueue()
        self._thread = Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    def submit(self, job: Callable[[], Any]) -> Future:
        future: Future = Future()
        self._jobs.put((future, job))
        return future

    def end(self) -> None:
        self._jobs.put(None)

    def _run(self) -> None:
        while (item := self._jobs.get()) is not None:
            future, job = item
            try:
                future.set_result(job())
            except BaseException as error:
                future.set_exception(error)
            del future, job, item


def _end(threads: list[_WorldThread | None]) -> None:
    for row, thread in enumerate(threads):
        if thread is not None:
            thread.end()
            threads[row] = None


def _is_late(told: Any) -> bool:
    return isinstance(told, Fault) and told.reason == "timeout"


def _raise_faults(outcomes: Mapping[int, Any]) -> None:
    for told in outcomes.values():
        if isinstance(told, Fault):
            raise told.error from told.error.__cause__


# ------------------------------------------------------------------ one world


class _Held:
    """A row's world, with all that it is asked; called by one thread only."""

    def __init__(self, make: Callable[[], Any]) -> None:
        self._make = make
        self.world: Any = None

    def made(self) -> None:
        """Makes the world, if there is none yet."""
        if self.world is None:
            world = _new(self._make)
            if not _is_world(world):
                raise TypeError(
                    f"world= makes {world!r:.80}, which has no reset(seed) and step(text)"
                )
            self.world = world

    def reset(self, seed: int) -> tuple[str, Mapping[str, Any]]:
        self.made()
        told = _asked(lambda: self.world.reset(seed=seed))
        text, info = told if isinstance(told, tuple) and len(told) == 2 else (told, {})
        return _text("reset", text), _info("reset", info)

    def step(self, text: str) -> Answered:
        return _step(self.world, text)

    def close(self) -> None:
        close = getattr(self.world, "close", None)
        if callable(close):
            _asked(close)


def _new(make: Callable[[], Any]) -> Any:
    """A world, or one sentence on why there is none."""
    try:
        return make()
    except (WorldError, ImportError, gym.error.Error):  # which say it themselves
        raise
    except (Exception, SystemExit) as error:  # whatever somebody else's world raises
        kind = next((k for k in (ValueError, TypeError) if isinstance(error, k)), WorldError)
        said = said_by(error) if kind is WorldError else printable(str(error))
        raise kind(f"the world could not be made: {said}") from error


def said_by(error: BaseException) -> str:
    """An exception of somebody else's code on one short line."""
    lines = _COLOURS.sub("", str(error)).splitlines()
    first = next((line.strip() for line in lines if re.search(r"\w", line)), "")
    said = ": ".join([type(error).__name__, *([first] if first else [])])
    return printable(said[:_SHOWN], multiline=False)


def _step(world: Any, text: str) -> Answered:
    told = _asked(lambda: world.step(text))
    if not isinstance(told, (tuple, list)) or len(told) != 5:
        raise TypeError(
            f"the world's step() returned {told!r:.80}, not (text, reward, terminated, truncated, "
            "info)"
        )
    said, reward, terminated, truncated, info = told
    return Answered(
        _text("step", said),
        _reward(reward),
        _flag("terminated", terminated),
        _flag("truncated", truncated),
        _info("step", info),
    )


def _asked(call: Callable[[], Result]) -> Result:
    try:
        return call()
    except (Exception, SystemExit) as error:  # whatever somebody else's world raises
        raise _RaisedError from error


def _reward(reward: Any) -> float:
    is_number = isinstance(reward, numbers.Real) and not isinstance(reward, bool)
    if not is_number or not abs(reward) <= _LARGEST:
        kind = ValueError if is_number else TypeError
        raise kind(
            f"the world's step() pays the reward {reward!r:.80}, which is no finite number of "
            "float32"
        )
    return float(reward)


def _flag(name: str, flag: Any) -> bool:
    if type(flag).__name__ not in ("bool", "bool_"):
        raise TypeError(f"the world's step() returned {name}={flag!r:.80}, which is no bool")
    return bool(flag)


def _text(method: str, text: Any) -> str:
    if not isinstance(text, str):
        raise TypeError(
            f"the world's {method}() returned {text!r:.80} for its text, of type "
            f"{type(text).__name__}: a world of turns says a str"
        )
    check_characters(f"the text of the world's {method}()", text)
    return text


def _info(method: str, info: Any) -> Mapping[str, Any]:
    if not isinstance(info, Mapping):
        raise TypeError(f"the world's {method}() returned the info {info!r:.80}, which is no dict")
    return info
