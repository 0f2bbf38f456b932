"""The page about a finished run: what every stage did, and whether the true rater is better off."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import numpy as np

from llm_gym.files import Comparison, Figure, Report, ShownAnswer, commit, machine, versions
from llm_gym.stages.rlhf.chapters import chapters_of
from llm_gym.stages.rlhf.measuring import ANSWERED
from llm_gym.stages.rlhf.records import STAGES
from llm_gym.stages.rlhf.results import Results
from llm_gym.stages.rlhf.settings import RLHFConfig

__all__ = ["report_of"]

MODELS = ("pre-trained", "fine-tuned", "after RLHF")


def report_of(settings: RLHFConfig, results: Results, summary: dict[str, Any]) -> Report:
    """The page as `llm_gym.files` renders it.

    Args:
        settings: Settings of the run.
        results: Results of `results.gather`.
        summary: Summary of `results.summarise`.
    """
    from llm_gym.files.page import duration

    people = settings.raters == "people"
    judges = "people" if people else "simulated raters"
    return Report(
        title="From human preferences to RLHF" if people else "From preferences to RLHF",
        summary=(
            f"{summary['votes']:,} votes of {judges} on {summary['comparisons']:,} comparisons "
            f"made a reward model, and {summary['tokens']:,} tokens of PPO against it took the "
            f"gold score ({settings.true_rater}) on {summary['held_out_prompts']} held-out prompts "
            f"from {summary['gold_sft']:.1f} to {summary['gold_rlhf']:.1f}."
        ),
        figures=_tiles(summary),
        chapters=chapters_of(settings, results, summary),
        models=MODELS,
        comparisons=_shown(results, settings.shown_prompts),
        score_range=_range(results),
        sections={
            "Time of each stage": {
                f"{number}. {stage}": duration(results.records[stage].seconds)
                for number, stage in enumerate(STAGES, start=1)
            }
            | {"all": duration(sum(one.seconds for one in results.records.values()))},
            "Settings": asdict(settings),
            "Versions": {**versions(), "commit": commit() or "unknown"},
            "Machine": machine(),
        },
    )


def _tiles(summary: dict[str, Any]) -> tuple[Figure, ...]:
    accuracy, low, high = (
        f"{100 * summary[f'reward_model_accuracy{end}']:.1f}" for end in ("", "_low", "_high")
    )
    scored = (("fine-tuned", "gold_sft"), ("after RLHF", "gold_rlhf"))
    return (
        Figure("gold score, pre-trained", f"{summary['gold_pretrained']:.1f}"),
        *(
            Figure(f"gold score, {stage}", f"{summary[name]:.1f}", _interval(summary, name))
            for stage, name in scored
        ),
        Figure(
            "gain from RLHF",
            f"{summary['gold_gain']:+.1f}",
            _interval(summary, "gold_gain", "+.1f"),
        ),
        Figure(
            "reward model's accuracy", f"{accuracy} %", f"{low} to {high} % (95 %), held-out votes"
        ),
        Figure("divergence", f"{summary['kl']:.1f} nats", "KL per answer to the fine-tuned model"),
    )


def _shown(results: Results, number: int) -> list[Comparison]:
    """A few prompts spread evenly over the list: not picked by result."""
    stages = [results.judged[stage] for stage in ANSWERED]
    count = len(stages[0].rows)
    number = min(number, count)
    return [
        Comparison(
            stages[0].rows[i]["prompt"],
            tuple(
                ShownAnswer(
                    one.rows[i]["completion"],
                    float(one.gold[i]),
                    f"gold {one.gold[i]:.1f}, reward model {one.reward[i]:+.2f}",
                )
                for one in stages
            ),
        )
        for i in (k * count // number for k in range(number))
    ]


def _range(results: Results) -> tuple[float, float]:
    """Of the score bars: 0 to 100 where that holds all gold scores, as politeness has it."""
    gold = np.concatenate([one.gold for one in results.judged.values()])
    low, high = min(0.0, float(gold.min())), float(gold.max())
    return low, 100.0 if 1.0 < high <= 100.0 else max(high, low + 1.0)


def _interval(summary: dict[str, Any], name: str, style: str = ".1f") -> str:
    return f"{summary[f'{name}_low']:{style}} to {summary[f'{name}_high']:{style}} (95 %)"
