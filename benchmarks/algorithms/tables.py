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
    if "flights" in results:
        parts.append(_flights(results["flights"]))
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
    """A task of text: best first, and how the learning rates were chosen."""
    found, text = results["held_out"][task], results["text"]
    beta = text["settings"][task]["beta"]
    rows = [
        [
            text["algorithms"][name]["label"],
            f"{one['before']:.3f}",
            _with_interval(one["after"], "mean", one["seeds"]),
            _with_interval(one["objective"], "mean", one["seeds"]),
            f"{one['kl_to_reference']:.2f}",
            f"{one['length']:.1f}",
            f"{one['learning_rate']:g}",
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
        f"score - {beta:g} KL [95 %]",
        "KL, nats an answer",
        "tokens an answer",
        "learning rate",
        "tokens",
        "CPU s a run",
        "seeds",
    ]
    below = [_tuning(text["tuning"][task]), _critics(text["critics"][task], text["algorithms"])]
    return "\n\n".join([_table(head, rows), *filter(None, below)])


def _tuning(tuning: dict[str, Any] | None) -> str:
    """How the learning rates of a task were chosen."""
    if tuning is None:
        return "Learning rates: chosen by hand, not tuned."
    how = tuning["how"]
    rates = ", ".join(f"{rate:g}" for rate in how["learning_rates"])
    last = how["first_seed"] + how["seeds"] - 1
    seeds = f"seed {last}" if how["seeds"] == 1 else f"seeds {how['first_seed']} to {last}"
    return (
        f"Learning rates: the best of {rates} for each algorithm, by the objective on prompts "
        f"{how['prompts']} after {how['tokens']} tokens, {seeds}."
    )


def _critics(pairs: list[dict[str, Any]], algorithms: dict[str, Any]) -> str:
    """How much higher PPO ends with one critic than with another."""
    return "\n".join(
        f"- {algorithms[one['better']]['label']} over {algorithms[one['worse']]['label']}: "
        f"{_with_interval(one, 'mean', one['seeds'])}"
        for one in pairs
    )


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


def _flights(found: dict[str, Any]) -> str:
    """The autopilot: best first, and pilots by hand behind them."""
    rows, levels, learnt = [], found["levels"], found["learnt"]

    def by_level(one: dict[str, float], measure: str, factor: float = 1.0) -> str:
        return " / ".join(f"{factor * one[f'{measure}/{level}']:.0f}" for level in levels)

    for name, one in sorted(learnt.items(), key=lambda item: -item[1]["return"]["mean"]):
        mean, seeds = found["interquartile_mean"][name], one["seeds"]
        better = found["improvement_over_ppo"].get(f"{name} > sb3_ppo")
        success = {key: 100 * value for key, value in one["success"].items()}
        rows.append(
            [
                found["algorithms"][name]["label"],
                _with_interval(one["return"], "mean", seeds, 1),
                _with_interval(mean, "iqm", seeds, 1),
                by_level(one, "return"),
                _with_interval(success, "mean", seeds, 0),
                by_level(one, "success", 100.0),
                f"{one['stick']:.2f}",
                _with_interval(better, "probability", seeds, 2) if better else "",
                f"{one['steps']:.0f}",
                f"{one['cpu_seconds']:.1f}",
                str(seeds),
            ]
        )
    for one in found["pilots"].values():
        measured = [by_level(one, "return"), f"{100 * one['success']:.0f}"]
        measured += [by_level(one, "success", 100.0), f"{one['stick']:.2f}"]
        rows.append([one["label"], f"{one['return']:.1f}", "", *measured, "", "0", "", ""])
    head = [
        "autopilot",
        "return of 300 [95 %]",
        "IQM [95 %]",
        f"return: {' / '.join(levels)}",
        "success, % [95 %]",
        "success by level, %",
        "stick, degrees a step",
        "better than stock PPO [95 %]",
        "steps",
        "CPU s a run",
        "seeds",
    ]
    return _table(head, rows) if learnt else ""


def _with_interval(one: dict[str, float], name: str, seeds: int, digits: int = 3) -> str:
    """A figure with its interval, of which a single seed says nothing."""
    ends = [f"{one[end]:.{digits}f}" for end in ("low", "high")]
    interval = f" [{', '.join(ends)}]" if seeds > 1 else ""
    return f"{one[name]:.{digits}f}{interval}"


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
