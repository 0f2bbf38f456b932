"""What is known exactly, as Markdown: scores, gradients and figures to reach."""

from __future__ import annotations

from typing import Any

from benchmarks.algorithms.tables import table


def all_tables(results: dict[str, Any]) -> list[str]:
    """Scores, gradients and figures to reach; nothing of runs that are not there."""
    if "tasks" not in results:
        return []
    return [_scores(results), _gradients(results), _figures(results)]


def _scores(results: dict[str, Any]) -> str:
    tasks, ratios = results["tasks"], results["j_over_jstar"]
    order = sorted(ratios, key=lambda name: -ratios[name]["all"])
    rows = []
    for name in order:
        ratio, kls = ratios[name], results["kl_to_optimum"][name]
        rows.append(
            [
                results["algorithms"][name]["label"],
                f"{ratio['all']:.3f} [{ratio['low']:.3f}, {ratio['high']:.3f}]",
                *[f"{ratio[task]:.3f} ({kls[task]:.3f})" for task in tasks],
                f"{results['interquartile_mean']['gain'][name]['iqm']:.3f}",
                f"{results['cpu_seconds_of_a_run'][name]:.1f}",
            ]
        )
    rows += [
        [
            f"best-of-{n}, exact",
            "",
            *[f"{best[t][0]:.3f} ({best[t][1]:.3f})" for t in tasks],
            "",
            "",
        ]
        for n, best in results["best_of_n"].items()
    ]
    head = ["algorithm", "J/J*, IQM [95 %]", *[f"{task} (KL to pi*)" for task in tasks]]
    return table([*head, "gain, IQM", "CPU s a run"], rows)


def _gradients(results: dict[str, Any]) -> str:
    rows = [
        [
            results["algorithms"][name]["label"],
            f"{figures['scale']:.3g}",
            f"{figures['direction_bias']:.3f} ± {figures['direction_bias_error']:.3f}",
            f"{figures['cosine']:.3f}",
            f"{figures['noise']:.3g}",
        ]
        for name, figures in results["gradients"].items()
    ]
    if not rows:
        return ""
    head = ["gradient of", "scale", "bias of its direction", "cosine", "relative variance"]
    return table(head, rows)


def _figures(results: dict[str, Any]) -> str:
    lines = [
        f"- {'reached' if line['reached'] else 'NOT reached'}: {line['figure']} ({line['found']})"
        for line in results["figures_to_reach"]
    ]
    return "\n".join(lines)
