"""A critic's errors as a picture."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from benchmarks.critic.exact import ERRORS, GROUP, SHARES

PLACES = {0.0: "at the reference", 0.5: "half-way to the optimum"}
LAMBDA = 1.0


def draw(found: dict[str, Any], path: Path) -> Path:
    """Answers needed against the size of the errors, a line for each family, a panel a place.

    Args:
        found: By family, of `benchmarks.critic.exact.summary`.
        path: The picture's.
    """
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(1, len(SHARES), figsize=(9, 3.6), sharey=True)
    shown = [error for error in ERRORS if error <= 1]
    for axis, share in zip(axes, SHARES, strict=True):
        for number, (family, by_place) in enumerate(found.items()):
            cells = [by_place[f"{share:g}"][f"error {e:g}, lambda {LAMBDA:g}"] for e in shown]
            means = [cell["answers"]["mean"] for cell in cells]
            axis.plot(shown, means, marker="o", color=f"C{number}", label=family)
            ends = [(c["answers"]["low"], c["answers"]["high"]) for c in cells]
            if None not in ends[0]:
                axis.fill_between(shown, *zip(*ends, strict=True), color=f"C{number}", alpha=0.15)
        axis.axhline(1, color="black", linewidth=1, linestyle="--")
        axis.text(0.01, 1.03, f"RLOO({GROUP})", fontsize=8)
        axis.set_title(PLACES[share], fontsize=10)
        axis.set_xlabel("error of the critic, deviations of the returns")
        axis.set_ylim(0)
    axes[0].set_ylabel("answers for the same noise")
    axes[0].legend(fontsize=8, loc="upper left", bbox_to_anchor=(0, 0.97))
    figure.tight_layout()
    figure.savefig(path, dpi=110)
    plt.close(figure)
    return path
