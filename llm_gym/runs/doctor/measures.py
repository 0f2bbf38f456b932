"""What rules ask of a record: sizes and changes, each with how far it can be trusted."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np

from llm_gym.runs.doctor.record import Curve, RunRecord

RETURNS = ("rollout/return_mean", "rollout/ep_rew_mean")
KL_PER_TOKEN = "rollout/kl_k3_per_token"  # noqa: S105 - the name of a figure
CERTAIN = 4.0
"""Standard errors that a change must be of: by chance in one of 30,000."""


_ENOUGH, _KEPT = 8, 0.9
_WORD, _NEAR = re.compile(r"\w+|[^\w\s]"), 5


class Change(NamedTuple):
    """From the first part of a curve to its last.

    Attributes:
        first: Mean of the first part.
        last: Mean of the last.
        error: Standard error of the difference.
    """

    first: float
    last: float
    error: float

    @property
    def size(self) -> float:
        """By how much it rose."""
        return self.last - self.first

    @property
    def is_rise(self) -> bool:
        """Whether it rose beyond chance."""
        return self.size > CERTAIN * self.error

    @property
    def is_fall(self) -> bool:
        """Whether it fell beyond chance."""
        return -self.size > CERTAIN * self.error


def change(curve: Curve, share: float = 0.25) -> Change:
    """How a curve's last part differs from its first, each of that share of it.

    The error is that of the noise between neighbouring values, so a trend within the parts does not
    add to it.
    """
    first, last = curve.part(0, share), curve.part(1 - share)
    error = noise(curve) * math.sqrt(1 / len(first) + 1 / len(last))
    return Change(first.mean, last.mean, error)


def learns(run: RunRecord) -> bool:
    """Whether the score has risen beyond chance."""
    return len(score := run.curve(*RETURNS)) >= _ENOUGH and change(score).is_rise


def is_near_its_best(run: RunRecord) -> bool:
    """Whether the score has risen, and has kept nine tenths of its best rise."""
    if not learns(run):
        return False
    score = run.curve(*RETURNS)
    first = change(score).first
    return score.part(0.9).mean - first >= _KEPT * (float(score.values.max()) - first)


def noise(curve: Curve) -> float:
    """Standard deviation of a curve's values about its course, from neighbours' differences."""
    if len(curve) < 3:
        return math.inf
    return float(np.sqrt(np.mean(np.diff(curve.values) ** 2) / 2))


def nats_per_answer(run: RunRecord) -> Curve:
    """Divergence from the reference of whole answers, by the estimate that has little noise."""
    per_token, lengths = run.curve(KL_PER_TOKEN), run.curve("rollout/ep_len_mean")
    if not len(per_token) or not len(lengths):
        return run.curve("rollout/kl_per_sequence")
    of_rows = np.interp(per_token.rows, lengths.rows, lengths.values)
    return Curve(per_token.steps, per_token.values * of_rows, per_token.rows)


def updates(run: RunRecord) -> list[tuple[int, float]]:
    """How far single updates moved the policy: step and nats per token, of the looks at tokens.

    It is the mean over an answer's tokens, of the answer in the middle: a token that was drawn by
    a rare chance and has become likely makes the mean of all what it likes.
    """
    found = []
    for look in run.looks:
        of_answers = []
        for answer in look.answers:
            if answer.kind != "rollout" or "log_prob_after" not in answer.quantities:
                continue
            ratio = answer.quantities["log_prob_after"] - answer.quantities["log_prob"]
            ratio = ratio[np.isfinite(ratio)]
            if len(ratio):
                with np.errstate(over="ignore"):
                    of_answers.append(float((np.exp(ratio) - 1 - ratio).mean()))
        if of_answers:
            found.append((look.step, float(np.median(of_answers))))
    return found


def after_rollouts(run: RunRecord, of_rollout: str, of_update: str) -> tuple[Curve, Curve]:
    """A figure of rollouts and one of the updates that followed, which the next row has."""
    played, learnt = run.curve(of_rollout), run.curve(of_update)
    rows = np.intersect1d(played.rows, learnt.rows - 1)
    return _of_rows(played, rows), _of_rows(learnt, rows + 1)


def _of_rows(curve: Curve, rows: np.ndarray) -> Curve:
    place = np.isin(curve.rows, rows)
    return Curve(curve.steps[place], curve.values[place], curve.rows[place])


def repeats(text: str) -> float | None:
    """Share of a text's words and signs that were among the few before; None of a short text."""
    words = _WORD.findall(text.lower())
    if len(words) < 2 * _NEAR:
        return None
    again = [word in words[max(place - _NEAR, 0) : place] for place, word in enumerate(words)]
    return sum(again) / len(words)


def rank_correlation(x: Sequence[float], y: Sequence[float]) -> float:
    """Spearman's; 0 where one of them does not vary."""
    ranks = [_ranks(np.asarray(values, dtype=float)) for values in (x, y)]
    if any(r.std() == 0 for r in ranks):
        return 0.0
    return float(np.corrcoef(np.stack(ranks))[0, 1])


def _ranks(values: np.ndarray) -> np.ndarray:
    _, place, counts = np.unique(values, return_inverse=True, return_counts=True)
    return (np.cumsum(counts) - (counts - 1) / 2)[place]  # ties share their mean rank


def of_steps(run: RunRecord, *, late: bool) -> Iterator[str]:
    """Texts of the first or of the last third of the samples, by their steps."""
    steps = sorted({int(row.get("step", 0)) for row in run.samples})
    third = max(len(steps) // 3, 1)
    chosen = set(steps[-third:] if late else steps[:third])
    return (str(row["completion"]) for row in run.samples if row.get("step", 0) in chosen)
