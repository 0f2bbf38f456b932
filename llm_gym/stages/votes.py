"""What the votes in a store say about themselves, and about the raters' biases."""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from llm_gym.feedback.preferences import Comparison, PreferenceStore


def vote_figures(store: PreferenceStore, votes_per_comparison: int) -> dict[str, Any]:
    """What the votes in a store say about themselves, JSON-able.

    Args:
        store: Comparisons and votes.
        votes_per_comparison: How many are wanted.

    Returns:
        `comparisons`, `voted`, `votes`, `ties`, `votes_missing`, `raters`; `last_vote` (its number
        in the store: what comes later is not among these figures); `agreement` (share of
        pairs of votes on one comparison that are the same, with `agreement_low` and
        `agreement_high`) and `alpha` (Krippendorff), None where no two raters judged the same;
        `seconds_per_vote`, `seconds_measured_on_votes` (0: assumed), `hours` and `cost` of people.
    """
    from llm_gym.feedback.preferences import Choice, labelling_effort, rater_agreement

    # Read once: people may be voting meanwhile.
    comparisons, cast = sum(1 for _ in store.comparisons()), list(store.votes())
    votes = [vote for vote in cast if vote.choice is not Choice.SKIP]
    votes_on = Counter(vote.comparison_id for vote in votes)
    agreement = rater_agreement(votes).to_dict()
    raw = agreement["raw"] or {}
    effort = labelling_effort(len(votes), votes=cast).to_dict()
    return {
        "comparisons": comparisons,
        "voted": len(votes_on),
        "votes": len(votes),
        "ties": sum(vote.choice is Choice.TIE for vote in votes),
        "votes_missing": votes_per_comparison * comparisons
        - sum(min(count, votes_per_comparison) for count in votes_on.values()),
        "raters": len({vote.rater for vote in votes}),
        "last_vote": max((vote.id or 0 for vote in cast), default=0),
        "agreement": raw.get("value"),
        "agreement_low": raw.get("low"),
        "agreement_high": raw.get("high"),
        "alpha": (agreement["alpha"] or {}).get("value"),
        **{
            name: effort[name]
            for name in (
                "seconds_per_vote",
                "seconds_measured_on_votes",
                "hours",
                "cost",
                "price_is_assumed",
            )
        },
    }


def met_biases(
    comparisons: Sequence[Comparison], weights: Mapping[str, float]
) -> dict[str, dict[str, float]]:
    """How often each bias that raters may have meets its feature, JSON-able.

    Args:
        comparisons: At least one.
        weights: Of the biases, by name; 0 for one that the raters do not have.

    Returns:
        By name of the bias: its `weight`; the shares of `answers` that have the feature and of
        `pairs` that differ in it.
    """
    from llm_gym.feedback.preferences.biases import BIASES, cases

    return {
        name: {"weight": weights[name], **cases(make(1.0), comparisons)._asdict()}
        for name, make in BIASES.items()
    }


def told_biases(biases: Mapping[str, Mapping[str, float]]) -> str:
    """`met_biases` in a line."""
    shares = (f"{name} in {100 * met['pairs']:.0f} % of them" for name, met in biases.items())
    return f"the two answers of a pair differ in {', in '.join(shares)}"


def warn_of_unmet_biases(biases: Mapping[str, Mapping[str, float]]) -> None:
    """Warns of each bias in `met_biases` that raters have and that changed no vote."""
    for name, met in biases.items():
        if met["weight"] and not met["pairs"]:
            warnings.warn(
                f"the raters' {name} bias meets no case: no two answers to a prompt differ in it, "
                "so the votes are those of raters without the bias; compare answers of a model "
                "that knows what it rewards",
                stacklevel=3,
            )
