"""The whole road: the five stages in turn, each once, then one page and one file of figures."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from llm_gym.files import atomic
from llm_gym.runs.directory import Record
from llm_gym.stages.compare import how_to_label
from llm_gym.stages.pages import closing, command_to_try
from llm_gym.stages.rlhf.directory import RLHFDirectory, begun
from llm_gym.stages.rlhf.settings import STAGES, RLHFConfig
from llm_gym.stages.rlhf.stages import WORK, votes_wanted
from llm_gym.stages.votes import told_biases, vote_figures
from llm_gym.text.prompts import read_prompts

if TYPE_CHECKING:
    from rich.console import Console

TITLES = {
    "pretrain": "pre-training",
    "sft": "fine-tuning on instructions",
    "compare": "comparisons",
    "reward-model": "the reward model",
    "ppo": "PPO against the reward model",
}


@dataclass(frozen=True)
class RLHFRun:
    """How a call of `rlhf` ended.

    Attributes:
        stopped: Whether it was interrupted before its end.
        summary: All figures; None if the end was not reached.
        waits_for_votes: Votes that people still have to give before it can go on.
        label_command: With which they do; empty unless it waits.
        store: Where the votes go; None unless it waits.
    """

    stopped: bool = False
    summary: dict[str, Any] | None = None
    waits_for_votes: int = 0
    label_command: str = ""
    store: Path | None = None


def rlhf(
    output: str | Path,
    config: RLHFConfig | None = None,
    *,
    console: Console | None = None,
    quiet: bool = False,
) -> RLHFRun:
    """Walks the whole road, from wherever it was left.

    Writes `base/`, `sft/`, `comparisons.db`, `reward-model/`, `ppo/`, `model/` (the result),
    `stages/` (a record of each), `evaluations/`, `report.html` and, last, `summary.json`.

    Args:
        output: Directory for everything. A call with the same settings goes on where the last one
            stopped, whether it was interrupted, killed, or waiting for votes; one with other
            settings of a later stage goes on before that stage.
        config: Settings; None means the defaults.
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
    with begun(output, config or RLHFConfig()) as run:
        for stage in STAGES:
            if _announced(stage, run, console, quiet) is None:
                run.state = "stopped"
                return _waiting(run) if stage == "compare" else RLHFRun(stopped=True)
        summary = _finish(run)
        _print_results(console, run, summary)
        return RLHFRun(summary=summary)


def run_stage(
    stage: str, output: str | Path, config: RLHFConfig, *, quiet: bool = False
) -> Record | None:
    """Does the work of one stage, unless it is done.

    Args:
        stage: One of `STAGES`; those before it must be finished.
        output: Its directory.
        config: Settings of the run.
        quiet: No progress bar and no display of training.

    Returns:
        The record, with the figures that the stage's function in `stages` describes; None if the
        stage is not finished: it was interrupted, or waits for votes.

    Raises:
        ValueError: There is no such stage, an earlier one is not finished, or see `rlhf`.
        FileNotFoundError: A file that the settings name is not there.
    """
    if stage not in STAGES:
        raise ValueError(f"stage must be one of {', '.join(STAGES)}, got {stage!r}")
    with begun(output, config) as run:
        record = _once(stage, run, quiet)
        run.state = "stopped"  # before its end, as far as this call can know
        return record


def _once(stage: str, run: RLHFDirectory, quiet: bool) -> Record | None:
    record = run.record(stage)
    if record is not None:
        return record
    for earlier in STAGES[: STAGES.index(stage)]:
        if run.record(earlier) is None:
            raise ValueError(f"stage {stage} in {run.root} needs stage {earlier} to be finished")
    started = time.perf_counter()
    figures = WORK[stage](run, quiet)
    if figures is None:
        return None
    return run.finish(stage, figures, time.perf_counter() - started)


def _announced(stage: str, run: RLHFDirectory, console: Console, quiet: bool) -> Record | None:
    """One stage, with a line before and after it."""
    from llm_gym.files.page import duration

    number = f"stage {STAGES.index(stage) + 1} of {len(STAGES)}"
    record = run.record(stage)
    if record is not None:
        console.print(f"{number}: {TITLES[stage]} is done", highlight=False)
        return record
    console.rule(f"{number}: {TITLES[stage]}", align="left")
    record = _once(stage, run, quiet)
    if record is not None:
        line = f"{_line(stage, record.figures)} ({duration(record.seconds)})"
        console.print(line, highlight=False, markup=False, soft_wrap=True)
    return record


def _line(stage: str, figures: dict[str, Any]) -> str:
    """The result of a stage in one line."""
    if stage == "compare":
        agreement = figures["agreement"]
        agree = "" if agreement is None else f", raters agree on {100 * agreement:.0f} %"
        return (
            f"{figures['votes']:,} votes on {figures['comparisons']:,} comparisons{agree}; "
            f"{told_biases(figures['biases'])}"
        )
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


def _waiting(run: RLHFDirectory) -> RLHFRun:
    from llm_gym.feedback.preferences import PreferenceStore

    with PreferenceStore(run.store) as store:
        figures = vote_figures(store, run.config.votes_per_comparison)
    return RLHFRun(
        waits_for_votes=votes_wanted(run.config, figures),
        label_command=how_to_label(run.store, run.config.votes_per_comparison),
        store=run.store,
    )


def _finish(run: RLHFDirectory) -> dict[str, Any]:
    from llm_gym.files import write_report
    from llm_gym.stages.rlhf.page import report_of
    from llm_gym.stages.rlhf.results import gather, summarise

    results = gather(run)
    summary = summarise(results)
    write_report(report_of(run.config, results, summary), run.report)
    # Last, because its presence says that all is done.
    atomic.write_json(run.summary, summary)
    return summary


def _print_results(console: Console, run: RLHFDirectory, summary: dict[str, Any]) -> None:
    lines = [
        "gold score: pre-trained {gold_pretrained:.1f}, fine-tuned {gold_sft:.1f}, after RLHF "
        "{gold_rlhf:.1f}",
        "the gain from RLHF: {gold_gain:+.1f} (95 %: {gold_gain_low:+.1f} to {gold_gain_high:+.1f},"
        " {held_out_prompts} held-out prompts)",
    ]
    for line in lines:
        console.print(line.format(**summary), highlight=False, soft_wrap=True)
    [prompt, *_] = read_prompts(run.prompts("held-out"))
    ending = closing(run.root, command_to_try(run.model, prompt.text))
    console.print(ending, highlight=False, markup=False, soft_wrap=True)
