"""How a training run reaches a person: a page, the terminal it runs in, or a function."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Sequence
from threading import Condition
from typing import Protocol

from llm_gym.feedback.labelling.questions import Question, Reply, Summary, Verdict

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
        from llm_gym.feedback.labelling.addresses import listen
        from llm_gym.feedback.labelling.server import BackgroundServer, create_app

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


# ------------------------------------------------------------------ the desk behind the page


_HEARTBEAT = 1.0  # seconds; an unlimited wait could not be interrupted by Ctrl-C on Windows


class LiveDesk:
    """Shows waiting questions to whoever has the page open; the first reply counts.

    Args:
        record: Writes down a rater's reply, durably when it returns; raises `ConflictError` for a
            question that cannot take it. Called for late replies too: they have been paid for.
        summarise: A rater's summary.
    """

    def __init__(
        self, record: Callable[[str, Reply], None], summarise: Callable[[str], Summary]
    ) -> None:
        self._record = record
        self._summarise = summarise
        self._changed = Condition()
        self._waiting: list[Question] = []

    def ask(self, questions: Sequence[Question], timeout: float | None) -> None:
        """Waits until all are answered, or until nobody has answered for `timeout` seconds.

        Args:
            questions: To ask, in this order.
            timeout: Seconds without an answer; None waits for ever.
        """
        with self._changed:
            self._waiting = list(questions)
            try:
                while self._waiting and self._somebody_answers(timeout):
                    pass
            finally:
                self._waiting = []

    def next(self, rater: str) -> Question | None:
        """The question that waits. See `Desk.next`."""
        with self._changed:
            return self._waiting[0] if self._waiting else None

    def answer(self, rater: str, reply: Reply) -> None:
        """Records a reply and wakes the run. See `Desk.answer`."""
        self._record(rater, reply)
        with self._changed:
            left = [question for question in self._waiting if question.id != reply.question_id]
            if len(left) < len(self._waiting):
                self._waiting = left
                self._changed.notify_all()

    def undo(self, rater: str, undo_id: int) -> Question | None:
        """Nothing can be taken back: the model may have learnt from it already."""
        return None

    def summary(self, rater: str) -> Summary:
        """How far the rater is. See `Desk.summary`."""
        return self._summarise(rater)

    def _somebody_answers(self, timeout: float | None) -> bool:
        before = len(self._waiting)
        deadline = None if timeout is None else time.monotonic() + timeout
        while len(self._waiting) == before:
            left = _HEARTBEAT if deadline is None else deadline - time.monotonic()
            if left <= 0:
                return False
            self._changed.wait(min(left, _HEARTBEAT))
        return True
