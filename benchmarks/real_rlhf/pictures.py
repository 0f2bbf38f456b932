"""Picture of RLHF on real ratings: scores, divergence, length and perplexity by tokens."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

JUDGES = {"proxy": "proxy (trained on)", "gold": "gold (other half)", "words": "words (other half)"}
COLOURS = {"proxy": "#d55e00", "gold": "#0072b2", "words": "#009e73"}
STYLES = ("-", "--", ":", "-.")
"""One for each training."""


def draw(trainings: dict[float, dict[str, Any]], path: Path) -> Path:
    """Draws the trainings, by price of divergence as `run.measure` found them; returns the path."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(1, 4, figsize=(17, 4))
    for (kl_coef, training), style in zip(trainings.items(), STYLES, strict=False):
        updates, looks = training["updates"], training["looks"]
        at = [look["step"] for look in looks]
        steps = [0, *(row["step"] for row in updates[:-1])]  # at which each rollout began
        label = f"KL x {kl_coef:g}"
        for name, colour in COLOURS.items():
            scores = np.array([look["scores"][name] for look in looks])
            error = scores.std(axis=1, ddof=1) / np.sqrt(scores.shape[1])
            axes[0].errorbar(at, scores.mean(axis=1), error, color=colour, ls=style, capsize=2)
        axes[1].plot(steps, [row["kl"] for row in updates], "k", ls=style, label=label)
        axes[2].plot(steps, [row["length"] for row in updates], "k", ls=style, label=label)
        axes[3].plot(at, [look["perplexity"] for look in looks], "k", ls=style, label=label)
    for name, colour in COLOURS.items():
        axes[0].plot([], [], color=colour, label=JUDGES[name])
    titles = ("held-out score, deviations", "KL, nats an answer", "length, tokens")
    for axis, title in zip(axes, (*titles, "perplexity under the base"), strict=True):
        axis.set(title=title, xlabel="tokens trained on")
        axis.legend(frameon=False, fontsize=8)
        axis.grid(alpha=0.25)
    figure.tight_layout()
    figure.savefig(path, dpi=90)
    plt.close(figure)
    return path
