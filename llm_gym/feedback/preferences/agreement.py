"""How far raters agree: with each other, with the majority, and with the side of the screen."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from llm_gym.feedback.preferences.coefficients import (
    MISSING,
    cohen_kappa,
    fleiss_kappa,
    krippendorff_alpha,
    majority_agreement,
    raw_agreement,
)
from llm_gym.feedback.preferences.records import Choice, Vote
from llm_gym.statistics.resampling import DEFAULT, Bootstrap, Estimate

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["CATEGORIES", "RaterAgreement", "rater_agreement", "vote_table"]

CATEGORIES = (Choice.FIRST, Choice.SECOND, Choice.TIE)


@dataclass(frozen=True)
class RaterAgreement:
    """Agreement between the raters of a store.

    Attributes:
        raters: Their names.
        comparisons: Comparisons with a verdict.
        shared: Those with at least two, on which everything here rests.
        raw: Share of pairs of verdicts on the same comparison that are the same.
        alpha: Krippendorff's alpha.
        cohen: Cohen's kappa; None unless there are two raters.
        fleiss: Fleiss' kappa; None unless all shared comparisons have equally many verdicts.
        majority: How often a rater says what most of the others say.
        by_rater: The same for each rater.
    """

    raters: tuple[str, ...]
    comparisons: int
    shared: int
    raw: Estimate
    alpha: Estimate
    cohen: Estimate | None
    fleiss: Estimate | None
    majority: Estimate
    by_rater: Mapping[str, Estimate]

    def to_dict(self) -> dict[str, Any]:
        """JSON-able form; undefined figures are None."""
        figures: dict[str, Estimate | None] = {
            name: getattr(self, name) for name in ("raw", "alpha", "cohen", "fleiss", "majority")
        }
        return {
            "raters": list(self.raters),
            "comparisons": self.comparisons,
            "shared": self.shared,
            **{name: figure and figure.to_dict() for name, figure in figures.items()},
            "by_rater": {name: share.to_dict() for name, share in self.by_rater.items()},
        }


def rater_agreement(
    votes: Iterable[Vote], *, ties: bool = True, bootstrap: Bootstrap = DEFAULT
) -> RaterAgreement:
    """Measures agreement between raters in every usual way.

    "First" and "second" are exchangeable names (see `coefficients`), so chance agreement does not
    depend on how the answers happen to be stored.

    Args:
        votes: At most one of each rater on each comparison; skips do not count.
        ties: Whether "equally good" is a verdict of its own, or is left out.
        bootstrap: Settings of the intervals.

    Returns:
        The figures; NaN where the votes do not define one.
    """
    table, comparisons, raters = vote_table(votes, ties=ties)
    verdicts = (table != MISSING).sum(axis=1)
    shared = table[verdicts >= 2]
    depths = set(verdicts[verdicts >= 2].tolist())
    majority, each = majority_agreement(shared, bootstrap=bootstrap)
    common: Any = {"exchangeable": True, "bootstrap": bootstrap}
    return RaterAgreement(
        raters=tuple(raters),
        comparisons=len(comparisons),
        shared=len(shared),
        raw=raw_agreement(shared, bootstrap=bootstrap),
        alpha=krippendorff_alpha(shared, **common),
        cohen=cohen_kappa(shared, **common) if len(raters) == 2 else None,
        fleiss=fleiss_kappa(shared, **common) if len(depths) == 1 else None,
        majority=majority,
        by_rater=dict(zip(raters, each, strict=True)),
    )


def vote_table(
    votes: Iterable[Vote], *, ties: bool = True
) -> tuple[NDArray[np.int64], list[int], list[str]]:
    """Votes as a table of categories.

    Args:
        votes: At most one of each rater on each comparison; skips are missing.
        ties: Whether "equally good" is a verdict of its own, or missing too.

    Returns:
        The table, int64 `(N, R)` with places of `CATEGORIES`; the numbers of the N comparisons; the
        names of the R raters, in the order of the alphabet.
    """
    counted = [
        vote
        for vote in votes
        if vote.choice is not Choice.SKIP and (ties or vote.choice is not Choice.TIE)
    ]
    comparisons = sorted({vote.comparison_id for vote in counted})
    raters = sorted({vote.rater for vote in counted})
    row = {number: index for index, number in enumerate(comparisons)}
    column = {rater: index for index, rater in enumerate(raters)}
    table = np.full((len(comparisons), len(raters)), MISSING)
    for vote in counted:
        table[row[vote.comparison_id], column[vote.rater]] = CATEGORIES.index(vote.choice)
    return table, comparisons, raters
