"""The desk in front of a store: comparisons go out, votes come in."""

from __future__ import annotations

import hashlib
from statistics import median
from threading import RLock
from typing import Any

from llm_gym.feedback.labelling.questions import (
    ConflictError,
    Question,
    Reply,
    Summary,
    UnknownQuestionError,
)
from llm_gym.feedback.labelling.results import Results, results_of
from llm_gym.feedback.preferences.effort import vote_notes
from llm_gym.feedback.preferences.records import Choice, Comparison, Vote, checked_overlap, whole
from llm_gym.feedback.preferences.store import PreferenceStore

_RECENT = 50  # votes that tell a rater's pace: people get quicker


class StoreDesk:
    """Hands out the comparisons of a store, and records the votes there.

    Args:
        store: Comparisons and votes; stays open.
        votes_per_comparison: How many votes each comparison shall get.
        overlap: Share of the comparisons that shall get one vote more, to measure agreement.
        budget: The most questions that one rater is asked, skipped ones and those of earlier
            sessions among them; None asks while there is something to ask.
        seed: Seed of the order in which the two answers are shown, which depends on this, the rater
            and the comparison only: a rater who reloads the page sees the same order again.
        lease_seconds: How long a comparison waits for a rater who has gone.

    Raises:
        ValueError: A number below 1, or an overlap beyond 0 to 1.
    """

    def __init__(
        self,
        store: PreferenceStore,
        *,
        votes_per_comparison: int = 1,
        overlap: float = 0.0,
        budget: int | None = None,
        seed: int = 0,
        lease_seconds: float = 600,
    ) -> None:
        whole("votes_per_comparison", votes_per_comparison, least=1)
        if budget is not None:
            whole("budget", budget, least=1)
        self.store = store
        # What `next_for` and `progress` of the store are asked with.
        self._wanted: dict[str, Any] = {
            "votes_per_comparison": votes_per_comparison,
            "overlap": checked_overlap(overlap),
        }
        self._lease_seconds = lease_seconds
        self._budget = budget
        self._seed = seed
        self._lock = RLock()
        self._histories: dict[str, list[Vote]] = {}
        self._noted: tuple[int, tuple[str, ...]] = (0, vote_notes([]))

    def next(self, rater: str) -> Question | None:
        """The comparison that the rater should judge next. See `Desk.next`."""
        with self._lock:
            if self._budget is not None and len(self._history(rater)) >= self._budget:
                return None
            comparison = self.store.next_for(
                rater, **self._wanted, lease_seconds=self._lease_seconds
            )
            return None if comparison is None else self._question(rater, comparison)

    def answer(self, rater: str, reply: Reply) -> None:
        """Records a vote. See `Desk.answer`."""
        if not isinstance(reply.verdict, str):
            raise ConflictError(f"a comparison takes no score ({reply.verdict!r})")
        with self._lock:
            try:
                comparison = self.store.comparison(reply.question_id)
            except ValueError as error:
                raise UnknownQuestionError(str(error)) from error
            if self._question(rater, comparison).fingerprint != reply.fingerprint:
                raise UnknownQuestionError(
                    f"question {reply.question_id} of this store is another one: the vote belongs "
                    "to another store"
                )
            try:
                vote = self.store.vote(
                    reply.question_id,
                    rater,
                    _choice(reply),
                    seconds=reply.seconds,
                    shown_first=reply.shown_first,
                    key=reply.key,
                )
            except ValueError as error:  # on record already: from another page of the same rater
                self._histories.pop(rater, None)
                raise ConflictError(str(error)) from error
            history = self._history(rater)
            if all(vote.id != known.id for known in history):
                history.append(vote)

    def undo(self, rater: str, undo_id: int) -> Question | None:
        """Takes back the rater's last vote, and gives its comparison again. See `Desk.undo`."""
        with self._lock:
            self._histories.pop(rater, None)  # another page of the same rater may have voted
            history = self._history(rater)
            if not history or history[-1].id != undo_id:
                return None  # a repeated request: done already
            vote = self.store.undo(rater)
            self._histories.pop(rater, None)
            if vote is None:
                return None
            return self._question(rater, self.store.comparison(vote.comparison_id))

    def summary(self, rater: str) -> Summary:
        """How far the rater is. See `Desk.summary`."""
        with self._lock:
            history = self._history(rater)
            done = len(history)
            left = self.store.progress(rater, **self._wanted).remaining
            if self._budget is not None:
                left = min(left, max(self._budget - done, 0))
            pace = median(vote.seconds for vote in history[-_RECENT:]) if history else None
            return Summary(
                rater=rater,
                done=done,
                total=done + left,
                seconds_left=None if pace is None else pace * left,
                undo_id=history[-1].id if history else None,
                notes=self._notes(),
            )

    def results(self) -> Results:
        """How the votes of all raters stand."""
        # Not under the lock of the desk: those who vote need not wait for those who look.
        remaining = self.store.progress(**self._wanted).remaining
        return results_of(list(self.store.votes()), remaining)

    def _history(self, rater: str) -> list[Vote]:
        """The rater's standing votes in the order they came; read once, then kept up to date."""
        if rater not in self._histories:
            self._histories[rater] = [vote for vote in self.store.votes() if vote.rater == rater]
        return self._histories[rater]

    def _question(self, rater: str, comparison: Comparison) -> Question:
        assert comparison.id is not None
        name = f"{self._seed}/{comparison.id}/{rater}".encode()
        first = hashlib.blake2b(name, digest_size=1).digest()[0] % 2
        answers = (comparison.answers[first], comparison.answers[1 - first])
        return Question(comparison.id, comparison.prompt, answers, shown_first=first)

    def _notes(self) -> tuple[str, ...]:
        """Sentences about all votes; of many votes, not written anew for each of them."""
        progress = self.store.progress()
        number = progress.votes + progress.skips
        if abs(number - self._noted[0]) > self._noted[0] // 100:
            self._noted = (number, vote_notes(list(self.store.votes())))
        return self._noted[1]


def _choice(reply: Reply) -> Choice:
    """What the rater said about the answers as stored, from the side on which they stood."""
    if reply.verdict in ("left", "right"):
        chosen = reply.shown_first if reply.verdict == "left" else 1 - reply.shown_first
        return (Choice.FIRST, Choice.SECOND)[chosen]
    return Choice.TIE if reply.verdict == "tie" else Choice.SKIP
