"""The desk at which a training run waits for a person's judgement."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from threading import Condition

from llm_gym.feedback.labelling.questions import Question, Reply, Summary

__all__ = ["LiveDesk"]

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
