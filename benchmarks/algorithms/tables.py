"""Results as a Markdown page."""

from __future__ import annotations

import json
from typing import Any


def page(results: dict[str, Any]) -> str:
    """Tables of results, gradients, figures to reach and verdicts."""
    parts = []
    if "tasks" in results:
        parts += [_scores(results), _gradients(results), _figures(results), _claims(results)]
    parts += [_held_out(results, task) for task in results.get("held_out", {})]
    if "text" in results:
        parts.append(_over_tasks(results))
    if results["cannot_run"]:
        parts.append("Not run: " + "; ".join(results["cannot_run"]) + ".")
    if results["crashed"]:
        lines = [f"- {one['key']}: {one['error']}" for one in results["crashed"]]
        parts.append("Crashed:\n\n" + "\n".join(lines))
    return "\n\n".join(part for part in parts if part) + "\n"


def _row(cells: list[str]) -> str:
    return "| " + " | ".join(cells) + " |"


def _table(head: list[str], rows: list[list[str]]) -> str:
    return "\n".join([_row(head), _row(["---"] * len(head)), *map(_row, rows)])


def _scores(results: dict[str, Any]) -> str:
    tasks, found = results["tasks"], results["j_over_jstar"]
    order = sorted(found, key=lambda name: -found[name]["all"])
    rows = []
    for name in order:
        one, kls = found[name], results["kl_to_optimum"][name]
        rows.append(
            [
                results["algorithms"][name]["label"],
                f"{one['all']:.3f} [{one['low']:.3f}, {one['high']:.3f}]",
                *[f"{one[task]:.3f} ({kls[task]:.3f})" for task in tasks],
                f"{results['interquartile_mean']['gain'][name]['iqm']:.3f}",
                f"{results['cpu_seconds_of_a_run'][name]:.1f}",
            ]
        )
    rows += [
        [f"best-of-{n}, exact", "", *[f"{one[t][0]:.3f} ({one[t][1]:.3f})" for t in tasks], "", ""]
        for n, one in results["best_of_n"].items()
    ]
    head = ["algorithm", "J/J*, IQM [95 %]", *[f"{task} (KL to pi*)" for task in tasks]]
    return _table([*head, "gain, IQM", "CPU s a run"], rows)


def _held_out(results: dict[str, Any], task: str) -> str:
    """A task of text: best first."""
    found = results["held_out"][task]
    rows = [
        [
            results["text"]["algorithms"][name]["label"],
            f"{one['before']:.3f}",
            _with_interval(one["after"], "mean", one["seeds"]),
            f"{one['kl_to_reference']:.2f}",
            f"{one['length']:.1f}",
            f"{one['tokens']:.0f}",
            f"{one['cpu_seconds']:.1f}",
            str(one["seeds"]),
        ]
        for name, one in sorted(found.items(), key=lambda item: -item[1]["after"]["mean"])
    ]
    head = [
        task,
        "held-out score before",
        "after [95 %]",
        "KL, nats an answer",
        "tokens an answer",
        "tokens",
        "CPU s a run",
        "seeds",
    ]
    return _table(head, rows)


def _over_tasks(results: dict[str, Any]) -> str:
    """Scores over all tasks of text, and how often each algorithm beats PPO."""
    text, rows = results["text"], []
    seeds = text["budget"]["seeds"]
    for name, one in sorted(text["interquartile_mean"].items(), key=lambda item: -item[1]["iqm"]):
        better = text["improvement_over_ppo"].get(f"{name} > ppo")
        rows.append(
            [
                text["algorithms"][name]["label"],
                _with_interval(one, "iqm", seeds),
                _with_interval(better, "probability", seeds) if better else "",
            ]
        )
    head = [f"over {', '.join(text['tasks'])}", "score, IQM [95 %]", "better than PPO [95 %]"]
    return _table(head, rows) if rows else ""


def _with_interval(one: dict[str, float], name: str, seeds: int) -> str:
    """A figure with its interval, of which a single seed says nothing."""
    interval = f" [{one['low']:.3f}, {one['high']:.3f}]" if seeds > 1 else ""
    return f"{one[name]:.3f}{interval}"


def _gradients(results: dict[str, Any]) -> str:
    rows = [
        [
            results["algorithms"][name]["label"],
            f"{one['scale']:.3g}",
            f"{one['direction_bias']:.3f} ± {one['direction_bias_error']:.3f}",
            f"{one['cosine']:.3f}",
            f"{one['noise']:.3g}",
        ]
        for name, one in results["gradients"].items()
    ]
    if not rows:
        return ""
    head = ["gradient of", "scale", "bias of its direction", "cosine", "relative variance"]
    return _table(head, rows)


def _figures(results: dict[str, Any]) -> str:
    lines = [
        f"- {'reached' if one['reached'] else 'NOT reached'}: {one['figure']} ({one['found']})"
        for one in results["figures_to_reach"]
    ]
    return "\n".join(lines)


def _claims(results: dict[str, Any]) -> str:
    parts = []
    for one in results["claims"].values():
        details = {name: value for name, value in one.items() if name not in ("claim", "verdict")}
        parts.append(f"- **{one['verdict']}**: {one['claim']} `{json.dumps(rounded(details))}`")
    return "\n".join(parts)


def rounded(value: Any) -> Any:
    """Numbers with three figures after the point, at any depth."""
    if isinstance(value, dict):
        return {name: rounded(one) for name, one in value.items()}
    return round(value, 3) if isinstance(value, float) else value
