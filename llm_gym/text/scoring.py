"""What the end of an episode is worth: the reward, the flags and the final info."""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from llm_gym.scorers.protocol import Scorer, ScorerError, Scores
from llm_gym.scorers.texts import SourcedText
from llm_gym.scorers.trainer import (
    COMPLETION_IDS,
    TRAINER_KEYWORDS,
    EnvironmentState,
    trainer_keywords,
)
from llm_gym.text.answer import Answer

if TYPE_CHECKING:
    from llm_gym.text.options import TextOptions


class Outcome(NamedTuple):
    """What the last step of an episode returns."""

    reward: float
    terminated: bool
    truncated: bool
    info: dict[str, Any]


class Verdict(NamedTuple):
    """What the scorer says of one answer: its value, and that of each named part."""

    value: float
    parts: dict[str, float]


class EpisodeScoring:
    """Scores finished episodes, all of a step in one call of the scorer.

    The scorer is handed what TRL's trainers hand to reward functions: prompts, completions, the
    prompts' columns, the token ids of the completions and a `trainer_state`.

    Args:
        scorer: Checked scorer.
        column_names: Columns that the scorer is always offered; None where a prompt lacks one.
        options: `on_max_length`, `on_scorer_error` and their penalties are used.

    Attributes:
        num_tokens: Tokens that the environment's rows have written, as `trainer_state` tells it.
    """

    def __init__(self, scorer: Scorer, column_names: frozenset[str], options: TextOptions) -> None:
        self._scorer = scorer
        self._column_names = column_names
        self._options = options
        self._warned: set[str] = set()
        self.num_tokens = 0

    def outcomes(self, answers: Sequence[Answer]) -> list[Outcome]:
        """Judges the episodes that ended in one step.

        Args:
            answers: B answers, one of each episode.

        Returns:
            B outcomes. An episode is scored and terminated, or truncated, or penalised and
            terminated; never both scored and truncated.

        Raises:
            ScorerError: The scorer failed and `on_scorer_error` is "raise".
        """
        scored = [answer for answer in answers if self._is_scored(answer)]
        verdicts = iter(self._verdicts(scored) if scored else [])
        return [
            self._scored(answer, next(verdicts))
            if self._is_scored(answer)
            else self._unscored(answer)
            for answer in answers
        ]

    def scores_so_far(self, answers: Sequence[Answer]) -> list[float | None]:
        """Scores answers that are still being written, for `scorer_scope="token"`.

        Args:
            answers: B answers as far as they are written.

        Returns:
            B scores; None where the scorer failed and `on_scorer_error` is "penalise".

        Raises:
            ScorerError: The scorer failed and `on_scorer_error` is "raise".
        """
        verdicts = self._verdicts(answers) if answers else []
        return [None if isinstance(verdict, ScorerError) else verdict.value for verdict in verdicts]

    def _is_scored(self, answer: Answer) -> bool:
        return answer.stop_reason != "length" or self._options.on_max_length == "terminate"

    def _unscored(self, answer: Answer) -> Outcome:
        if self._options.on_max_length == "truncate":
            return Outcome(0.0, False, True, _text_info(answer))
        return Outcome(float(self._options.missing_eos_penalty), True, False, _text_info(answer))

    def _scored(self, answer: Answer, verdict: Verdict | ScorerError) -> Outcome:
        info = _text_info(answer)
        if isinstance(verdict, ScorerError):
            info["scorer_error"] = str(verdict)
            return Outcome(float(self._options.scorer_error_penalty), True, False, info)
        info["score"] = verdict.value
        if verdict.parts:
            info["score_parts"] = verdict.parts
        return Outcome(verdict.value, True, False, info)

    def _verdicts(self, answers: Sequence[Answer]) -> list[Verdict | ScorerError]:
        try:
            scores = self._call(answers)
        except ScorerError as error:
            if self._options.on_scorer_error == "raise":
                raise
            if len(answers) == 1:
                return [error]
            # One by one, so that only the episodes at fault are penalised.
            return [verdict for answer in answers for verdict in self._verdicts([answer])]
        return [
            Verdict(float(value), _parts_of(scores, row)) for row, value in enumerate(scores.values)
        ]

    def _call(self, answers: Sequence[Answer]) -> Scores:
        names = self._column_names.union(*(answer.columns for answer in answers))
        names -= self._reserved(names)
        with trainer_keywords({"trainer_state": EnvironmentState(self.num_tokens)}):
            return self._scorer.score(
                [answer.prompt for answer in answers],
                [SourcedText(a.completion, token_ids=a.completion_ids) for a in answers],
                {name: [answer.columns.get(name) for answer in answers] for name in sorted(names)},
            )

    def _reserved(self, names: frozenset[str]) -> frozenset[str]:
        """Columns whose names mean something else to TRL's functions; a warning says so once."""
        taken = names & {COMPLETION_IDS, *TRAINER_KEYWORDS}
        if taken - self._warned:
            self._warned |= taken
            warnings.warn(
                f"the prompts' columns {sorted(taken)} do not reach the scorer: it gets what the "
                "environment passes by these names; rename the columns",
                stacklevel=2,
            )
        return taken


def _parts_of(scores: Scores, row: int) -> dict[str, float]:
    """The parts that say something of a row."""
    parts = {name: float(part[row]) for name, part in scores.parts.items()}
    return {name: value for name, value in parts.items() if not math.isnan(value)}


def _text_info(answer: Answer) -> dict[str, Any]:
    return {
        "prompt": answer.prompt,
        "completion": answer.completion,
        "stop_reason": answer.stop_reason,
    }
