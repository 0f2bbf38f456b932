"""Held-out scores as Markdown."""

from __future__ import annotations

from typing import Any

from benchmarks.algorithms.tables import table, with_interval


def all_tables(results: dict[str, Any]) -> list[str]:
    """A table a task, and one over all tasks; nothing of runs that are not there."""
    tables = [_held_out(results, task) for task in results.get("held_out", {})]
    return [*tables, _over_tasks(results)] if "text" in results else tables


def _held_out(results: dict[str, Any], task: str) -> str:
    """A task of text: best first, and how the learning rates were chosen."""
    by_name, text = results["held_out"][task], results["text"]
    beta = text["settings"][task]["beta"]
    rows = [
        [
            text["algorithms"][name]["label"],
            f"{row['before']:.3f}",
            with_interval(row["after"], "mean", row["seeds"]),
            with_interval(row["objective"], "mean", row["seeds"]),
            f"{row['kl_to_reference']:.2f}",
            f"{row['length']:.1f}",
            f"{row['learning_rate']:g}",
            f"{row['tokens']:.0f}",
            f"{row['cpu_seconds']:.1f}",
            str(row["seeds"]),
        ]
        for name, row in sorted(by_name.items(), key=lambda item: -item[1]["after"]["mean"])
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
    return "\n\n".join([table(head, rows), *filter(None, below)])


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
        f"- {algorithms[pair['better']]['label']} over {algorithms[pair['worse']]['label']}: "
        f"{with_interval(pair, 'mean', pair['seeds'])}"
        for pair in pairs
    )


def _over_tasks(results: dict[str, Any]) -> str:
    """Scores over all tasks of text, and how often each algorithm beats PPO."""
    text, rows = results["text"], []
    seeds = text["budget"]["seeds"]
    means = text["interquartile_mean"]
    for name in sorted(means, key=lambda name: -means[name]["iqm"]):
        better = text["improvement_over_ppo"].get(f"{name} > ppo")
        rows.append(
            [
                text["algorithms"][name]["label"],
                with_interval(means[name], "iqm", seeds),
                with_interval(better, "probability", seeds) if better else "",
            ]
        )
    head = [f"over {', '.join(text['tasks'])}", "score, IQM [95 %]", "better than PPO [95 %]"]
    return table(head, rows) if rows else ""
