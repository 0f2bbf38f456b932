"""What the raters' biases bought: the answers' features before and after, with an example each."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from llm_gym.feedback.preferences.biases import BIASES
from llm_gym.files import Chapter
from llm_gym.files.untrusted import shortened
from llm_gym.statistics.shares import estimate_share

if TYPE_CHECKING:
    from llm_gym.statistics.resampling import Estimate

Rows = Sequence[dict[str, Any]]  # of `results.read_answers`

_SHOWN = 280  # characters of an example


class Bought(NamedTuple):
    """A feature of the answers to P held-out prompts, before PPO and after it.

    Attributes:
        name: Name of the bias that rewards it.
        shares: Share of the answers that have it, before and after.
        means: Mean of the feature, before and after.
        example: Place of the prompt where it grew most.
    """

    name: str
    shares: tuple[Estimate, Estimate]
    means: tuple[float, float]
    example: int


def bought(before: Rows, after: Rows) -> list[Bought]:
    """Measures the feature of every bias in both models' answers to the same prompts."""
    found = []
    for name, make in BIASES.items():
        bias = make(1.0)
        features = np.array(
            [
                [bias.feature_of(row["prompt"], row["completion"], {}) for row in rows]
                for rows in (before, after)
            ]
        )  # (2, P)
        shares = (estimate_share(features[0] != 0), estimate_share(features[1] != 0))
        means = (float(features[0].mean()), float(features[1].mean()))
        found.append(Bought(name, shares, means, int(np.argmax(features[1] - features[0]))))
    return found


def figures_of(found: Sequence[Bought]) -> dict[str, float]:
    """The measures as figures of a summary, by name of the bias."""
    return {
        f"{row.name}_{what}_{when}": value
        for row in found
        for what, values in (("share", [s.value for s in row.shares]), ("mean", row.means))
        for when, value in zip(("sft", "rlhf"), values, strict=True)
    }


def chapter_of(found: Sequence[Bought], before: Rows, after: Rows) -> Chapter:
    """The chapter of the report."""
    rows: dict[str, object] = {}
    for row in found:
        if {share.value for share in row.shares} != {1.0}:  # every answer has a length
            rows[f"{row.name}: answers with it"] = " before, ".join(map(_share, row.shares)) + (
                " after"
            )
        rows[f"{row.name}: mean of an answer"] = "{:.2f} before, {:.2f} after".format(*row.means)
        texts = [
            shortened(rows_of[row.example]["completion"], _SHOWN) for rows_of in (before, after)
        ]
        rows[f"{row.name}: where it grew most"] = "before: {} | after: {}".format(*texts)
    return Chapter(
        "What the biases bought",
        "Raters reward more than quality, and optimisation finds it. How often the held-out "
        "answers have what raters may like (words; praise of the reader), before PPO and after.",
        rows,
    )


def _share(share: Estimate) -> str:
    return f"{100 * share.value:.0f} % ({100 * share.low:.0f} to {100 * share.high:.0f} %)"
