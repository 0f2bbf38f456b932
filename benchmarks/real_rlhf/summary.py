"""From trainings to figures: gains with intervals, what they cost, what the alarm said."""

from __future__ import annotations

from typing import Any

import numpy as np

from benchmarks.common import columns, mean_with_interval, told
from benchmarks.real_rlhf.settings import Settings

BESIDE = ("perplexity", "length", "ended", "names_subject", "distinct")
"""What no judge says of the answers of a look (`training.HeldOut`)."""


def summarise(settings: Settings, measured: dict[str, Any]) -> dict[str, Any]:
    """Judges and trainings, JSON-able; the arguments are what `run.measure` was given and found."""
    from benchmarks.real_rlhf.prompts import tasks

    trainings = {
        f"{kl_coef:g}": _summary_of(settings, training)
        for kl_coef, training in measured["trainings"].items()
    }
    prompts = [task.prompt for task in tasks(settings.held_out_prompts, held_out=True)]
    return {
        "judges": measured["judges"],
        "prompts_shown": prompts[: settings.shown],
        "trainings": trainings,
        "cpu_seconds": sum(found["cpu_seconds"] for found in trainings.values()),
    }


def _summary_of(settings: Settings, training: dict[str, Any]) -> dict[str, Any]:
    looks, updates = training["looks"], training["updates"]
    first, last = looks[0], looks[-1]
    gains = {
        name: np.subtract(last["scores"][name], first["scores"][name]) for name in last["scores"]
    }
    return {
        "gains": {name: mean_with_interval(gain) for name, gain in gains.items()},
        "gold_less_proxy": mean_with_interval(gains["gold"] - gains["proxy"]),
        "kl": float(np.mean([row["kl"] for row in updates[-settings.look_every :]])),
        "looks": [_figures_of(look, updates) for look in looks],
        "alarm": alarm_of(looks, settings.planned_looks),
        "answers": [
            {"before": before, "after": after}
            for before, after in zip(first["answers"], last["answers"], strict=True)
        ],
        "updates": updates,
        "cpu_seconds": sum(look["cpu_seconds"] for look in looks),
    }


def _figures_of(look: dict[str, Any], updates: list[dict[str, Any]]) -> dict[str, Any]:
    before = sum(row["step"] <= look["step"] for row in updates)
    means = {name: float(np.mean(scores)) for name, scores in look["scores"].items()}
    beside = {name: look[name] for name in BESIDE}
    agreement = np.corrcoef(look["scores"]["proxy"], look["scores"]["gold"])[0, 1]
    beside["agreement"] = float(agreement) if np.isfinite(agreement) else None  # all are the same
    return {"step": look["step"], "updates": before, **means, **beside}


def alarm_of(looks: list[dict[str, Any]], planned: int) -> dict[str, Any]:
    """What `OveroptimisationAlarm` saw, from its looks, whether or not the run was interrupted.

    Args:
        looks: Oldest first.
        planned: Looks that it expected after the first.

    Returns:
        `rang_at`, the step of the first look at which gold had turned while the proxy rose, or
        None; `best_at`, the step of the highest mean gold; `looks`, the evidence of each but the
        first: `fall` of gold since its best, `proxy_rise`, `p_value` and the `level` allowed.
    """
    from llm_gym.statistics.turning import Look, turn_evidence

    seen = [
        Look(look["step"], tuple(look["scores"]["gold"]), tuple(look["scores"]["proxy"]))
        for look in looks
    ]
    evidence = [
        turn_evidence(seen[: number + 1], planned_looks=planned) for number in range(1, len(seen))
    ]
    rang = [seen[found.look].step for found in evidence if found.turned]
    names = ("fall", "proxy_rise", "p_value", "level")
    return {
        "rang_at": rang[0] if rang else None,
        "best_at": max(seen, key=lambda look: look.gold_mean).step,
        "looks": [{name: getattr(found, name) for name in names} for found in evidence],
    }


def table(results: dict[str, Any]) -> str:
    """Judges, then before and after of each training, as text."""
    judges = [["judge", "requests fitted on", "Spearman with people, other half"]]
    for name, found in results["judges"].items():
        agreement = told(found["spearman"], 3, name="value")
        judges.append([name, f"{found['texts']:,}", agreement])
    trainings = results["trainings"]
    before = next(iter(trainings.values()))["looks"][0]
    rows = [["held-out prompts", "before", *(f"after, KL x {name}" for name in trainings)]]
    lasts = {name: training["looks"][-1] for name, training in trainings.items()}
    for name in (*results["judges"], *BESIDE):
        rows.append(
            [name, f"{before[name]:.2f}", *(f"{last[name]:.2f}" for last in lasts.values())]
        )
    rows.append(["KL, nats an answer", "0.00", *(f"{t['kl']:.2f}" for t in trainings.values())])
    for name in results["judges"]:
        gains = [told(training["gains"][name], 2) for training in trainings.values()]
        rows.append([f"gain of {name}", "", *gains])
    less = [told(training["gold_less_proxy"], 2) for training in trainings.values()]
    rows.append(["gain of gold less proxy's", "", *less])
    rang = [training["alarm"]["rang_at"] for training in trainings.values()]
    rows.append(["alarm", "", *("silent" if at is None else f"at step {at:,}" for at in rang)])
    return f"{columns(judges)}\n\n{columns(rows)}\n\n{_answers(results)}"


def _answers(results: dict[str, Any]) -> str:
    """Some answers of each training beside those of before."""
    lines = []
    for place, prompt in enumerate(results["prompts_shown"]):
        lines.append(prompt)
        for number, (name, training) in enumerate(results["trainings"].items()):
            pair = training["answers"][place]
            if number == 0:
                lines.append(f"  before: {pair['before']!r}")
            lines.append(f"  KL x {name}: {pair['after']!r}")
    return "\n".join(lines)
