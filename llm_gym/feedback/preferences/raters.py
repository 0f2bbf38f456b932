"""Simulated raters: quality, noise and biases of our own choosing, so that the truth is known.

A rater sees utility `u = quality + sum of biases` and prefers the first answer with probability
`sigma((u_1 - u_2) / temperature)` (Bradley and Terry 1952, doi:10.2307/2334029). With a tie band
the noise of the same model decides between three verdicts (Rao and Kupper 1967,
doi:10.1080/01621459.1967.10482901): `u_1 - u_2 + noise` above the band is "first", below minus the
band "second", between them a tie.

A bias is a feature of (prompt, answer, columns) and the worth of one unit of it, in the units of
the rater's quality. Any function will do; length and flattery are ones people are known for
(Singhal et al. 2023, arXiv:2310.03716; Sharma et al. 2023, arXiv:2310.13548).

The noise of a judgement is a function of the seed, the rater's name and the three texts alone, and
turns with the answers. So it depends neither on what else was asked, nor in which order, nor on
which answer stands first; and two raters who differ only in a bias differ only by that bias.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from llm_gym.feedback.preferences.biases import Bias
from llm_gym.feedback.preferences.records import Choice, Comparison, Preference, Vote, rater_name
from llm_gym.feedback.preferences.store import PreferenceStore
from llm_gym.feedback.preferences.tally import Ties, to_preferences
from llm_gym.scorers.checking import finite_number
from llm_gym.scorers.protocol import Scorer, as_scorer

if TYPE_CHECKING:
    from numpy.typing import NDArray

_BATCH = 1000  # comparisons whose votes are written in one transaction


@dataclass(frozen=True)
class SimulatedRater:
    """A rater with known preferences.

    Attributes:
        quality: A scorer, `f(prompts, answers, **columns)` -> one number per answer.
        name: Name of the rater; part of the seed.
        temperature: Scale of the noise, in units of quality; 0 for none. At 1 a bias of weight w
            moves the log-odds by w for each unit of its feature, at T by w / T.
        biases: What the rater likes besides quality.
        tie_band: Differences smaller than this, noise included, are a tie; 0 for no ties.
        lapse: Share of judgements made without looking, each answer equally likely.
        seed: Seed of the noise.
        seconds: What a judgement takes, as it is written into votes.

    Raises:
        TypeError: `quality` is no scorer, a bias is no `Bias`.
        ValueError: A number out of range.
    """

    quality: Scorer | Callable[..., Any]
    name: str = "simulated"
    temperature: float = 1.0
    biases: Sequence[Bias] = ()
    tie_band: float = 0.0
    lapse: float = 0.0
    seed: int = 0
    seconds: float = 0.0

    def __post_init__(self) -> None:
        object.__setattr__(self, "name", rater_name(self.name))
        as_scorer(self.quality)
        for bias in self.biases:
            if not isinstance(bias, Bias):
                raise TypeError(f"biases must hold Bias(name, feature, weight), got {bias!r:.80}")
        for parameter in ("temperature", "tie_band", "lapse", "seconds"):
            if finite_number(parameter, getattr(self, parameter)) < 0:
                raise ValueError(
                    f"{parameter} must be at least 0, got {getattr(self, parameter)!r}"
                )
        if self.lapse > 1:
            raise ValueError(f"lapse is a share and must be at most 1, got {self.lapse!r}")

    def utilities(self, comparisons: Sequence[Comparison]) -> NDArray[np.float64]:
        """What each answer is worth to the rater: float64 `(N, 2)`, biases included."""
        values = np.zeros((len(comparisons), 2))
        scorer = as_scorer(self.quality)
        for rows in _with_same_columns(comparisons):
            group = [comparisons[row] for row in rows]
            prompts = [comparison.prompt for comparison in group for _ in range(2)]
            answers = [answer for comparison in group for answer in comparison.answers]
            columns = {
                name: [comparison.columns[name] for comparison in group for _ in range(2)]
                for name in group[0].columns
            }
            values[rows] = scorer.score(prompts, answers, columns).values.reshape(-1, 2)
        for row, comparison in enumerate(comparisons):
            for bias in self.biases:
                for place, answer in enumerate(comparison.answers):
                    values[row, place] += bias.value(comparison.prompt, answer, comparison.columns)
        return values

    def probabilities(self, comparisons: Sequence[Comparison]) -> NDArray[np.float64]:
        """Of the verdicts first, second and tie: float64 `(N, 3)`."""
        difference = -np.diff(self.utilities(comparisons), axis=1)[:, 0]
        first = self._above(difference - self.tie_band)
        second = self._above(-difference - self.tie_band)
        attentive = np.stack([first, second, np.maximum(0.0, 1 - first - second)], axis=1)
        return (1 - self.lapse) * attentive + self.lapse * np.array([0.5, 0.5, 0.0])

    def choose(self, comparisons: Sequence[Comparison]) -> list[Choice]:
        """The verdict on each comparison; the same whenever and in whatever company it is asked."""
        differences = -np.diff(self.utilities(comparisons), axis=1)[:, 0]
        return [
            self._verdict(float(difference), comparison)
            for difference, comparison in zip(differences, comparisons, strict=True)
        ]

    def votes(self, comparisons: Sequence[Comparison]) -> list[Vote]:
        """`choose`, as votes that a store takes; which answer stood first is drawn too.

        Args:
            comparisons: With their numbers in the store.
        """
        choices = self.choose(comparisons)
        votes = []
        for comparison, choice in zip(comparisons, choices, strict=True):
            if comparison.id is None:
                raise ValueError(
                    f"a comparison has no id ({comparison.prompt!r:.80}); add it first"
                )
            shown_first = int(self._uniform("side", comparison) < 0.5)
            votes.append(Vote(comparison.id, self.name, choice, self.seconds, shown_first))
        return votes

    def to_dict(self) -> dict[str, Any]:
        """What is known of the rater, JSON-able; quality by its name."""
        return {
            "name": self.name,
            "quality": as_scorer(self.quality).name,
            "temperature": self.temperature,
            "biases": {bias.name: bias.weight for bias in self.biases},
            "tie_band": self.tie_band,
            "lapse": self.lapse,
            "seed": self.seed,
        }

    def _verdict(self, difference: float, comparison: Comparison) -> Choice:
        # Drawn for the answers in alphabetical order, and turned with them.
        sign = 1 if comparison.answers[0] < comparison.answers[1] else -1
        uniform = self._uniform("noise", comparison)
        if self._uniform("lapse", comparison) < self.lapse:
            return Choice.FIRST if sign * (uniform - 0.5) > 0 else Choice.SECOND
        noise = sign * self.temperature * (math.log(uniform) - math.log1p(-uniform))
        if difference + noise > self.tie_band:
            return Choice.FIRST
        return Choice.SECOND if difference + noise < -self.tie_band else Choice.TIE

    def _above(self, difference: NDArray[np.float64]) -> NDArray[np.float64]:
        """P(difference + noise > 0), float `(N,)`."""
        if self.temperature == 0:
            return (difference > 0).astype(np.float64)
        # sigma in a form that does not overflow
        return 0.5 * (1 + np.tanh(difference / (2 * self.temperature)))

    def _uniform(self, purpose: str, comparison: Comparison) -> float:
        """A number in (0, 1) that depends on the texts, the rater and the purpose only."""
        framed = json.dumps(
            [purpose, self.seed, self.name, comparison.prompt, *sorted(comparison.answers)]
        )
        drawn = hashlib.blake2b(framed.encode(), digest_size=8).digest()
        return ((int.from_bytes(drawn, "big") >> 12) + 0.5) / 2**52


def simulate_preferences(
    comparisons: Sequence[Comparison], rater: SimulatedRater, *, ties: Ties = "drop"
) -> list[Preference]:
    """Lets a rater judge comparisons, without a store.

    Args:
        comparisons: To judge.
        rater: Who judges.
        ties: "drop" or "both", as for `tally.to_preferences`.

    Returns:
        A row for each verdict, in order; columns are the comparison's and `rater`.
    """
    numbered = [
        Comparison(comparison.prompt, comparison.answers, comparison.columns, number)
        for number, comparison in enumerate(comparisons)
    ]
    rows = to_preferences(numbered, rater.votes(numbered), ties=ties, conflicts="all")
    unknown = ("seconds", "created_at", "shown_first")  # nobody was shown anything
    return [
        Preference(
            row.prompt,
            row.chosen,
            row.rejected,
            {name: value for name, value in row.columns.items() if name not in unknown},
        )
        for row in rows
    ]


def rate_store(
    store: PreferenceStore,
    raters: Sequence[SimulatedRater],
    *,
    votes_per_comparison: int | None = None,
) -> int:
    """Lets raters vote on everything in a store.

    A batch is written at a time; if the process dies, calling it again gives the same votes as if
    it had not.

    Args:
        store: To vote in.
        raters: With different names. One who has voted on a comparison does not do so again.
        votes_per_comparison: How many of the raters judge each comparison, drawn by its texts;
            None is all of them.

    Returns:
        The number of votes recorded.

    Raises:
        ValueError: Two raters of one name, none, or more votes wanted than there are raters.
    """
    names = [rater.name for rater in raters]
    if not names or len(set(names)) < len(names):
        raise ValueError(f"raters must be at least one, each with a name of its own, got {names}")
    number = len(names) if votes_per_comparison is None else votes_per_comparison
    if not 1 <= number <= len(names):
        raise ValueError(
            f"votes_per_comparison={votes_per_comparison} must be from 1 to {len(names)}, the "
            "number of raters"
        )
    done = {(vote.comparison_id, vote.rater) for vote in store.votes()}
    comparisons = list(store.comparisons())
    recorded = 0
    for start in range(0, len(comparisons), _BATCH):
        batch = comparisons[start : start + _BATCH]
        judges = [_drawn(raters, comparison, number) for comparison in batch]
        votes: list[Vote] = []
        for rater in raters:
            assigned = [
                comparison
                for comparison, names in zip(batch, judges, strict=True)
                if rater.name in names and (comparison.id, rater.name) not in done
            ]
            votes += rater.votes(assigned)
        recorded += len(store.add_votes(votes))
    return recorded


def _drawn(raters: Sequence[SimulatedRater], comparison: Comparison, number: int) -> set[str]:
    """Names of the raters who judge a comparison."""
    order = sorted(raters, key=lambda rater: rater._uniform("turn", comparison))
    return {rater.name for rater in order[:number]}


def _with_same_columns(comparisons: Sequence[Comparison]) -> Iterator[list[int]]:
    """Rows grouped by the names of their columns, so that none is scored without one it has."""
    groups: dict[frozenset[str], list[int]] = {}
    for row, comparison in enumerate(comparisons):
        groups.setdefault(frozenset(comparison.columns), []).append(row)
    return iter(groups.values())
