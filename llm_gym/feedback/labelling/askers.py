"""How a training run reaches a person: a page, the terminal it runs in, or a function."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Sequence
from typing import Protocol

from llm_gym.feedback.labelling.live_desk import LiveDesk
from llm_gym.feedback.labelling.questions import Question, Reply, Summary, Verdict

__all__ = ["Asker", "FunctionAsker", "PageAsker", "TerminalAsker"]

Record = Callable[[str, Reply], None]
Summarise = Callable[[str], Summary]


class Asker(Protocol):
    """Puts questions to people. What they reply is recorded before `ask` returns, or later."""

    def ask(self, questions: Sequence[Question], timeout: float | None) -> None:
        """Waits until all are answered, or until nobody has answered for `timeout` seconds."""

    def close(self) -> None:
        """Gives back what it holds. May be called twice."""


class PageAsker:
    """Asks on the labelling page; raters may come and go, and there may be several.

    Args:
        record: Writes down a reply.
        summarise: A rater's summary.
        rater: Name that the page assumes; empty lets it ask.
        host: Address to listen on.
        port: 0 takes a free one.
    """

    def __init__(
        self, record: Record, summarise: Summarise, *, rater: str, host: str, port: int
    ) -> None:
        from llm_gym.feedback.labelling.server import BackgroundServer, create_app, listen

        self._desk = LiveDesk(record, summarise)
        listener = listen(host, port)
        self._server = BackgroundServer(create_app(self._desk, rater=rater, host=host), listener)
        self.url = self._server.url
        print(f"llm-gym: waits for a person's judgement at {self.url}", file=sys.stderr, flush=True)

    def ask(self, questions: Sequence[Question], timeout: float | None) -> None:
        """See `Asker.ask`."""
        self._desk.ask(questions, timeout)

    def close(self) -> None:
        """Stops the page."""
        self._server.close()


class TerminalAsker:
    """Asks in the terminal that the run was started from.

    Args:
        record: Writes down a reply.
        summarise: A rater's summary.
        rater: Who answers.
    """

    def __init__(self, record: Record, summarise: Summarise, *, rater: str) -> None:
        self._record, self._summarise, self._rater = record, summarise, rater

    def ask(self, questions: Sequence[Question], timeout: float | None) -> None:
        """See `Asker.ask`. To quit is to interrupt the run, as Ctrl-C does."""
        from rich.console import Console

        from llm_gym.feedback.labelling.keys import Keys
        from llm_gym.feedback.labelling.terminal import ask, reply_to

        console = Console()
        with Keys() as keys:
            for question in questions:
                started = time.monotonic()
                try:
                    verdict = ask(
                        question,
                        console=console,
                        keys=keys,
                        summary=self._summarise(self._rater),
                        timeout=timeout,
                    )
                except EOFError:
                    verdict = None
                if verdict is None:
                    return
                if verdict == "quit" or verdict == "undo":  # a model may have learnt from it
                    raise KeyboardInterrupt
                seconds = time.monotonic() - started
                self._record(self._rater, reply_to(question, verdict, seconds))

    def close(self) -> None:
        """Holds nothing between questions."""


class FunctionAsker:
    """Asks a function: a rater of your own making.

    Args:
        record: Writes down a reply.
        function: Gets the question; returns a verdict, a score, or None for no answer.
        rater: The name that goes with it.
    """

    def __init__(
        self, record: Record, function: Callable[[Question], Verdict | float | None], *, rater: str
    ) -> None:
        self._record, self._function, self._rater = record, function, rater

    def ask(self, questions: Sequence[Question], timeout: float | None) -> None:
        """See `Asker.ask`; how long the function takes is its own affair."""
        from llm_gym.feedback.labelling.terminal import reply_to

        for question in questions:
            started = time.monotonic()
            verdict = self._function(question)
            if verdict is None:
                return
            seconds = time.monotonic() - started
            self._record(self._rater, reply_to(question, verdict, seconds))

    def close(self) -> None:
        """Holds nothing."""
