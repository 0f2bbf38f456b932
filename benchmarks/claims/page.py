"""The page of the court: `page.md`, with tables of what was measured."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.algorithms.tables import table
from benchmarks.claims.claim import HOLDS, REFUTED, UNDECIDED, Claim, Judgement
from benchmarks.claims.losses import Loss
from benchmarks.claims.standing import STALE, standing_claim

_PROSE = Path(__file__).parent / "page.md"
_ARXIV = re.compile(r"\b(\d{4}\.\d{5})\b")
_ADDRESS = re.compile(r"https://(\S+)")


def plain(text: str) -> str:
    """Text for the cell of a table: nothing in it is Markdown."""
    return text.replace("*", "\\*").replace("|", "\\|")


def linked(source: str) -> str:
    """A source with its links."""
    told = _ADDRESS.sub(r"[\1](https://\1)", source)
    return _ARXIV.sub(r"[\1](https://arxiv.org/abs/\1)", told)


def table_of_claims(claims: Sequence[Claim], judgements: dict[str, Judgement]) -> str:
    """What was claimed, where, how it was tested, the figure, the verdict."""
    rows = []
    for claim in claims:
        found = judgements[claim.name]
        note = f"; {found.figure.note}" if found.figure.note else ""
        texts = claim.says, f"{claim.test}: {claim.threshold}", found.figure.told() + note
        says, test, figure = map(plain, texts)
        rows.append([says, linked(claim.source), test, figure, f"**{found.verdict}**"])
    return table(["claim", "source", "test", "figure [95 %]", "verdict"], rows)


def table_of_losses(
    losses: Sequence[Loss], judgements: dict[str, Judgement], rows: dict[str, dict[str, Any]]
) -> str:
    """The standing claim of each loss, and figures without a verdict."""
    lines = []
    for loss in losses:
        found, row = judgements[standing_claim(loss).name], rows[loss.name]
        straight = found.figure.told()
        lines.append(
            [
                loss.name,
                linked(loss.source),
                f"{straight}, **{found.verdict}**",
                f"{row['stale'].value:.3f}",
                f"{row['noise']:.0f}",
                row["j_over_jstar"].told(),
                f"{row['price']:g}",
            ]
        )
    head = ["loss", "source", "cosine, fresh [95 %]", "cosine, stale", "noise", "J / J\\* [95 %]"]
    return table([*head, "price"], lines)


def page(
    claims: Sequence[Claim],
    losses: Sequence[Loss],
    judgements: dict[str, Judgement],
    rows: dict[str, dict[str, Any]],
    results: dict[str, Any],
) -> str:
    """The page.

    Args:
        claims: Published ones.
        losses: Losses.
        judgements: Of all claims, the standing ones included.
        rows: Of losses, see `benchmarks.claims.standing.row_of`.
        results: What `results.json` has.
    """
    verdicts = [judgements[claim.name].verdict for claim in claims]
    counts = ", ".join(f"{verdicts.count(one)} {one}" for one in (HOLDS, REFUTED, UNDECIDED))
    small = " **In small (`--quick`): these figures mean little.**"
    summary = (
        f"*Of the code of `{str(results['commit'])[:7]}`; {results['all_cpu_seconds']:.0f} CPU "
        f"seconds in all. Claims are as published; tests and thresholds are ours. {len(claims)} "
        f"claims: {counts}.*{small if results['settings']['quick'] else ''}"
    )
    parts = {
        "SUMMARY": summary,
        "CLAIMS": table_of_claims(claims, judgements),
        "STALE": f"{STALE:g}",
        "LOSSES": table_of_losses(losses, judgements, rows),
    }
    told = _PROSE.read_text(encoding="utf-8")
    if not losses:
        told = re.sub(r"## Losses, side by side.*?(?=## A loss)", "", told, flags=re.DOTALL)
    for name, text in parts.items():
        told = told.replace(f"<<{name}>>", text)
    return told
