"""What the end of an episode is worth: the reward, the flags and the final info."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from llm_gym.scorers.protocol import Scorer, ScorerError, Scores
from llm_gym.text.answer import StopReason
from llm_gym.text.prompt_rows import PromptRow

if TYPE_CHECKING:
    from llm_gym.text.options import TextOptions


class FinishedEpisode(NamedTuple):
    """An episode that has come to its end."""

    row: PromptRow
    completion: str
    stop_reason: StopReason


class Outcome(NamedTuple):
    """What the last step of an episode returns."""

    reward: float
    terminated: bool
    truncated: bool
    info: dict[str, Any]


class EpisodeScoring:
    """Scores finished episodes, all of a step in one call of the scorer.

    Args:
        scorer: Checked scorer.
        column_names: Columns that the scorer is always offered; None where a prompt lacks one.
        options: `on_max_length`, `on_scorer_error` and their penalties are used.
    """

    def __init__(self, scorer: Scorer, column_names: frozenset[str], options: TextOptions) -> None:
        self._scorer = scorer
        self._column_names = column_names
        self._options = options

    def outcomes(self, episodes: Sequence[FinishedEpisode]) -> list[Outcome]:
        """Judges the episodes that ended in one step.

        Args:
            episodes: B finished episodes.

        Returns:
            B outcomes. An episode is scored and terminated, or truncated, or penalised and
            terminated; never both scored and truncated.

        Raises:
            ScorerError: The scorer failed and `on_scorer_error` is "raise".
        """
        scored = [episode for episode in episodes if self._is_scored(episode)]
        verdicts = iter(self._score(scored) if scored else [])
        return [
            self._scored(episode, next(verdicts))
            if self._is_scored(episode)
            else self._unscored(episode)
            for episode in episodes
        ]

    def _is_scored(self, episode: FinishedEpisode) -> bool:
        return episode.stop_reason != "length" or self._options.on_max_length == "terminate"

    def _unscored(self, episode: FinishedEpisode) -> Outcome:
        if self._options.on_max_length == "truncate":
            return Outcome(0.0, False, True, _text_info(episode))
        return Outcome(float(self._options.missing_eos_penalty), True, False, _text_info(episode))

    def _scored(self, episode: FinishedEpisode, verdict: Scores | ScorerError) -> Outcome:
        info = _text_info(episode)
        if isinstance(verdict, ScorerError):
            info["scorer_error"] = str(verdict)
            return Outcome(float(self._options.scorer_error_penalty), True, False, info)
        score = float(verdict.values[0])
        info["score"] = score
        if verdict.parts:
            info["score_parts"] = {name: float(part[0]) for name, part in verdict.parts.items()}
        return Outcome(score, True, False, info)

    def _score(self, episodes: Sequence[FinishedEpisode]) -> list[Scores | ScorerError]:
        """One verdict an episode, each `Scores` of a batch of one."""
        try:
            scores = self._call(episodes)
        except ScorerError as error:
            if self._options.on_scorer_error == "raise":
                raise
            if len(episodes) == 1:
                return [error]
            # One by one, so that only the episodes at fault are penalised.
            return [verdict for episode in episodes for verdict in self._score([episode])]
        return [
            Scores(
                scores.values[i : i + 1],
                {name: part[i : i + 1] for name, part in scores.parts.items()},
            )
            for i in range(len(episodes))
        ]

    def _call(self, episodes: Sequence[FinishedEpisode]) -> Scores:
        names = self._column_names.union(*(episode.row.columns for episode in episodes))
        return self._scorer.score(
            [episode.row.text for episode in episodes],
            [episode.completion for episode in episodes],
            {name: [e.row.columns.get(name) for e in episodes] for name in sorted(names)},
        )


def _text_info(episode: FinishedEpisode) -> dict[str, Any]:
    return {"completion": episode.completion, "stop_reason": episode.stop_reason}
