"""People in the loop of reinforcement learning: a scorer that asks a person."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import numpy as np

from llm_gym.feedback.labelling.askers import Asker, FunctionAsker, PageAsker, TerminalAsker
from llm_gym.feedback.labelling.questions import (
    ConflictError,
    Question,
    Reply,
    Summary,
    UnknownQuestionError,
    Verdict,
    checked_rater,
)
from llm_gym.feedback.labelling.score_book import Asked, ScoreBook
from llm_gym.feedback.preferences.effort import Effort, labelling_effort, score_notes
from llm_gym.files.ranges import check_numbers
from llm_gym.language_models.chat import plain_text
from llm_gym.scorers.protocol import Columns, Scorer, Scores, as_scorer

Instead = Literal["mean", "raise"] | Scorer | Callable[..., Any]
"""What stands in for a person's score: the mean of those given so far, an error, or a scorer's."""

MIDDLE = 50.0  # of the scale: the mean while there are no scores


class HumanScorer(Scorer):
    """Asks a person what each finished answer is worth, from 0 to 100.

    With a baseline the person compares instead: 100 if the model's answer is better, 50 for a tie,
    0 if the baseline is. Scores have a part "human": 1 where a person said so, now or earlier, else
    0.

    Every answer is kept in `book` the moment it is given. The same answer to the same prompt is
    never asked about twice, nor by a run that was resumed; an answer that comes after the time-out
    counts the next time.

    Args:
        book: File for the questions and answers (SQLite); made if it is not there.
        ask: "page" serves the labelling page (extra `label`) and prints its address; "terminal"
            asks in this one; or a function that takes a `Question` and returns a score, a verdict
            ("left", "right", "tie", "skip"), or None for no answer.
        baseline: What to compare with: the name of a column of the prompts, or a function that
            takes a list of prompts and returns as many answers; None asks for scores.
        budget: The most answers that are asked of people, those in the book already among them;
            None has no limit.
        after_budget: What counts when the budget is spent.
        timeout: Seconds to wait for the next answer; when nobody gives one, the rest of that batch
            is not waited for. None waits for ever.
        on_timeout: What counts then, and where a person skips the question.
        rater: Who answers; empty lets the page ask.
        host: Address that the page listens on.
        port: Port of the page; 0 takes a free one.
        seed: Seed of the order in which an answer and its baseline are shown.
        name: Name in messages.

    Raises:
        ValueError: A number out of range, or the book is another kind of file.
        TypeError: Something that cannot ask or score.
    """

    def __init__(
        self,
        book: str | Path,
        ask: Literal["page", "terminal"] | Callable[[Question], Verdict | float | None] = "page",
        *,
        baseline: str | Callable[[list[str]], Sequence[str]] | None = None,
        budget: int | None = None,
        after_budget: Instead = "mean",
        timeout: float | None = None,
        on_timeout: Instead = "mean",
        rater: str = "",
        host: str = "127.0.0.1",
        port: int = 0,
        seed: int = 0,
        name: str = "human",
    ) -> None:
        self.name = name
        check_numbers(port=port, seed=seed)
        if budget is not None:
            check_numbers(budget=budget)
        if timeout is not None:
            check_numbers(timeout=timeout)
        if not callable(ask) and ask not in ("page", "terminal"):
            raise ValueError(f'ask must be "page", "terminal" or a function, got {ask!r}')
        self._instead = {
            option: _checked_policy(option, policy)
            for option, policy in (("after_budget", after_budget), ("on_timeout", on_timeout))
        }
        self._rater = checked_rater(rater) if rater else ""
        self._ask, self._address = ask, (host, port)
        self._baseline, self._budget, self._timeout, self._seed = baseline, budget, timeout, seed
        self.book = ScoreBook(book)
        self._asker: Asker | None = None

    def compute(self, prompts: list[str], completions: list[str], columns: Columns) -> Scores:
        """Looks up what people have said, and asks about the rest. See `Scorer.compute`."""
        baselines = self._baselines(prompts, columns)
        shown = [plain_text(prompt) for prompt in prompts]  # of a conversation all turns
        questions = [self.book.ask(*row) for row in zip(shown, completions, baselines, strict=True)]
        new = {
            question.id: question
            for question in questions
            if not question.answered and question.completion != question.baseline
        }
        affordable = list(new.values())[: self._left()]
        if affordable:
            self._find_asker().ask(
                [self._question(question) for question in affordable], self._timeout
            )
        answers = {question.id: self.book.question(question.id).value for question in questions}
        values = np.array(
            [
                np.nan if answers[question.id] is None else answers[question.id]
                for question in questions
            ]
        )
        human = np.isfinite(values).astype(np.float64)
        unaffordable = new.keys() - {question.id for question in affordable}
        for row, question in enumerate(questions):
            if question.completion == question.baseline:  # a tie; nobody needs to be asked
                values[row] = MIDDLE
        for option, why in (
            ("after_budget", f"has spent its budget of {self._budget} answers"),
            ("on_timeout", "got no answer from a person"),
        ):
            rows = [
                row
                for row, question in enumerate(questions)
                if np.isnan(values[row]) and (option == "on_timeout" or question.id in unaffordable)
            ]
            if rows:
                values[rows] = self._stand_in(option, why, rows, prompts, completions, columns)
        return Scores(values, {"human": human})

    @property
    def url(self) -> str | None:
        """Where the page is; None before the first question, or without a page."""
        return self._asker.url if isinstance(self._asker, PageAsker) else None

    def effort(self, judgements: int | None = None) -> Effort:
        """What people's answers take, at the pace measured so far.

        Args:
            judgements: How many answers, for example all that a run samples; None takes those that
                people have given.

        Returns:
            Hours and cost. Before there is a measured pace it is assumed, as the result says.
        """
        tally = self.book.tally()
        assumed = labelling_effort(tally.answers if judgements is None else judgements)
        if not tally.seconds:
            return assumed
        return replace(
            assumed,
            seconds_per_vote=tally.seconds / tally.answers,
            votes_measured=tally.answers,
        )

    def close(self) -> None:
        """Stops the page and closes the book."""
        if self._asker is not None:
            self._asker.close()
        self.book.close()

    def __enter__(self) -> HumanScorer:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # ------------------------------------------------------------------ asking

    def _find_asker(self) -> Asker:
        if self._asker is None:
            if self._ask == "page":
                host, port = self._address
                self._asker = PageAsker(
                    self._record, self._summary, rater=self._rater, host=host, port=port
                )
            elif self._ask == "terminal":
                self._asker = TerminalAsker(
                    self._record, self._summary, rater=self._rater or "terminal"
                )
            else:
                assert callable(self._ask)
                self._asker = FunctionAsker(self._record, self._ask, rater=self._rater or self.name)
        return self._asker

    def _left(self) -> int | None:
        """How many more answers may be asked for; None without limit."""
        return None if self._budget is None else max(self._budget - self.book.tally().answers, 0)

    def _question(self, entry: Asked) -> Question:
        if entry.baseline is None:
            return Question(entry.id, entry.prompt, (entry.completion,))
        drawn = hashlib.blake2b(f"{self._seed}/{entry.id}".encode(), digest_size=1).digest()
        first = drawn[0] % 2
        answers = (entry.completion, entry.baseline)
        return Question(entry.id, entry.prompt, (answers[first], answers[1 - first]), first)

    def _record(self, rater: str, reply: Reply) -> None:
        """Writes a reply into the book. Called from the page's threads."""
        entry = self.book.question(reply.question_id)
        if self._question(entry).fingerprint != reply.fingerprint:
            raise UnknownQuestionError(f"question {reply.question_id} of this run is another one")
        self.book.answer(
            entry.id, _value(entry, reply), rater=rater, seconds=reply.seconds, key=reply.key
        )

    def _summary(self, rater: str) -> Summary:
        tally = self.book.tally()
        left = self._left()
        return Summary(
            rater=rater,
            done=tally.answers,
            total=self._budget,
            seconds_left=left * tally.seconds / tally.answers if left and tally.answers else None,
            undo_id=None,
            notes=score_notes(tally.answers, tally.seconds),
            live=True,
        )

    def _baselines(self, prompts: list[str], columns: Columns) -> Sequence[str | None]:
        if self._baseline is None:
            return [None] * len(prompts)
        if callable(self._baseline):
            baselines = self._baseline(list(prompts))
        elif self._baseline in columns:
            baselines = columns[self._baseline]
        else:
            raise ValueError(
                f"baseline={self._baseline!r} is no column of the prompts, which have "
                f"{sorted(columns)}"
            )
        if len(baselines) != len(prompts) or not all(isinstance(text, str) for text in baselines):
            raise ValueError(
                f"baseline must give one text for each of the {len(prompts)} prompts, got "
                f"{baselines!r:.80}"
            )
        return list(baselines)

    # ------------------------------------------------------------------ where nobody answers

    def _stand_in(
        self,
        option: str,
        why: str,
        rows: list[int],
        prompts: list[str],
        completions: list[str],
        columns: Columns,
    ) -> Any:
        policy = self._instead[option]
        if policy == "raise":
            raise self.error(why, prompts, completions, rows[0])
        if policy == "mean":
            mean = self.book.tally().mean
            return MIDDLE if mean is None else mean
        assert isinstance(policy, Scorer)
        return policy.score(
            [prompts[row] for row in rows],
            [completions[row] for row in rows],
            {name: [values[row] for row in rows] for name, values in columns.items()},
        ).values


def _checked_policy(option: str, policy: Instead) -> Scorer | str:
    if isinstance(policy, str):
        if policy not in ("mean", "raise"):
            raise ValueError(f'{option} must be "mean", "raise" or a scorer, got {policy!r}')
        return policy
    return as_scorer(policy)


def _value(entry: Asked, reply: Reply) -> float | None:
    """What a reply says of the model's answer, 0 to 100; None if the person declined."""
    if reply.verdict == "skip":
        return None
    compares = entry.baseline is not None
    if isinstance(reply.verdict, str) != compares:
        kind = "one of the two answers" if compares else "a score from 0 to 100"
        raise ConflictError(f"question {entry.id} takes {kind}, got {reply.verdict!r}")
    if not isinstance(reply.verdict, str):
        return float(reply.verdict)
    if reply.verdict == "tie":
        return MIDDLE
    model_is_left = reply.shown_first == 0
    return 100.0 if (reply.verdict == "left") == model_is_left else 0.0
