"""The whole road: the five stages in turn, then one page and one file of figures."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from llm_gym.files import atomic
from llm_gym.stages.compare import how_to_label
from llm_gym.stages.rlhf.records import STAGES, Places, Record, begin, read_record
from llm_gym.stages.rlhf.settings import RLHFConfig
from llm_gym.stages.rlhf.stages import (
    compare_stage,
    fine_tune_stage,
    ppo_stage,
    pretrain_stage,
    reward_model_stage,
    votes_wanted,
)

if TYPE_CHECKING:
    from rich.console import Console

__all__ = ["RLHFRun", "rlhf"]

TITLES = {
    "pretrain": "pre-training",
    "sft": "fine-tuning on instructions",
    "compare": "comparisons",
    "reward-model": "the reward model",
    "ppo": "PPO against the reward model",
}
_WORK: dict[str, Callable[..., Record | None]] = {
    "pretrain": pretrain_stage,
    "sft": fine_tune_stage,
    "compare": compare_stage,
    "reward-model": reward_model_stage,
    "ppo": ppo_stage,
}


@dataclass(frozen=True)
class RLHFRun:
    """How a call of `rlhf` ended.

    Attributes:
        summary: All figures; None if the end was not reached.
        waits_for_votes: Votes that people still have to give before it can go on.
        label_command: With which they do; empty unless it waits.
    """

    summary: dict[str, Any] | None
    waits_for_votes: int = 0
    label_command: str = ""


def rlhf(
    settings: RLHFConfig,
    output: str | Path,
    *,
    console: Console | None = None,
    quiet: bool = False,
) -> RLHFRun:
    """Walks the whole road, from wherever it was left.

    Writes `base/`, `sft/`, `comparisons.db`, `reward-model/`, `ppo/`, `model/` (the result),
    `stages/` (a record of each), `evaluations/`, `report.html` and, last, `summary.json`.

    Args:
        settings: What to do.
        output: Directory for everything. A call with the same settings goes on where the last one
            stopped, whether it was interrupted, killed, or waiting for votes.
        console: Where stages and results are printed; None is standard output.
        quiet: No progress bars and no display of training.

    Returns:
        The summary, or what is missing.

    Raises:
        ValueError: A setting does not fit, the directory holds a run with other settings, or the
            votes cannot be learnt from.
        FileNotFoundError: A file that the settings name is not there.
    """
    from rich.console import Console

    console = console or Console()
    places = begin(settings, output)
    for stage in STAGES:
        record = _walk(stage, settings, places, console, quiet)
        if record is None and stage == "compare":
            return _waiting(settings, places)
        if record is None:
            return RLHFRun(None)
    summary = _finish(settings, places)
    _print_results(console, places, summary)
    return RLHFRun(summary)


def _walk(
    stage: str, settings: RLHFConfig, places: Places, console: Console, quiet: bool
) -> Record | None:
    """One stage, with a line before and after it."""
    from llm_gym.files.page import duration

    number = f"stage {STAGES.index(stage) + 1} of {len(STAGES)}"
    if read_record(places, stage) is not None:
        console.print(f"{number}: {TITLES[stage]} is done", highlight=False)
    else:
        console.rule(f"{number}: {TITLES[stage]}", align="left")
    was_done = read_record(places, stage) is not None
    record = _WORK[stage](settings, places.root, quiet=quiet)
    if record is not None and not was_done:
        line = f"{_line(stage, record.figures)} ({duration(record.seconds)})"
        console.print(line, highlight=False, markup=False, soft_wrap=True)
    return record


def _line(stage: str, figures: dict[str, Any]) -> str:
    """The result of a stage in one line."""
    if stage == "compare":
        agreement = figures["agreement"]
        agree = "" if agreement is None else f", raters agree on {100 * agreement:.0f} %"
        return f"{figures['votes']:,} votes on {figures['comparisons']:,} comparisons{agree}"
    if stage == "reward-model":
        return (
            f"accuracy on held-out votes {figures['accuracy']:.3f} "
            f"({figures['accuracy_low']:.3f} to {figures['accuracy_high']:.3f})"
        )
    gold = f"gold score {figures['gold']:.1f}"
    if stage == "ppo":
        return f"{gold}, KL {figures['kl']:.1f} nats per answer"
    if figures["perplexity"] is None:
        return f"{gold}; nothing was pre-trained"
    return f"held-out perplexity {figures['perplexity']:.2f}, {gold}"


def _waiting(settings: RLHFConfig, places: Places) -> RLHFRun:
    from llm_gym.feedback.preferences import PreferenceStore
    from llm_gym.stages.compare import vote_figures

    with PreferenceStore(places.store) as store:
        figures = vote_figures(store, settings.votes_per_comparison)
    return RLHFRun(
        None,
        waits_for_votes=votes_wanted(settings, figures),
        label_command=how_to_label(places.store, settings.votes_per_comparison),
    )


def _finish(settings: RLHFConfig, places: Places) -> dict[str, Any]:
    from llm_gym.files import write_report
    from llm_gym.stages.rlhf.page import report_of
    from llm_gym.stages.rlhf.results import gather, summarise

    results = gather(settings, places)
    summary = summarise(results)
    write_report(report_of(settings, results, summary), places.report)
    # Last, because its presence says that all is done.
    atomic.write_json(places.summary, summary)
    return summary


def _print_results(console: Console, places: Places, summary: dict[str, Any]) -> None:
    lines = [
        "gold score: pre-trained {gold_pretrained:.1f}, fine-tuned {gold_sft:.1f}, after RLHF "
        "{gold_rlhf:.1f}",
        "the gain from RLHF: {gold_gain:+.1f} (95 %: {gold_gain_low:+.1f} to {gold_gain_high:+.1f},"
        " {held_out_prompts} held-out prompts)",
    ]
    for line in lines:
        console.print(line.format(**summary), highlight=False, soft_wrap=True)
    for name, path in (("report", places.report), ("model", places.model)):
        console.print(f"{name + ':':<8}{path}", highlight=False, markup=False, soft_wrap=True)
