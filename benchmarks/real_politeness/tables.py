"""Figures of the seeds, as numbers and as text."""

from __future__ import annotations

from typing import Any

import numpy as np

from benchmarks.common import columns, mean_with_interval, told
from benchmarks.real_politeness.settings import WANTED_GAIN, WANTED_RATIO

TOLD = (
    *("training_cpu_seconds", "training_wall_seconds", "total_cpu_seconds", "wall_seconds"),
    *("peak_gb", "curve", "divergence"),
)
"""Taken over as they are."""


def summarise(found: dict[int, dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """Figures by seed: scores before and after, and gains by request, with intervals.

    Args:
        found: What `experiment.run_seed` returned, by seed.
    """
    return {str(seed): _of_seed(run) for seed, run in found.items()}


def _of_seed(run: dict[str, Any]) -> dict[str, Any]:
    before, after = run["before"], run["after"]
    figures: dict[str, Any] = {}
    for name in ("politeness", "second"):
        if before[name]:
            gains = np.subtract(after[name], before[name])
            figures[name] = {
                "before": mean_with_interval(before[name]),
                "after": mean_with_interval(after[name]),
                "gain": mean_with_interval(gains),
                # Of the answers before: says how large the gain is where units mean little.
                "deviation_before": float(np.std(before[name])),
            }
    for name in ("perplexity", "tokens", "ended", "different_phrases", "gaps"):
        figures[name] = {"before": before[name], "after": after[name]}
    figures["perplexity"]["ratio"] = after["perplexity"] / before["perplexity"]
    figures["reached"] = bool(
        figures["politeness"]["gain"]["mean"] >= WANTED_GAIN
        and figures["perplexity"]["ratio"] <= WANTED_RATIO
    )
    figures |= {name: run[name] for name in TOLD}
    return figures


def table(seeds: dict[str, dict[str, Any]]) -> str:
    """A column a seed."""
    rows = [["", *(f"seed {seed}" for seed in seeds)]]

    def row(label: str, text: Any) -> None:
        rows.append([label, *(text(figures) for figures in seeds.values())])

    for name, label, digits in (("politeness", "politeness", 1), ("second", "second scorer", 2)):
        if all(name in figures for figures in seeds.values()):
            for when in ("before", "after", "gain"):
                row(f"{label}, {when}", lambda f, n=name, w=when, d=digits: told(f[n][w], d))
    for name, label, digits in (
        ("perplexity", "perplexity under the base", 2),
        ("tokens", "tokens of an answer", 1),
        ("ended", "share that ended", 2),
        ("different_phrases", "share of phrases that differ", 2),
        ("gaps", 'gaps like "[Name]" an answer', 1),
    ):
        row(
            f"{label}, before and after",
            lambda f, n=name, d=digits: f"{f[n]['before']:.{d}f}, {f[n]['after']:.{d}f}",
        )
    row("perplexity, ratio", lambda f: f"{f['perplexity']['ratio']:.2f}")
    row("training, CPU s", lambda f: f"{f['training_cpu_seconds']:.0f}")
    row("all of it, CPU s", lambda f: f"{f['total_cpu_seconds']:.0f}")
    row("all of it, wall s", lambda f: f"{f['wall_seconds']:.0f}")
    row("peak, GB", lambda f: f"{f['peak_gb']:.2f}")
    row(
        f"gain >= {WANTED_GAIN:g}, perplexity <= {WANTED_RATIO:g} times",
        lambda f: "yes" if f["reached"] else "no",
    )
    return columns(rows)


def samples(run: dict[str, Any], shown: int) -> str:
    """The first requests of a seed, with their answers before and after, for people to read."""
    texts = []
    for place in range(min(shown, len(run["before"]["answers"]))):
        texts.append(f"> {run['before']['answers'][place]['prompt']}")
        for when in ("before", "after"):
            score = run[when]["politeness"][place]
            texts.append(
                f"  {when}, {score:.1f}:\n{_indented(run[when]['answers'][place]['text'])}"
            )
    return "\n".join(texts)


def _indented(text: str) -> str:
    return "\n".join(f"    {line}" for line in text.strip().split("\n"))
