"""Which algorithms run on which tasks of text, their models, and their jobs."""

from __future__ import annotations

import argparse
import hashlib
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from benchmarks.algorithms.jobs import run_jobs
from benchmarks.algorithms.settings import Entry, fingerprint
from benchmarks.algorithms.store import OtherRunsError
from benchmarks.algorithms.text.settings import (
    QUICK_ALGORITHMS,
    TEXT_ENTRIES,
    TEXT_TASKS,
    TextBudget,
    TextTask,
    of_a_text_run,
    quick_task,
)


@dataclass(frozen=True)
class TextPlan:
    """What is to be run on text.

    Attributes:
        tasks: Those that can run, by name.
        entries: Those that can run, by task and name.
        folders: Where the models that have to be made are, by task.
        data: The file of `--data`.
        budget: How much of everything.
        cannot_run: What cannot run, and why.
        crashed: Models that could not be made, as `key` and `error`.
        tuning: How the learning rates of tasks were chosen, of those that were.
    """

    tasks: dict[str, TextTask] = field(default_factory=dict)
    entries: dict[str, dict[str, Entry]] = field(default_factory=dict)
    folders: dict[str, Path] = field(default_factory=dict)
    data: Path | None = None
    budget: TextBudget = field(default_factory=TextBudget)
    cannot_run: list[str] = field(default_factory=list)
    crashed: list[dict[str, str]] = field(default_factory=list)
    tuning: dict[str, dict[str, Any]] = field(default_factory=dict)

    def jobs(self) -> list[dict[str, Any]]:
        """See `text_jobs`."""
        return text_jobs(self)

    def summarise(self, runs: list[dict[str, Any]]) -> dict[str, Any]:
        """See `summarise_text`; nothing where there are no tasks."""
        from benchmarks.algorithms.text.summary import summarise_text

        return summarise_text(runs, self) if self.entries else {}

    def draw(self, results: dict[str, Any], runs: list[dict[str, Any]], output: Path) -> list[Path]:
        """Writes the picture of finished runs, if there are any."""
        from benchmarks.algorithms.text.pictures import draw_text

        if not results.get("held_out"):
            return []
        on_text = [run for run in runs if run["kind"] == "text"]
        return [draw_text(results, on_text, output / "held_out.png")]


def text_entries(options: argparse.Namespace) -> dict[str, Entry]:
    """The algorithms of `--algorithms`, or those that run by default."""
    names = options.algorithms or (QUICK_ALGORITHMS if options.quick else TEXT_ENTRIES)
    return {name: TEXT_ENTRIES[name] for name in names if name in TEXT_ENTRIES}


def plan_text(options: argparse.Namespace) -> TextPlan:
    """What can run on text and what cannot, known before anything starts.

    Args:
        options: The command line, as `benchmarks.algorithms.run.parse` returns it.
    """
    tasks = {name: TEXT_TASKS[name] for name in options.kinds if name in TEXT_TASKS}
    if options.quick:
        tasks = {name: quick_task(name) for name in tasks}
    if options.tokens is not None:
        tasks = {name: replace(task, tokens=options.tokens) for name, task in tasks.items()}
    budget = TextBudget().quick() if options.quick else TextBudget()
    if options.seeds is not None:
        budget = replace(budget, seeds=options.seeds)
    plan = select(tasks, text_entries(options), options.data)
    folders = {
        name: options.output / "models" / name for name, task in plan.tasks.items() if task.maker
    }
    return replace(plan, folders=folders, data=options.data, budget=budget)


def select(tasks: dict[str, TextTask], entries: dict[str, Entry], data: Path | None) -> TextPlan:
    """The tasks that are there, the entries that can run on them, and why others cannot."""
    from benchmarks.algorithms.building import why_absent
    from benchmarks.algorithms.text.training import why_left_out, why_not_on_text

    plan = TextPlan()
    for task_name, task in tasks.items():
        reason = why_left_out(task_name, task, data)
        if reason is not None:
            plan.cannot_run.append(reason)
            continue
        able = {}
        for name, entry in entries.items():
            reason = why_absent(entry.label, entry.algorithm, entry.needs)
            reason = reason or why_not_on_text(entry, task_name, task)
            if reason is None:
                able[name] = entry
            elif reason not in plan.cannot_run:
                plan.cannot_run.append(reason)
        if able:
            plan.tasks[task_name], plan.entries[task_name] = task, able
    return plan


def make_models(plan: TextPlan, workers: int) -> TextPlan:
    """Makes the models that are not there yet; the tasks of those that fail are dropped.

    Raises:
        OtherRunsError: One is there that was made with other settings.
    """
    from benchmarks.algorithms.dispatch import dispatch
    from benchmarks.algorithms.text.models import made_with

    jobs = []
    for name, folder in plan.folders.items():
        settings, settings_there = model_settings(plan, name), made_with(folder)
        if settings_there is None:
            task = plan.tasks[name]
            print(f"making the model of {name}", flush=True)
            jobs.append(
                {
                    "kind": "model",
                    "key": f"model/{name}",
                    "task_name": name,
                    "task": task,
                    "folder": folder,
                    "data": plan.data,
                    "settings": settings,
                }
            )
        elif settings_there != settings:
            raise OtherRunsError(
                f"{folder} holds a model that was made with other settings; choose another --output"
            )
    crashed = list(plan.crashed)
    for job, result in run_jobs(dispatch, jobs, workers):
        if result["status"] != "done":
            print(f"{job['key']}: CRASHED: {result['error']}", flush=True)
            crashed.append({"key": job["key"], "error": result["error"]})
    lost = {crash["key"].removeprefix("model/") for crash in crashed}
    return replace(
        plan,
        tasks={name: task for name, task in plan.tasks.items() if name not in lost},
        entries={name: able for name, able in plan.entries.items() if name not in lost},
        crashed=crashed,
    )


def model_settings(plan: TextPlan, name: str) -> str:
    """Fingerprint of what the model of a task is made of; `""` if it is not made."""
    task = plan.tasks[name]
    if not task.maker:
        return ""
    data = plan.data if task.needs_data else None
    digest = hashlib.sha256(data.read_bytes()).hexdigest() if data else ""
    return fingerprint("model", task.maker, task.maker_steps or 0, digest)


def text_jobs(plan: TextPlan) -> list[dict[str, Any]]:
    """Training on every task, seed by seed."""
    models = {name: model_settings(plan, name) for name in plan.tasks}
    budget = plan.budget
    return [
        {
            **text_job("text", entry, task, budget, models[task_name]),
            "key": f"text/{name}/{task_name}/{seed}",
            "algorithm": name,
            "task_name": task_name,
            "seed": seed,
            "folder": plan.folders.get(task_name),
        }
        for seed in range(budget.first_seed, budget.first_seed + budget.seeds)
        for task_name, task in plan.tasks.items()
        for name, entry in plan.entries[task_name].items()
    ]


def text_job(
    kind: str, entry: Entry, task: TextTask, budget: TextBudget, model: str
) -> dict[str, Any]:
    """What decides the result of a run on text, with its fingerprint; a job also has names.

    Args:
        kind: Kind of the work.
        entry: The algorithm and its arguments.
        task: Environment, model and number of tokens.
        budget: How often and on how many prompts it is evaluated.
        model: Fingerprint of the task's model, see `model_settings`.
    """
    return {
        "kind": kind,
        "settings": fingerprint(kind, entry, task, of_a_text_run(budget), model),
        "entry": entry,
        "task": task,
        "budget": budget,
    }
