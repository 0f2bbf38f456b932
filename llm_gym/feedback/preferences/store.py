"""The store of comparisons and votes: one SQLite file for any number of raters at once."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, TypeVar

from llm_gym.feedback.preferences import rows
from llm_gym.feedback.preferences.database import Database
from llm_gym.feedback.preferences.files import Contradictions, read_preferences, write_preferences
from llm_gym.feedback.preferences.records import (
    Choice,
    Comparison,
    Preference,
    Progress,
    Vote,
    checked_overlap,
    rater_name,
    request_key,
    whole,
)
from llm_gym.feedback.preferences.tally import Conflicts, Ties, to_preferences, to_votes
from llm_gym.scorers.checking import finite_number

_LONGEST_TIMEOUT = 1_000_000  # seconds; SQLite counts milliseconds in 31 bits
STORES = (".db", ".sqlite", ".sqlite3")

Kind = TypeVar("Kind", Comparison, Vote)


class PreferenceStore:
    """Comparisons and the votes on them, in one SQLite file.

    Several threads and processes may use the same file at once. A vote is on the disk when `vote`
    returns: neither `kill -9` nor a power cut takes it back. While the file is in use, SQLite keeps
    two companions beside it (`-wal`, `-shm`); copy it only when nobody has it open.

    Args:
        path: The file; made, with its directory, if it is not there.
        timeout: Seconds to wait while another process is writing.

    Raises:
        ValueError: The file is no store, damaged, half-written, or of a newer version.
        StoreUnavailableError: It is locked (`StoreBusyError`), the disk is full
            (`StoreFullError`), or it may not be read or written. So for every method.
    """

    def __init__(self, path: str | Path, *, timeout: float = 30.0) -> None:
        if not 0 <= finite_number("timeout", timeout) <= _LONGEST_TIMEOUT:
            raise ValueError(
                f"timeout must be from 0 to {_LONGEST_TIMEOUT} seconds, got {timeout!r}"
            )
        self._database = Database(path, rows.SCHEMA, timeout)

    @property
    def path(self) -> Path:
        """The file."""
        return self._database.path

    def close(self) -> None:
        """Closes the file. May be called twice; using the store afterwards is a ValueError."""
        self._database.close()

    def __enter__(self) -> PreferenceStore:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"PreferenceStore({str(self.path)!r})"

    # ------------------------------------------------------------------ comparisons

    def add(self, comparisons: Iterable[Comparison]) -> list[int]:
        """Adds comparisons: all of them, or none if one cannot be.

        A pair that is there already (same prompt, same two answers in either order) stays as it is,
        order and columns included.

        Args:
            comparisons: To add; their `id` is ignored.

        Returns:
            Their numbers, in the order given.

        Raises:
            TypeError: One is no comparison.
        """
        comparisons = _all_of(Comparison, comparisons)
        with self._database.transaction() as connection:
            return [rows.add_comparison(connection, comparison) for comparison in comparisons]

    def comparison(self, comparison_id: int) -> Comparison:
        """The comparison of that number; ValueError if there is none."""
        comparison_id = whole("comparison_id", comparison_id)
        with self._database.snapshot() as connection:
            return rows.comparison(connection, comparison_id)

    def comparisons(self) -> Iterator[Comparison]:
        """All comparisons, in the order they came in."""
        with self._database.snapshot() as connection:
            return iter(rows.comparisons(connection))

    def next_for(
        self,
        rater: str,
        *,
        votes_per_comparison: int = 1,
        overlap: float = 0.0,
        lease_seconds: float = 600,
    ) -> Comparison | None:
        """What a rater should judge next, kept for that rater for a while.

        Never what the rater has judged or skipped. A rater who asks again before voting gets the
        same comparison again. Otherwise it is the one with the fewest votes, those counted that
        other raters have on the table; so two raters get the same pair only if more than one vote
        is wanted. A skip is no vote: another rater will be asked.

        Args:
            rater: Who asks.
            votes_per_comparison: How many votes each comparison shall get.
            overlap: Share of the comparisons, evenly spread, that shall get one vote more: to
                measure how far raters agree.
            lease_seconds: How long it is kept for a rater who may never come back.

        Returns:
            The comparison; None if nothing is left for this rater now.

        Raises:
            ValueError: An argument out of range.
        """
        rater = rater_name(rater)
        _check_votes_per_comparison(votes_per_comparison)
        overlap = checked_overlap(overlap)
        _check_lease(lease_seconds)
        now = time.time()
        with self._database.transaction() as connection:
            comparison = rows.next_comparison(connection, rater, votes_per_comparison, overlap, now)
            if comparison is not None and comparison.id is not None:
                rows.lease(connection, comparison.id, rater, now + lease_seconds)
            return comparison

    # ------------------------------------------------------------------ votes

    def vote(
        self,
        comparison_id: int,
        rater: str,
        choice: Choice | str,
        *,
        seconds: float,
        shown_first: int,
        key: str | None = None,
    ) -> Vote:
        """Records a vote; it is on the disk when this returns.

        A vote is accepted even if the comparison has been given to someone else in the meantime:
        it has been paid for.

        Args:
            comparison_id: What was judged.
            rater: Who judged.
            choice: Choice of the answers as stored, whatever order they were shown in.
            seconds: How long it took.
            shown_first: 0 or 1, the answer that stood first.
            key: Visible characters that are different for each request. If the answer to a request
                is lost, the request can be repeated with its key and counts once.

        Returns:
            The vote as recorded.

        Raises:
            ValueError: No such comparison, the rater has voted on it (`undo` first), an argument
                out of range, or a key that belongs to another vote or to one taken back.
        """
        vote = Vote(comparison_id, rater, Choice(choice), seconds, shown_first)
        key = None if key is None else request_key(key)
        with self._database.transaction() as connection:
            repeated = None if key is None else rows.requested_vote(connection, key, vote)
            return repeated or rows.add_vote(connection, vote, key)

    def add_votes(self, votes: Iterable[Vote]) -> list[Vote]:
        """Records many votes in one transaction: all of them, or none if one cannot be.

        Args:
            votes: To record; `id` is ignored, `created_at` is filled in where it is empty.

        Returns:
            The votes as recorded.

        Raises:
            TypeError: One is no vote.
            ValueError: As for `vote`.
        """
        votes = _all_of(Vote, votes)
        with self._database.transaction() as connection:
            return [rows.add_vote(connection, vote) for vote in votes]

    def undo(self, rater: str, *, lease_seconds: float = 600) -> Vote | None:
        """Takes back the last vote (or skip) of a rater, who gets that comparison next.

        The vote stays in the file with the time it was taken back (`votes(undone=True)`).

        Args:
            rater: Whose vote.
            lease_seconds: How long the comparison is kept for the rater.

        Returns:
            The vote taken back; None if the rater has none.
        """
        rater = rater_name(rater)
        _check_lease(lease_seconds)
        with self._database.transaction() as connection:
            vote = rows.take_back_last(connection, rater)
            if vote is not None:
                rows.lease(connection, vote.comparison_id, rater, time.time() + lease_seconds)
            return vote

    def votes(self, *, undone: bool = False) -> Iterator[Vote]:
        """Votes and skips in the order they came in.

        Args:
            undone: Those that were taken back, instead of those that stand.
        """
        with self._database.snapshot() as connection:
            return iter(rows.votes(connection, undone=undone))

    def progress(
        self, rater: str | None = None, *, votes_per_comparison: int = 1, overlap: float = 0.0
    ) -> Progress:
        """How far the labelling has come.

        Args:
            rater: Count this rater's votes only; None counts all.
            votes_per_comparison: How many votes each comparison shall get.
            overlap: See `next_for`.

        Returns:
            The counts, all of the same moment.
        """
        _check_votes_per_comparison(votes_per_comparison)
        overlap = checked_overlap(overlap)
        with self._database.snapshot() as connection:
            rater = None if rater is None else rater_name(rater)
            return rows.progress(connection, rater, votes_per_comparison, overlap)

    # ------------------------------------------------------------------ preferences

    def preferences(
        self,
        *,
        ties: Ties = "drop",
        conflicts: Conflicts = "majority",
        last_vote: int | None = None,
    ) -> list[Preference]:
        """The votes as rows to train on.

        Args:
            ties: See `tally.to_preferences`.
            conflicts: See `tally.to_preferences`.
            last_vote: Number of the last vote that counts, for a store in which people go on
                voting; None counts all.
        """
        last_vote = None if last_vote is None else whole("last_vote", last_vote)
        with self._database.snapshot() as connection:
            comparisons = rows.comparisons(connection)
            votes = rows.votes(connection, last_vote=last_vote)
        return to_preferences(comparisons, votes, ties=ties, conflicts=conflicts)

    def export_file(
        self, path: str | Path, *, ties: Ties = "drop", conflicts: Conflicts = "majority"
    ) -> int:
        """Writes `preferences` to a file in TRL's format, whole or not at all.

        With `conflicts="all"` every vote is a row with its rater, and `import_file` gives the same
        votes back (but no skips, and ties only with `ties="both"`).

        Args:
            path: Ends in `.jsonl` or `.parquet`.
            ties: See `tally.to_preferences`.
            conflicts: See `tally.to_preferences`.

        Returns:
            The number of rows.

        Raises:
            ValueError: Nothing to write, or another ending.
        """
        preferences = self.preferences(ties=ties, conflicts=conflicts)
        if not preferences:
            raise ValueError(f"{self.path} has no vote that says which answer is better")
        write_preferences(path, preferences)
        return len(preferences)

    def import_file(
        self,
        path: str | Path,
        *,
        rater: str = "imported",
        contradictions: Contradictions = "raise",
        bad_rows: str = "error",
    ) -> int:
        """Reads preferences and records each row as a vote: all of them, or none.

        Who voted, when and for how long is taken from the columns that `export_file` writes where
        they are there. Importing the same file again changes nothing.

        Args:
            path: See `files.read_preferences`.
            rater: The name under which rows without a rater are recorded. The second row of one
                rater on a pair is recorded under the name with " (2)" behind it, and so on.
            contradictions: See `files.read_preferences`.
            bad_rows: See `files.read_preferences`.

        Returns:
            The number of votes that were new.

        Raises:
            ValueError: The file cannot be read, or contradicts a vote that is in the store.
        """
        rater = rater_name(rater)
        preferences = read_preferences(path, contradictions=contradictions, bad_rows=bad_rows)
        votes = to_votes(preferences, rater)
        with self._database.transaction() as connection:
            return sum(rows.import_vote(connection, seen, vote) for seen, vote in votes)


def _all_of(kind: type[Kind], values: Iterable[Any]) -> list[Kind]:
    if not isinstance(values, Iterable):
        raise TypeError(f"what is added must be a list of {kind.__name__}, got {values!r:.80}")
    listed = list(values)
    for each in listed:
        if not isinstance(each, kind):
            raise TypeError(f"each of what is added must be a {kind.__name__}, got {each!r:.80}")
    return listed


def _check_votes_per_comparison(number: int) -> None:
    if isinstance(number, bool) or not isinstance(number, int) or number < 1:
        raise ValueError(f"votes_per_comparison must be a whole number from 1 on, got {number!r}")
    whole("votes_per_comparison", number)


def _check_lease(seconds: float) -> None:
    if finite_number("lease_seconds", seconds) <= 0:
        raise ValueError(f"lease_seconds must be above 0, got {seconds!r}")


def preferences_from(
    source: Any, contradictions: str = "raise", *, bad_rows: str = "error"
) -> list[Preference]:
    """Reads preferences, wherever they are.

    Args:
        source: A store of votes or the path of one (`.db`, `.sqlite`, `.sqlite3`), whose votes are
            all taken, ties as two opposite rows; `Preference`s, which are taken as they are; or
            what `read_preferences` reads.
        contradictions: See `read_preferences`.
        bad_rows: See `read_preferences`.

    Raises:
        FileNotFoundError: There is no such file.
        TypeError: Not something preferences can be read from.
        ValueError: There are no preferences, or a row cannot be read.
    """
    if isinstance(source, PreferenceStore):
        source = source.preferences(ties="both", conflicts="all")
    elif isinstance(source, (str, Path)) and Path(source).suffix in STORES:
        if not Path(source).is_file():  # a store would be made
            raise FileNotFoundError(f"there is no preference store {str(source)!r}")
        with PreferenceStore(source) as store:
            return preferences_from(store)
    is_sequence = isinstance(source, Sequence) and not isinstance(source, str)
    if is_sequence and all(isinstance(row, Preference) for row in source):
        contradictions = "keep"
    policy: Any = contradictions  # checked there
    return read_preferences(source, contradictions=policy, bad_rows=bad_rows)
